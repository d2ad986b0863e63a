#include "textflag.h"

// SHA-512 of four messages at once, in the four lanes of AVX2's registers.
//
// Y0 to Y7 are the words a to h of the states, Y8 to Y13 are for what comes in
// between. R8 leads to the constants of the next 16 rounds. The stack has the last 16
// words of the message schedule, 32 bytes each.

// Bytes in the other order, in each word.
DATA swap512x4<>+0(SB)/8, $0x0001020304050607
DATA swap512x4<>+8(SB)/8, $0x08090a0b0c0d0e0f
DATA swap512x4<>+16(SB)/8, $0x0001020304050607
DATA swap512x4<>+24(SB)/8, $0x08090a0b0c0d0e0f
GLOBL swap512x4<>(SB), RODATA|NOPTR, $32

// Each word rotated right by a byte.
DATA rotate8<>+0(SB)/8, $0x0007060504030201
DATA rotate8<>+8(SB)/8, $0x080f0e0d0c0b0a09
DATA rotate8<>+16(SB)/8, $0x0007060504030201
DATA rotate8<>+24(SB)/8, $0x080f0e0d0c0b0a09
GLOBL rotate8<>(SB), RODATA|NOPTR, $32

// ROTATED sets to to x rotated right by r1, r2 and r3, XORed; l1 is 64-r1, and so on.
#define ROTATED(x, r1, l1, r2, l2, r3, l3, to) \
	VPSRLQ $r1, x, to; \
	VPSLLQ $l1, x, Y10; \
	VPSRLQ $r2, x, Y11; \
	VPSLLQ $l2, x, Y12; \
	VPXOR Y10, to, to; \
	VPSRLQ $r3, x, Y13; \
	VPXOR Y11, Y12, Y12; \
	VPSLLQ $l3, x, Y10; \
	VPXOR Y12, to, to; \
	VPXOR Y10, Y13, Y13; \
	VPXOR Y13, to, to

// ROUND is the i-th of 16 rounds. bc is b XOR c, left by the round before as ab.
#define ROUND(a, b, c, d, e, f, g, h, i, ab, bc) \
	VPBROADCASTQ (i*8)(R8), Y8; \
	VPADDQ (i*32)(SP), Y8, Y8; \
	VPADDQ Y8, h, h; \
	ROTATED(e, 14, 50, 18, 46, 41, 23, Y9); \
	VPXOR f, g, Y8; \
	VPADDQ Y9, h, h; \
	VPAND e, Y8, Y8; \
	VPXOR g, Y8, Y8; \
	VPADDQ Y8, h, h; \
	VPADDQ h, d, d; \
	ROTATED(a, 28, 36, 34, 30, 39, 25, Y9); \
	VPXOR a, b, ab; \
	VPADDQ Y9, h, h; \
	VPAND ab, bc, bc; \
	VPXOR b, bc, bc; \
	VPADDQ bc, h, h

// SCHEDULE makes the i-th of the next 16 words of the message schedule, of those at
// i1, i9 and i14: one, nine and fourteen places on, round and round.
#define SCHEDULE(i, i1, i9, i14) \
	VMOVDQU (i1*32)(SP), Y8; \
	VMOVDQU (i14*32)(SP), Y9; \
	VPSRLQ $1, Y8, Y10; \
	VPSLLQ $63, Y8, Y11; \
	VPSHUFB rotate8<>(SB), Y8, Y12; \
	VPSRLQ $7, Y8, Y8; \
	VPXOR Y10, Y11, Y11; \
	VPXOR Y12, Y8, Y8; \
	VPXOR Y11, Y8, Y8; \
	VPADDQ (i*32)(SP), Y8, Y8; \
	VPSRLQ $19, Y9, Y10; \
	VPSLLQ $45, Y9, Y11; \
	VPSRLQ $61, Y9, Y12; \
	VPSLLQ $3, Y9, Y13; \
	VPSRLQ $6, Y9, Y9; \
	VPXOR Y10, Y11, Y11; \
	VPXOR Y12, Y13, Y13; \
	VPADDQ (i9*32)(SP), Y8, Y8; \
	VPXOR Y11, Y9, Y9; \
	VPXOR Y13, Y9, Y9; \
	VPADDQ Y9, Y8, Y8; \
	VMOVDQU Y8, (i*32)(SP)

// LOAD takes four words of each message, from offset at, to the schedule from the i-th
// on: what is a row of one message is a column of the lanes.
#define LOAD(at, i) \
	VMOVDQU at(R10), Y8; \
	VMOVDQU at(R11), Y9; \
	VMOVDQU at(R12), Y10; \
	VMOVDQU at(R13), Y11; \
	VPSHUFB Y15, Y8, Y8; \
	VPSHUFB Y15, Y9, Y9; \
	VPSHUFB Y15, Y10, Y10; \
	VPSHUFB Y15, Y11, Y11; \
	VPUNPCKLQDQ Y9, Y8, Y12; \
	VPUNPCKHQDQ Y9, Y8, Y13; \
	VPUNPCKLQDQ Y11, Y10, Y8; \
	VPUNPCKHQDQ Y11, Y10, Y9; \
	VPERM2I128 $0x20, Y8, Y12, Y10; \
	VPERM2I128 $0x20, Y9, Y13, Y11; \
	VPERM2I128 $0x31, Y8, Y12, Y12; \
	VPERM2I128 $0x31, Y9, Y13, Y13; \
	VMOVDQU Y10, ((i+0)*32)(SP); \
	VMOVDQU Y11, ((i+1)*32)(SP); \
	VMOVDQU Y12, ((i+2)*32)(SP); \
	VMOVDQU Y13, ((i+3)*32)(SP)

// ADD adds a word of the states as they were.
#define ADD(word, at) \
	VPADDQ at(DI), word, word; \
	VMOVDQU word, at(DI)

// func add512x4(state *state512x4, from *[4]*byte, chunks int, constants *[80]uint64)
TEXT ·add512x4(SB), 0, $512-32
	MOVQ state+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ chunks+16(FP), CX
	MOVQ constants+24(FP), R9
	MOVQ 0(SI), R10
	MOVQ 8(SI), R11
	MOVQ 16(SI), R12
	MOVQ 24(SI), R13
	VMOVDQU 0(DI), Y0
	VMOVDQU 32(DI), Y1
	VMOVDQU 64(DI), Y2
	VMOVDQU 96(DI), Y3
	VMOVDQU 128(DI), Y4
	VMOVDQU 160(DI), Y5
	VMOVDQU 192(DI), Y6
	VMOVDQU 224(DI), Y7

chunk:
	VMOVDQU swap512x4<>(SB), Y15
	LOAD(0, 0)
	LOAD(32, 4)
	LOAD(64, 8)
	LOAD(96, 12)
	ADDQ $128, R10
	ADDQ $128, R11
	ADDQ $128, R12
	ADDQ $128, R13
	MOVQ R9, R8
	VPXOR Y1, Y2, Y15
	ROUND(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, 0, Y14, Y15)
	ROUND(Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y6, 1, Y15, Y14)
	ROUND(Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y5, 2, Y14, Y15)
	ROUND(Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y4, 3, Y15, Y14)
	ROUND(Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y3, 4, Y14, Y15)
	ROUND(Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y2, 5, Y15, Y14)
	ROUND(Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y1, 6, Y14, Y15)
	ROUND(Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y0, 7, Y15, Y14)
	ROUND(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, 8, Y14, Y15)
	ROUND(Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y6, 9, Y15, Y14)
	ROUND(Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y5, 10, Y14, Y15)
	ROUND(Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y4, 11, Y15, Y14)
	ROUND(Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y3, 12, Y14, Y15)
	ROUND(Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y2, 13, Y15, Y14)
	ROUND(Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y1, 14, Y14, Y15)
	ROUND(Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y0, 15, Y15, Y14)
	MOVQ $4, BX

rounds:
	ADDQ $128, R8
	SCHEDULE(0, 1, 9, 14)
	ROUND(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, 0, Y14, Y15)
	SCHEDULE(1, 2, 10, 15)
	ROUND(Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y6, 1, Y15, Y14)
	SCHEDULE(2, 3, 11, 0)
	ROUND(Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y5, 2, Y14, Y15)
	SCHEDULE(3, 4, 12, 1)
	ROUND(Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y4, 3, Y15, Y14)
	SCHEDULE(4, 5, 13, 2)
	ROUND(Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y3, 4, Y14, Y15)
	SCHEDULE(5, 6, 14, 3)
	ROUND(Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y2, 5, Y15, Y14)
	SCHEDULE(6, 7, 15, 4)
	ROUND(Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y1, 6, Y14, Y15)
	SCHEDULE(7, 8, 0, 5)
	ROUND(Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y0, 7, Y15, Y14)
	SCHEDULE(8, 9, 1, 6)
	ROUND(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, 8, Y14, Y15)
	SCHEDULE(9, 10, 2, 7)
	ROUND(Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y6, 9, Y15, Y14)
	SCHEDULE(10, 11, 3, 8)
	ROUND(Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y5, 10, Y14, Y15)
	SCHEDULE(11, 12, 4, 9)
	ROUND(Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y4, 11, Y15, Y14)
	SCHEDULE(12, 13, 5, 10)
	ROUND(Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y3, 12, Y14, Y15)
	SCHEDULE(13, 14, 6, 11)
	ROUND(Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y2, 13, Y15, Y14)
	SCHEDULE(14, 15, 7, 12)
	ROUND(Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y1, 14, Y14, Y15)
	SCHEDULE(15, 0, 8, 13)
	ROUND(Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y0, 15, Y15, Y14)
	DECQ BX
	JNZ rounds

	ADD(Y0, 0)
	ADD(Y1, 32)
	ADD(Y2, 64)
	ADD(Y3, 96)
	ADD(Y4, 128)
	ADD(Y5, 160)
	ADD(Y6, 192)
	ADD(Y7, 224)
	DECQ CX
	JNZ chunk

	VZEROUPPER
	RET
