package faults

import "golang.org/x/sys/unix"

const sysFstatat = unix.SYS_NEWFSTATAT

// What newer architectures have no calls of their own for.
func init() {
	for number, c := range map[int]call{
		unix.SYS_OPEN:     {"open", opens, path0},
		unix.SYS_CREAT:    {"creat", opens, path0},
		unix.SYS_STAT:     {"stat", looks, path0},
		unix.SYS_LSTAT:    {"lstat", looks, path0},
		unix.SYS_ACCESS:   {"access", looks, path0},
		unix.SYS_READLINK: {"readlink", looks, path0},
		unix.SYS_MKDIR:    {"mkdir", writes, path0},
		unix.SYS_RMDIR:    {"rmdir", writes, path0},
		unix.SYS_MKNOD:    {"mknod", writes, path0},
		unix.SYS_UNLINK:   {"unlink", writes, path0},
		unix.SYS_CHMOD:    {"chmod", writes, path0},
		unix.SYS_CHOWN:    {"chown", writes, path0},
		unix.SYS_LCHOWN:   {"lchown", writes, path0},
		unix.SYS_SYMLINK:  {"symlink", writes, []file{{-1, 1}}},
		unix.SYS_LINK:     {"link", writes, []file{{-1, 0}, {-1, 1}}},
		unix.SYS_RENAME:   {"rename", writes, []file{{-1, 0}, {-1, 1}}},
	} {
		calls[number] = c
	}
}
