package faults

import "golang.org/x/sys/unix"

// call is a system call that works on files.
type call struct {
	name  string
	kind  kind
	files []file // one of them has to be in the directory
}

type kind int

const (
	looks  kind = iota
	reads       // a file's content
	writes      // can need space
	opens       // can need space where there is no file yet
	closes      // what was written may turn out to be lost
)

// file tells where a call has the name of a file: in which argument the
// descriptor is, in which the path, -1 for none. A path alone is relative to the
// working directory, a descriptor alone is the file.
type file struct{ fd, path int }

var (
	fd0    = []file{{0, -1}}
	path0  = []file{{-1, 0}}
	at0    = []file{{0, 1}}
	source = []file{{0, -1}, {2, -1}} // from a descriptor to another
	pairs  = []file{{0, 1}, {2, 3}}
)

// calls are the system calls that are told of, by number. Locks are not among
// them: no disk fails them.
var calls = map[int]call{
	unix.SYS_READ:            {"read", reads, fd0},
	unix.SYS_PREAD64:         {"pread64", reads, fd0},
	unix.SYS_READV:           {"readv", reads, fd0},
	unix.SYS_PREADV:          {"preadv", reads, fd0},
	unix.SYS_GETDENTS64:      {"getdents64", looks, fd0},
	unix.SYS_FSTAT:           {"fstat", looks, fd0},
	unix.SYS_FGETXATTR:       {"fgetxattr", looks, fd0},
	unix.SYS_FLISTXATTR:      {"flistxattr", looks, fd0},
	unix.SYS_WRITE:           {"write", writes, fd0},
	unix.SYS_PWRITE64:        {"pwrite64", writes, fd0},
	unix.SYS_WRITEV:          {"writev", writes, fd0},
	unix.SYS_PWRITEV:         {"pwritev", writes, fd0},
	unix.SYS_FTRUNCATE:       {"ftruncate", writes, fd0},
	unix.SYS_FALLOCATE:       {"fallocate", writes, fd0},
	unix.SYS_FSYNC:           {"fsync", writes, fd0},
	unix.SYS_FDATASYNC:       {"fdatasync", writes, fd0},
	unix.SYS_SYNC_FILE_RANGE: {"sync_file_range", writes, fd0},
	unix.SYS_SYNCFS:          {"syncfs", writes, fd0},
	unix.SYS_FCHMOD:          {"fchmod", writes, fd0},
	unix.SYS_FCHOWN:          {"fchown", writes, fd0},
	unix.SYS_FSETXATTR:       {"fsetxattr", writes, fd0},
	unix.SYS_FREMOVEXATTR:    {"fremovexattr", writes, fd0},
	unix.SYS_CLOSE:           {"close", closes, fd0},
	unix.SYS_IOCTL:           {"ioctl", writes, fd0}, // FICLONE; others don't count
	unix.SYS_COPY_FILE_RANGE: {"copy_file_range", writes, source},
	unix.SYS_SPLICE:          {"splice", writes, source},
	unix.SYS_SENDFILE:        {"sendfile", writes, []file{{0, -1}, {1, -1}}},

	unix.SYS_OPENAT:     {"openat", opens, at0},
	unix.SYS_OPENAT2:    {"openat2", opens, at0},
	unix.SYS_READLINKAT: {"readlinkat", looks, at0},
	sysFstatat:          {"newfstatat", looks, at0},
	unix.SYS_STATX:      {"statx", looks, at0},
	unix.SYS_FACCESSAT:  {"faccessat", looks, at0},
	unix.SYS_FACCESSAT2: {"faccessat2", looks, at0},
	unix.SYS_MKDIRAT:    {"mkdirat", writes, at0},
	unix.SYS_MKNODAT:    {"mknodat", writes, at0},
	unix.SYS_UNLINKAT:   {"unlinkat", writes, at0},
	unix.SYS_FCHOWNAT:   {"fchownat", writes, at0},
	unix.SYS_FCHMODAT:   {"fchmodat", writes, at0},
	unix.SYS_FCHMODAT2:  {"fchmodat2", writes, at0},
	unix.SYS_UTIMENSAT:  {"utimensat", writes, at0},
	unix.SYS_SYMLINKAT:  {"symlinkat", writes, []file{{1, 2}}},
	unix.SYS_LINKAT:     {"linkat", writes, pairs},
	unix.SYS_RENAMEAT2:  {"renameat2", writes, pairs},
	unix.SYS_RENAMEAT:   {"renameat", writes, pairs},

	unix.SYS_STATFS:       {"statfs", looks, path0},
	unix.SYS_TRUNCATE:     {"truncate", writes, path0},
	unix.SYS_SETXATTR:     {"setxattr", writes, path0},
	unix.SYS_LSETXATTR:    {"lsetxattr", writes, path0},
	unix.SYS_GETXATTR:     {"getxattr", looks, path0},
	unix.SYS_LGETXATTR:    {"lgetxattr", looks, path0},
	unix.SYS_LISTXATTR:    {"listxattr", looks, path0},
	unix.SYS_LLISTXATTR:   {"llistxattr", looks, path0},
	unix.SYS_REMOVEXATTR:  {"removexattr", writes, path0},
	unix.SYS_LREMOVEXATTR: {"lremovexattr", writes, path0},
}
