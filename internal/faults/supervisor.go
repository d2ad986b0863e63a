package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif: a thread waits to be told what its call
// comes to.
type notification struct {
	id    uint64
	tid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	err   int32 // negative
	flags uint32
}

// addFile is struct seccomp_notif_addfd.
type addFile struct {
	id                      uint64
	flags                   uint32
	from, to, descriptorFlg uint32
}

// supervisor answers for the calls of a program.
type supervisor struct {
	fault     Fault
	listener  *os.File
	namespace string // our mount namespace
	insteadOf *os.File
	result    Result
}

func newSupervisor(f Fault, listener *os.File) *supervisor {
	namespace, _ := os.Readlink("/proc/self/ns/mnt")
	return &supervisor{fault: f, listener: listener, namespace: namespace}
}

// serve answers until no process is left that could ask.
func (s *supervisor) serve() (err error) {
	if s.insteadOf, err = os.Open(os.DevNull); err != nil {
		return err
	}
	defer s.insteadOf.Close()
	for {
		polled := []unix.PollFd{{Fd: int32(s.listener.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(polled, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for a call: %w", err)
		}
		switch {
		case polled[0].Revents&unix.POLLIN != 0:
			if err := s.answer(); err != nil {
				return fmt.Errorf("answering a call: %w", err)
			}
		case polled[0].Revents != 0:
			return nil
		}
	}
}

// answer answers one call. A thread that is gone needs none.
func (s *supervisor) answer() error {
	var n notification
	if err := s.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
		return ignoreGone(err)
	}
	r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if s.fails(&n) {
		r.flags, r.err = 0, -int32(s.fault.Err)
		if calls[int(n.nr)].kind == closes {
			// As close does it, which closes whatever it returns.
			add := addFile{id: n.id, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, from: uint32(s.insteadOf.Fd()), to: uint32(n.args[0])}
			if err := s.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&add)); err != nil {
				return ignoreGone(err)
			}
		}
	}
	return ignoreGone(s.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)))
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

func (s *supervisor) ioctl(request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, s.listener.Fd(), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

// fails counts a call, and tells whether it is to fail.
func (s *supervisor) fails(n *notification) bool {
	c := calls[int(n.nr)]
	path, ok := s.fileOf(n, c)
	if !ok || !s.counts(n, c, path) {
		return false
	}
	s.result.Calls = append(s.result.Calls, Call{c.name, path})
	at := len(s.result.Calls)
	if s.fault.At == 0 || at < s.fault.At || at > s.fault.At && !s.fault.Stays {
		return false
	}
	if s.result.Hit == (Call{}) {
		s.result.Hit = Call{c.name, path}
	}
	return true
}

// counts tells whether a call on a file in the directory can fail as it is to.
func (s *supervisor) counts(n *notification, c call, path string) bool {
	if c.name == "ioctl" && n.args[1] != unix.FICLONE {
		return false
	}
	if c.kind == closes && !isWritable(n) {
		return false
	}
	switch s.fault.Err {
	case 0:
		return c.kind == reads
	case unix.ENOSPC, unix.EDQUOT:
		if c.kind == opens {
			_, err := os.Lstat(fmt.Sprintf("/proc/%d/root%s", n.tid, path))
			return err != nil // it may make the file
		}
		return c.kind == writes
	}
	return true
}

// isWritable tells whether a descriptor is of a file that was opened to write.
func isWritable(n *notification) bool {
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", n.tid, int32(n.args[0])))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(info, []byte("flags:"))
	var flags int
	_, err = fmt.Sscanf(string(rest), "%o", &flags)
	return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY && flags&unix.O_PATH == 0
}

// fileOf returns the file of a call that is in the directory.
func (s *supervisor) fileOf(n *notification, c call) (string, bool) {
	foreign := false
	if namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", n.tid)); err == nil {
		foreign = namespace != s.namespace
	}
	if foreign && !s.fault.Chroots {
		return "", false
	}
	files := c.files
	if c.name == "ioctl" {
		files = []file{{0, -1}, {2, -1}}
	}
	for _, f := range files {
		path := pathOf(n, f)
		switch {
		case !strings.HasPrefix(path, "/"), strings.HasPrefix(path, "/memfd:"): // pipes, sockets, memory
		case foreign:
			if !strings.HasPrefix(path, "/proc/") && !strings.HasPrefix(path, "/dev/") && !strings.HasPrefix(path, "/sys/") {
				return path, true
			}
		case strings.HasPrefix(path+"/", s.fault.Dir+"/"):
			return path, true
		}
	}
	return "", false
}

// pathOf returns the path of a file that a call names, "" if that can't be told.
func pathOf(n *notification, f file) string {
	process := fmt.Sprintf("/proc/%d/", n.tid)
	base := process + "cwd"
	if f.fd >= 0 && int32(n.args[f.fd]) != unix.AT_FDCWD {
		base = fmt.Sprintf("%sfd/%d", process, int32(n.args[f.fd]))
	}
	path := ""
	if f.path >= 0 && n.args[f.path] != 0 {
		path = stringAt(n.tid, n.args[f.path])
	}
	// A descriptor by its name in /proc.
	for _, self := range []string{"/proc/self/", "/proc/thread-self/"} {
		if rest, ok := strings.CutPrefix(path, self+"fd/"); ok {
			fd, below, _ := strings.Cut(rest, "/")
			base, path = process+"fd/"+fd, below
		}
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	dir, err := os.Readlink(base)
	if err != nil {
		return ""
	}
	return filepath.Join(dir, path)
}

// stringAt returns the string at an address of another process.
func stringAt(tid uint32, address uint64) string {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return ""
	}
	defer memory.Close()
	buffer := make([]byte, unix.PathMax)
	n, _ := memory.ReadAt(buffer, int64(address)) // may end where memory does
	text, _, _ := bytes.Cut(buffer[:n], []byte{0})
	return string(text)
}
