package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

// The rows of what checking a repository is compared with.
const (
	rowVerity      = "verity"
	rowBothHashes  = "verity-sha256"
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
	g.addRow(rowVerity, "open, read and fs-verity of the objects, on all cores").Limit = true
	g.addRow(rowBothHashes, "the same, and SHA-256 of each").Limit = true
	g.addRow(rowVerify, "skopeo-cfs verify")
	g.addRow(rowVerifyTwice, "the same of an image of twice the size")
	g.addRow(rowVerifyMany, "the same of many files ("+(&Group{Files: many.Files, Bytes: many.Bytes, Layers: many.Layers}).size()+")")
	type way struct {
		row   string
		lines commands
	}
	ways := []way{
		{rowVerity, one(b.self, "hash-objects", path("verify"), "verity")},
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
		atLeast("verify: speed against open, read and fs-verity of the objects", 1/g.find(rowVerify).Ratio, 0.8, "×"),
		atMost("verify: peak memory for twice the size", g.growth(rowVerifyTwice, rowVerify), 1.1, "×"),
	)
	if lookErr == nil {
		seconds := func(r Run) float64 { return r.Seconds }
		results.Goals = append(results.Goals,
			atLeast("verify: speed against cfsctl fsck", ratio(g.find(rowFsck).Runs, g.find(rowVerify).Runs, seconds), 1, "×"))
	}
	return nil
}

// hashObjectsPart reads the objects of a repository and hashes them, on all cores: what
// anybody has to do at the least who checks them against their names; with "both", also
// for what is not their names.
func hashObjectsPart(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("hash-objects: want PATH and verity or both")
	}
	files, err := filepath.Glob(filepath.Join(args[0], "objects/??/*"))
	if err != nil {
		return err
	}
	queue := make(chan string, 64)
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		hasher, buffer := fsverity.NewHasher(fsverity.SHA512), make([]byte, 256<<10)
		var hashes io.Writer = hasher
		var sum hash.Hash
		if args[1] == "both" {
			sum = sha256.New()
			hashes = io.MultiWriter(hasher, sum)
		}
		group.Go(func() error {
			for path := range queue {
				if err := readObject(hashes, path, buffer); err != nil {
					return err
				}
				if name := filepath.Base(filepath.Dir(path)) + filepath.Base(path); hasher.Sum().String() != name {
					return fmt.Errorf("%s has another digest", strings.TrimPrefix(path, args[0]))
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
