package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/types"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
)

// arrival is the way of an image to a destination that is a file or a directory.
// Where there is nothing at the destination's path, the image is copied into a
// sibling, a hidden directory beside it that this process has made, and moved
// into place when it is complete. So a copy that fails can remove all that it
// made, and nothing that another process has put at the destination meanwhile.
//
// Where there is something at the path, the image is written in place, and a copy
// that fails removes nothing.
type arrival struct {
	// to is the reference to copy to.
	to types.ImageReference

	final   types.ImageReference // what the user has named
	path    string               // of final; "" if the image is written in place
	sibling *sibling             // nil if the image is written in place
}

// startArrival prepares a copy to dest. It removes the siblings that killed
// copies to the same path have left. The caller calls end.
func startArrival(dest types.ImageReference) (*arrival, error) {
	a := &arrival{to: dest, final: dest}
	path, rest := localPath(dest)
	if path == "" {
		return a, nil
	}
	removeOrphans(path)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	s, err := newSibling(path)
	if err != nil {
		// Then there can be no file at the path either, for a reason that the
		// library has its own words for.
		logrus.Debugf("Writing to %s in place: %v", path, err)
		return a, nil
	}
	to, err := dest.Transport().ParseReference(s.image() + rest)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copying beside %s: %w", path, err), s.remove())
	}
	a.to, a.path, a.sibling = to, path, s
	return a, nil
}

// localPath returns the path of a destination that is a file or a directory, and
// what follows the path in the reference; "" for other destinations.
func localPath(dest types.ImageReference) (path, rest string) {
	text := dest.StringWithinTransport()
	switch dest.Transport().Name() {
	case "dir":
		return text, ""
	case "oci", "oci-archive", "docker-archive":
		path, _, _ = strings.Cut(text, ":")
		return path, text[len(path):]
	}
	return "", ""
}

// end moves the image into place if the copy to a.to has succeeded, which is when
// copyErr is nil, and else removes what the copy has made. Options are those of
// the copy.
func (a *arrival) end(ctx context.Context, copyErr error, options *copy.Options) error {
	if a.sibling == nil {
		return copyErr
	}
	err := copyErr
	if err == nil {
		err = a.settle(ctx, options)
	}
	if removeErr := a.sibling.remove(); removeErr != nil {
		logrus.Warn(removeErr) // whether the copy has failed is another question
	}
	return err
}

// settle brings the complete image to its place. Where another process has made
// something there meanwhile, it is treated as if it had been there at the start:
// the library adds the image to an OCI layout, overwrites another directory or
// OCI archive, and refuses to change a Docker archive.
func (a *arrival) settle(ctx context.Context, options *copy.Options) error {
	err := moveNew(a.sibling.image(), a.path)
	if !isTaken(err) {
		return err
	}
	logrus.Debugf("Writing to %s in place: %v", a.path, err)
	if a.final.Transport().Name() == "oci" {
		a.sibling.shareBlobs(a.path)
	}
	policy, err := sources.AcceptAll() // it is our own
	if err != nil {
		return err
	}
	defer policy.Destroy()
	_, err = copy.Image(ctx, policy, a.final, a.to, &copy.Options{
		SourceCtx:            options.DestinationCtx,
		DestinationCtx:       options.DestinationCtx,
		PreserveDigests:      a.final.Transport().Name() != "docker-archive", // has no digest of its own
		DestinationTimestamp: options.DestinationTimestamp,
	})
	return err
}

// moveNew moves a file or a directory to a path where there is nothing. The error
// is one that isTaken knows where there is something.
func moveNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		err = moveNewAnywhere(from, to)
	case err != nil:
		err = &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return err
}

// moveNewAnywhere is moveNew for filesystems that have no rename which replaces
// nothing, as NFS: a link is made only where there is nothing, and a directory can
// replace no more than an empty one.
func moveNewAnywhere(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.Rename(from, to)
	}
	return os.Link(from, to) // the other name goes with the sibling
}

// isTaken tells whether moveNew found something where nothing should be, or can't
// move anything there.
func isTaken(err error) bool {
	for _, errno := range []error{unix.EEXIST, unix.ENOTEMPTY, unix.ENOTDIR, unix.EISDIR, unix.EXDEV} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// sibling is a directory beside a path, made by this process, in which the image
// for the path is made. It is locked as long as this process lives.
type sibling struct {
	path string
	lock *os.File
}

// newSibling makes and locks a sibling of path.
func newSibling(path string) (*sibling, error) {
	for {
		at := siblingPrefix(path) + bootID() + "-" + hex.EncodeToString(randomBytes())
		if err := os.Mkdir(at, 0o700); err != nil {
			return nil, err
		}
		lock, err := lockSibling(at)
		if err == nil {
			return &sibling{at, lock}, nil
		}
		// Until it was locked it may have been taken for an orphan.
		if !errors.Is(err, errOtherOwner) {
			return nil, errors.Join(err, os.Remove(at))
		}
	}
}

// maxSiblingName is the longest name of a file that a sibling's name is made of as
// it is. The rest takes 62 bytes of the 255 that a name may have.
const maxSiblingName = 190

// siblingPrefix returns what the paths of all siblings of path begin with. The ID
// of the boot and a random number follow.
func siblingPrefix(path string) string {
	name := filepath.Base(path)
	if len(name) > maxSiblingName {
		sum := sha256.Sum256([]byte(name))
		name = name[:maxSiblingName-2*len(sum)] + hex.EncodeToString(sum[:])
	}
	return filepath.Join(filepath.Dir(path), "."+name+".skopeo-cfs-")
}

func randomBytes() []byte {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return b
}

// bootID returns the ID of the running kernel, as 32 hex digits; zeros if it can't
// be had, which is the ID of none.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	id := strings.ReplaceAll(strings.TrimSpace(string(data)), "-", "")
	if _, decodeErr := hex.DecodeString(id); err != nil || decodeErr != nil || len(id) != 32 {
		return noBootID
	}
	return id
}

const noBootID = "00000000000000000000000000000000"

// errOtherOwner: a sibling belongs to another process, or is gone.
var errOtherOwner = errors.New("another process has it")

// lockSibling opens and locks the directory at a path. The error wraps
// errOtherOwner where another process has locked it, or has removed it.
func lockSibling(at string) (*os.File, error) {
	f, err := os.OpenFile(at, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", at, errOtherOwner)
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("locking %s: %w", at, errOtherOwner)
	case err != nil:
		// Nobody else can lock it either, so nobody takes it for an orphan.
		logrus.Debugf("Locking %s: %v", at, err)
		err = nil
	}
	if err == nil && !isAt(f, at) {
		err = fmt.Errorf("%s: %w", at, errOtherOwner)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// isAt tells whether an open file is still the one at a path.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(opened, there)
}

// image returns the path at which the image is made.
func (s *sibling) image() string { return filepath.Join(s.path, "image") }

// remove removes the sibling with all that is in it.
func (s *sibling) remove() error {
	defer s.lock.Close()
	if err := os.RemoveAll(s.path); err != nil {
		return fmt.Errorf("removing what the copy has left: %w", err)
	}
	return nil
}

// shareBlobs gives the OCI layout at a path those blobs of the sibling's that it
// lacks, so that adding the image to its index, which others may be about to
// change, takes no time. What can't be linked is copied later.
func (s *sibling) shareBlobs(layout string) {
	blobs, err := fs.Glob(os.DirFS(s.image()), "blobs/*/*")
	if err != nil {
		return
	}
	for _, blob := range blobs {
		to := filepath.Join(layout, blob)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return
		}
		_ = os.Link(filepath.Join(s.image(), blob), to)
	}
}

// siblingName is what follows the prefix in a sibling's name.
var siblingName = regexp.MustCompile(`^([0-9a-f]{32})-[0-9a-f]{16}$`)

// removeOrphans removes the siblings of path whose owner is dead: those that were
// made since this kernel has booted and that nobody has locked. What others may be
// using by way of a network is not touched: their locks may not be seen here.
func removeOrphans(path string) {
	prefix := siblingPrefix(path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	boot := bootID()
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), filepath.Base(prefix))
		m := siblingName.FindStringSubmatch(name)
		if !ok || m == nil || m[1] != boot || boot == noBootID {
			continue
		}
		at := filepath.Join(filepath.Dir(path), e.Name())
		if err := removeOrphan(at); err != nil && !errors.Is(err, errOtherOwner) {
			logrus.Debugf("Removing what a killed copy has left: %v", err)
		}
	}
}

// removeOrphan removes the sibling at a path if it is this user's and nobody has
// locked it.
func removeOrphan(at string) error {
	f, err := os.OpenFile(at, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s: %w", at, errOtherOwner)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("locking %s: %w", at, err)
	}
	if !isAt(f, at) {
		return fmt.Errorf("%s: %w", at, errOtherOwner)
	}
	return os.RemoveAll(at)
}
