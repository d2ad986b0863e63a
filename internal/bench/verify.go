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
	rowVerity256   = "verity-sha256"
	rowVerify256   = "verify-sha256"
	rowFsck        = "cfsctl-fsck"
	rowFsck256     = "cfsctl-fsck-sha256"
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
	for name, is := range map[string]struct {
		spec      genimage.Spec
		algorithm fsverity.Algorithm
	}{
		"verify":        {b.spec, fsverity.SHA512},
		"verify-twice":  {twice(b.spec), fsverity.SHA512},
		"verify-many":   {many, fsverity.SHA512},
		"verify-sha256": {b.spec, fsverity.SHA256},
	} {
		r, err := b.generateBy(ctx, name, is.spec, is.algorithm)
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
	g.addRow(rowVerity256, "open, read and fs-verity of the objects, with crypto/sha256, where SHA-256 names them").Limit = true
	g.addRow(rowVerify256, "skopeo-cfs verify of that repository")
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
		{rowVerity256, one(b.self, "hash-objects", path("verify-sha256"), "plain")},
		{rowVerify256, one(b.command, "verify", "--repository", path("verify-sha256"))},
	}
	cfsctl, lookErr := exec.LookPath("cfsctl")
	if lookErr == nil {
		g.addRow(rowFsck, "cfsctl fsck")
		g.addRow(rowOCIFsck, "cfsctl oci fsck")
		g.addRow(rowFsck256, "cfsctl fsck of the repository with SHA-256")
		ways = append(ways,
			way{rowFsck, one(cfsctl, "--repo", path("verify"), "fsck")},
			way{rowOCIFsck, one(cfsctl, "--repo", path("verify"), "oci", "fsck")},
			way{rowFsck256, one(cfsctl, "--repo", path("verify-sha256"), "fsck")})
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
	seconds := func(r Run) float64 { return r.Seconds }
	faster := func(row, than string) float64 { return ratio(g.find(than).Runs, g.find(row).Runs, seconds) }
	results.Goals = append(results.Goals,
		atLeast("verify: speed against open, read and fs-verity, with crypto/sha512, of the objects", faster(rowVerify, rowVerity), 0.8, "×"),
		atLeast("the same with SHA-256", faster(rowVerify256, rowVerity256), 0.8, "×"),
		atMost("verify: peak memory for twice the size", g.growth(rowVerifyTwice, rowVerify), 1.1, "×"),
	)
	if lookErr == nil {
		results.Goals = append(results.Goals,
			atLeast("verify: speed against cfsctl fsck", faster(rowVerify, rowFsck), 1, "×"),
			atLeast("the same with SHA-256", faster(rowVerify256, rowFsck256), 1, "×"))
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
	if len(files) == 0 {
		return fmt.Errorf("%s has no objects", args[0])
	}
	algorithm := fsverity.SHA512
	if len(filepath.Base(files[0])) < 2*sha512.Size-2 {
		algorithm = fsverity.SHA256
	}
	for range runtime.GOMAXPROCS(0) {
		hasher := newHasher(args[1], algorithm)
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

func newHasher(kind string, algorithm fsverity.Algorithm) objectHasher {
	switch kind {
	case "own":
		return ownHasher{fsverity.NewHasher(algorithm)}
	case "both":
		return bothHasher{ownHasher{fsverity.NewHasher(algorithm)}, sha256.New()}
	}
	return &plainHasher{algorithm: algorithm}
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

// plainHasher computes fs-verity's digests as its documentation has them.
type plainHasher struct {
	algorithm     fsverity.Algorithm
	block, hashes []byte // of the data, what does not fill one yet
	size          int
}

const verityBlock = 4096

// appendHash appends the hash of p, by the functions that need no allocation.
func (h *plainHasher) appendHash(to, p []byte) []byte {
	if h.algorithm.Size() == sha256.Size {
		sum := sha256.Sum256(p)
		return append(to, sum[:]...)
	}
	sum := sha512.Sum512(p)
	return append(to, sum[:]...)
}

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
			h.hashes = h.appendHash(h.hashes, block)
			h.block = h.block[:0]
		}
	}
	return len(p), nil
}

func (h *plainHasher) sum() string {
	var descriptor [256]byte
	descriptor[0], descriptor[1], descriptor[2] = 1, h.algorithm.HashNumber(), 12
	binary.LittleEndian.PutUint64(descriptor[8:], uint64(h.size))
	if len(h.block) > 0 {
		_, _ = h.Write(make([]byte, verityBlock-len(h.block)))
	}
	level := h.hashes
	for len(level) > h.algorithm.Size() {
		var above []byte
		for block := range slices.Chunk(append(level, make([]byte, -len(level)&(verityBlock-1))...), verityBlock) {
			above = h.appendHash(above, block)
		}
		level = above
	}
	copy(descriptor[16:], level)
	sum := h.appendHash(nil, descriptor[:])
	*h = plainHasher{h.algorithm, h.block[:0], h.hashes[:0], 0}
	return fmt.Sprintf("%x", sum)
}
