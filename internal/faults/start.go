package faults

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/containers/storage/pkg/reexec"
	"golang.org/x/sys/unix"
)

// startName is the name under which this program starts itself to become the
// program that is to be run.
const startName = "faults-start"

func init() { reexec.Register(startName, start) }

// start asks the kernel to tell of the calls, hands whoever started it the file
// that they are read from, and becomes the program: arguments are its path and
// its own arguments.
func start() {
	runtime.LockOSThread() // a filter is a thread's, and of what that executes
	err := func() error {
		listener, err := installFilter()
		if err != nil {
			return fmt.Errorf("asking the kernel to tell of calls: %w", err)
		}
		const socket = 3 // the first of ExtraFiles
		unix.CloseOnExec(socket)
		if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
			return fmt.Errorf("handing on what the kernel tells: %w", err)
		}
		return syscall.Exec(os.Args[1], os.Args[2:], os.Environ())
	}()
	fmt.Fprintln(os.Stderr, "faults:", err)
	os.Exit(1)
}

// installFilter has the kernel tell of the calls in the table, and returns the
// file that they are read from.
func installFilter() (listener int, err error) {
	const numberAt = 0 // in struct seccomp_data
	var filter []unix.SockFilter
	filter = append(filter, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: numberAt})
	left := len(calls)
	for number := range calls {
		// Where it is this one, to the last instruction.
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(left), K: uint32(number)})
		left--
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Not to be interrupted, else a call might be told of twice.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// receiveFile receives the file that start sends.
func receiveFile(socket *os.File) (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("the program has not begun")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "listener"), nil
}
