#include "textflag.h"

// SHA-256 of two messages at once, by the processor's instructions for it: each waits
// for the one before of its own message, and leaves room for the other's.
//
// The words of a state are in two registers, as SHA256RNDS2 has them: those called f, e,
// b, a and h, g, d, c. X1, X2 and X7, X8 are the states, X3 to X6 and X9 to X12 the
// last 16 words of the message schedules. X0 is the operand that SHA256RNDS2 does not
// name.

// Bytes in the other order, in each word.
DATA swap256<>+0(SB)/8, $0x0405060700010203
DATA swap256<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap256<>(SB), RODATA|NOPTR, $16

// LOAD reads four words of the messages.
#define LOAD(i, a, b) \
	MOVOU (i*16)(SI), a; \
	MOVOU (i*16)(DI), b; \
	PSHUFB X14, a; \
	PSHUFB X14, b

// ROUNDS is four rounds of both messages, the i-th of 16 times, with the words a and b.
#define ROUNDS(i, a, b) \
	MOVOU (i*16)(R8), X0; \
	MOVO X0, X13; \
	PADDD a, X0; \
	PADDD b, X13; \
	SHA256RNDS2 X0, X1, X2; \
	PSHUFD $0x0e, X0, X15; \
	MOVO X13, X0; \
	SHA256RNDS2 X0, X7, X8; \
	PSHUFD $0x0e, X0, X13; \
	MOVO X15, X0; \
	SHA256RNDS2 X0, X2, X1; \
	MOVO X13, X0; \
	SHA256RNDS2 X0, X8, X7

// NEXT completes the next four words of a schedule, of which next has a part; last are
// the words before those of now.
#define NEXT(now, last, next) \
	MOVO now, X15; \
	PALIGNR $4, last, X15; \
	PADDD X15, next; \
	SHA256MSG2 now, next

// func add256x2(state *state256x2, from *[2]*byte, chunks int, constants *[64]uint32)
TEXT ·add256x2(SB), NOSPLIT, $64-32
	MOVQ state+0(FP), AX
	MOVQ from+8(FP), BX
	MOVQ chunks+16(FP), CX
	MOVQ constants+24(FP), R8
	MOVQ 0(BX), SI
	MOVQ 8(BX), DI
	MOVOU swap256<>(SB), X14
	MOVOU 0(AX), X1
	MOVOU 16(AX), X2
	MOVOU 32(AX), X7
	MOVOU 48(AX), X8

next:
	MOVOU X1, 0(SP)
	MOVOU X2, 16(SP)
	MOVOU X7, 32(SP)
	MOVOU X8, 48(SP)

	LOAD(0, X3, X9)
	ROUNDS(0, X3, X9)

	LOAD(1, X4, X10)
	ROUNDS(1, X4, X10)
	SHA256MSG1 X4, X3
	SHA256MSG1 X10, X9

	LOAD(2, X5, X11)
	ROUNDS(2, X5, X11)
	SHA256MSG1 X5, X4
	SHA256MSG1 X11, X10

	LOAD(3, X6, X12)
	ROUNDS(3, X6, X12)
	NEXT(X6, X5, X3)
	NEXT(X12, X11, X9)
	SHA256MSG1 X6, X5
	SHA256MSG1 X12, X11

	ROUNDS(4, X3, X9)
	NEXT(X3, X6, X4)
	NEXT(X9, X12, X10)
	SHA256MSG1 X3, X6
	SHA256MSG1 X9, X12

	ROUNDS(5, X4, X10)
	NEXT(X4, X3, X5)
	NEXT(X10, X9, X11)
	SHA256MSG1 X4, X3
	SHA256MSG1 X10, X9

	ROUNDS(6, X5, X11)
	NEXT(X5, X4, X6)
	NEXT(X11, X10, X12)
	SHA256MSG1 X5, X4
	SHA256MSG1 X11, X10

	ROUNDS(7, X6, X12)
	NEXT(X6, X5, X3)
	NEXT(X12, X11, X9)
	SHA256MSG1 X6, X5
	SHA256MSG1 X12, X11

	ROUNDS(8, X3, X9)
	NEXT(X3, X6, X4)
	NEXT(X9, X12, X10)
	SHA256MSG1 X3, X6
	SHA256MSG1 X9, X12

	ROUNDS(9, X4, X10)
	NEXT(X4, X3, X5)
	NEXT(X10, X9, X11)
	SHA256MSG1 X4, X3
	SHA256MSG1 X10, X9

	ROUNDS(10, X5, X11)
	NEXT(X5, X4, X6)
	NEXT(X11, X10, X12)
	SHA256MSG1 X5, X4
	SHA256MSG1 X11, X10

	ROUNDS(11, X6, X12)
	NEXT(X6, X5, X3)
	NEXT(X12, X11, X9)
	SHA256MSG1 X6, X5
	SHA256MSG1 X12, X11

	ROUNDS(12, X3, X9)
	NEXT(X3, X6, X4)
	NEXT(X9, X12, X10)
	SHA256MSG1 X3, X6
	SHA256MSG1 X9, X12

	ROUNDS(13, X4, X10)
	NEXT(X4, X3, X5)
	NEXT(X10, X9, X11)

	ROUNDS(14, X5, X11)
	NEXT(X5, X4, X6)
	NEXT(X11, X10, X12)

	ROUNDS(15, X6, X12)

	MOVOU 0(SP), X0
	MOVOU 16(SP), X13
	MOVOU 32(SP), X15
	PADDD X0, X1
	PADDD X13, X2
	PADDD X15, X7
	MOVOU 48(SP), X0
	PADDD X0, X8
	ADDQ $64, SI
	ADDQ $64, DI
	DECQ CX
	JNZ next

	MOVOU X1, 0(AX)
	MOVOU X2, 16(AX)
	MOVOU X7, 32(AX)
	MOVOU X8, 48(AX)
	RET

// func hasSHA() bool
TEXT ·hasSHA(SB), NOSPLIT, $0-1
	MOVB $0, ret+0(FP)
	XORL AX, AX
	CPUID
	CMPL AX, $7
	JLT done
	MOVL $7, AX
	XORL CX, CX
	CPUID
	SHRL $29, BX
	ANDL $1, BX
	MOVB BX, ret+0(FP)

done:
	RET
