package main

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

// The rows of what checking a repository is compared with.
const (
	rowVerity      = "verity"
	rowOwnVerity   = "own-verity"
	rowBothHashes  = "own-verity-sha256"
	rowVerify      = "verify"
	rowVerifyTwice = "verify-twice"
	rowVerifyMany  = "verify-many"
	rowFsck        = "cfsctl-fsck"
	rowOCIFsck     = "cfsctl-oci-fsck"
)

// verify measures how fast repositories are checked.
func (b *bench) verify(ctx context.Context, results *Results) (err error) {
	var repositories []repository
	defer func() {
		for _, r := range repositories {
			err = errors.Join(err, r.remove())
		}
	}()
	many := genimage.Spec{Files: b.many, Bytes: int64(b.many) * bytesAFile, Layers: b.spec.Layers}
	for name, spec := range map[string]genimage.Spec{"verify": b.spec, "verify-twice": twice(b.spec), "verify-many": many} {
		r, err := b.generate(ctx, name, spec)
		if err != nil {
			return err
		}
		repositories = append(repositories, r)
	}
	path := func(name string) string { return filepath.Join(b.disk.path, name) }

	g := newGroup("Checking a repository", b.spec, rowVerity)
	g.addRow(rowVerity, "open, read and fs-verity of the objects, with crypto/sha512, on all cores").Limit = true
	g.addRow(rowOwnVerity, "the same with skopeo-cfs's fs-verity").Limit = true
	g.addRow(rowBothHashes, "and with SHA-256 of each, too").Limit = true
	g.addRow(rowVerify, "skopeo-cfs verify")
	g.addRow(rowVerifyTwice, "the same of an image of twice the size")
	g.addRow(rowVerifyMany, "the same of many files ("+(&Group{Files: many.Files, Bytes: many.Bytes, Layers: many.Layers}).size()+")")
	type way struct {
		row   string
		lines commands
	}
	ways := []way{
		{rowVerity, one(b.self, "hash-objects", path("verify"), "plain")},
		{rowOwnVerity, one(b.self, "hash-objects", path("verify"), "own")},
		{rowBothHashes, one(b.self, "hash-objects", path("verify"), "both")},
		{rowVerify, one(b.command, "verify", "--repository", path("verify"))},
		{rowVerifyTwice, one(b.command, "verify", "--repository", path("verify-twice"))},
		{rowVerifyMany, one(b.command, "verify", "--repository", path("verify-many"))},
	}
	cfsctl, lookErr := exec.LookPath("cfsctl")
	if lookErr == nil {
		g.addRow(rowFsck, "cfsctl fsck")
		g.addRow(rowOCIFsck, "cfsctl oci fsck")
		ways = append(ways,
			way{rowFsck, one(cfsctl, "--repo", path("verify"), "fsck")},
			way{rowOCIFsck, one(cfsctl, "--repo", path("verify"), "oci", "fsck")})
	} else {
		say("no cfsctl to compare with: %v", lookErr)
	}
	results.Verify = g
	for i := range b.runs {
		say("verify: run %d of %d", i+1, b.runs)
		for _, w := range ways {
			run, err := b.measure(ctx, w.lines)
			if err != nil {
				return err
			}
			g.add(w.row, run)
		}
	}
	g.summarise()
	results.Goals = append(results.Goals,
		atLeast("verify: speed against open, read and fs-verity, with crypto/sha512, of the objects", 1/g.find(rowVerify).Ratio, 0.8, "×"),
		atMost("verify: peak memory for twice the size", g.growth(rowVerifyTwice, rowVerify), 1.1, "×"),
	)
	if lookErr == nil {
		seconds := func(r Run) float64 { return r.Seconds }
		results.Goals = append(results.Goals,
			atLeast("verify: speed against cfsctl fsck", ratio(g.find(rowFsck).Runs, g.find(rowVerify).Runs, seconds), 1, "×"))
	}
	return nil
}

// hashObjectsPart reads the objects of a repository and compares their names with their
// digests, on all cores: what anybody has to do at the least who checks them. Those are
// computed as anybody would; with "own" by the package that skopeo-cfs has for it; with
// "both", also SHA-256, for what is not their names.
func hashObjectsPart(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("hash-objects: want PATH and plain, own or both")
	}
	files, err := filepath.Glob(filepath.Join(args[0], "objects/??/*"))
	if err != nil {
		return err
	}
	queue := make(chan string, 64)
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		hasher := newHasher(args[1])
		buffer := make([]byte, 256<<10)
		group.Go(func() error {
			for path := range queue {
				if err := readObject(hasher, path, buffer); err != nil {
					return err
				}
				if name := filepath.Base(filepath.Dir(path)) + filepath.Base(path); hasher.sum() != name {
					return fmt.Errorf("%s has another digest", path)
				}
			}
			return nil
		})
	}
	for _, path := range files {
		select {
		case queue <- path:
		case <-ctx.Done():
		}
	}
	close(queue)
	return group.Wait()
}

// objectHasher computes the digest that is an object's name.
type objectHasher interface {
	io.Writer
	sum() string // and begins anew
}

func newHasher(kind string) objectHasher {
	switch kind {
	case "own":
		return ownHasher{fsverity.NewHasher(fsverity.SHA512)}
	case "both":
		return bothHasher{ownHasher{fsverity.NewHasher(fsverity.SHA512)}, sha256.New()}
	}
	return &plainHasher{}
}

type ownHasher struct{ *fsverity.Hasher }

func (h ownHasher) sum() string { return h.Sum().String() }

type bothHasher struct {
	ownHasher
	other hash.Hash
}

func (h bothHasher) Write(p []byte) (int, error) {
	h.other.Write(p)
	return h.ownHasher.Write(p)
}

// plainHasher computes fs-verity's digests with SHA-512 as its documentation has them.
type plainHasher struct {
	block, hashes []byte // of the data, what does not fill one yet
	size          int
}

const verityBlock = 4096

// Write implements io.Writer.
func (h *plainHasher) Write(p []byte) (int, error) {
	h.size += len(p)
	for rest := p; len(rest) > 0; {
		n := min(len(rest), verityBlock-len(h.block))
		block := rest[:n]
		if n < verityBlock {
			h.block = append(h.block, block...)
			block = h.block
		}
		if rest = rest[n:]; len(block) == verityBlock {
			sum := sha512.Sum512(block)
			h.hashes = append(h.hashes, sum[:]...)
			h.block = h.block[:0]
		}
	}
	return len(p), nil
}

func (h *plainHasher) sum() string {
	var descriptor [256]byte
	descriptor[0], descriptor[1], descriptor[2] = 1, 2, 12
	binary.LittleEndian.PutUint64(descriptor[8:], uint64(h.size))
	if len(h.block) > 0 {
		_, _ = h.Write(make([]byte, verityBlock-len(h.block)))
	}
	level := h.hashes
	for len(level) > sha512.Size {
		var above []byte
		for block := range slices.Chunk(append(level, make([]byte, -len(level)&(verityBlock-1))...), verityBlock) {
			sum := sha512.Sum512(block)
			above = append(above, sum[:]...)
		}
		level = above
	}
	copy(descriptor[16:], level)
	*h = plainHasher{h.block[:0], h.hashes[:0], 0}
	return fmt.Sprintf("%x", sha512.Sum512(descriptor[:]))
}
