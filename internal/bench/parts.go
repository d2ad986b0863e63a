package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// parts are what this program does as one of the processes that are measured, or
// that must not make it larger than those: a process's peak memory begins with
// what the one that starts it has.
var parts = map[string]func(ctx context.Context, args []string) error{
	"generate":      generatePart,
	"generate-pair": generatePairPart,
	"read-layers":   readLayersPart,
	"read-objects":  readObjectsPart,
	"hash-layers":   hashLayersPart,
	"hash-objects":  hashObjectsPart,
	"rearchive":     rearchivePart,
}

// generatePart makes a repository: PATH FILES BYTES LAYERS ALGORITHM.
func generatePart(ctx context.Context, args []string) error {
	if len(args) != 5 {
		return errors.New("generate: want PATH FILES BYTES LAYERS ALGORITHM")
	}
	spec, err := parseSpec("generate", args[:4])
	if err != nil {
		return err
	}
	algorithm, err := fsverity.ParseAlgorithm(args[4])
	if err != nil {
		return err
	}
	repo, err := repomaker.Create(args[0], algorithm, repomaker.Options{})
	if err != nil {
		return err
	}
	if _, err := repo.AddGenerated(tag, spec, repomaker.Pretended); err != nil {
		return err
	}
	return listObjects(ctx, repository{args[0], spec}, tag)
}

// parseSpec returns what is to be generated: PATH FILES BYTES LAYERS.
func parseSpec(part string, args []string) (genimage.Spec, error) {
	spec := genimage.Spec{Seed: 1}
	if len(args) != 4 {
		return spec, errors.New(part + ": want PATH FILES BYTES LAYERS")
	}
	var errs [3]error
	spec.Files, errs[0] = strconv.Atoi(args[1])
	spec.Bytes, errs[1] = strconv.ParseInt(args[2], 10, 64)
	spec.Layers, errs[2] = strconv.Atoi(args[3])
	return spec, errors.Join(errs[:]...)
}

// listObjects writes the list of the objects of images, in the order in which their
// layers have them: paths, each ended by a NUL.
func listObjects(ctx context.Context, r repository, tags ...string) error {
	repo, err := composefsrepo.Open(ctx, r.path, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	var list bytes.Buffer
	for _, tag := range tags {
		image, err := repo.ImageByTag(ctx, tag)
		if err != nil {
			return err
		}
		for i := range image.Layers {
			if err := listLayer(ctx, r, image, i, &list); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(r.objects(), list.Bytes(), 0o600)
}

// listLayer lists the objects of a layer.
func listLayer(ctx context.Context, r repository, image *composefsrepo.Image, n int, list *bytes.Buffer) error {
	chunks, err := image.LayerChunks(ctx, n)
	if err != nil {
		return err
	}
	defer chunks.Close()
	for {
		chunk, err := chunks.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if chunk.Inline == nil {
			name := chunk.Object.String()
			list.WriteString(filepath.Join(r.path, "objects", name[:2], name[2:]) + "\x00")
		}
	}
}

// openImage opens a repository and the image in it. They end with the process.
func openImage(ctx context.Context, path string) (*composefsrepo.Repo, *composefsrepo.Image, error) {
	repo, err := composefsrepo.Open(ctx, path, nil)
	if err != nil {
		return nil, nil, err
	}
	image, err := repo.ImageByTag(ctx, tag)
	return repo, image, err
}

// readLayersPart reads all layers through GetBlob, one after the other.
func readLayersPart(ctx context.Context, args []string) error { return readLayers(ctx, args, 1) }

// hashLayersPart reads them side by side.
func hashLayersPart(ctx context.Context, args []string) error { return readLayers(ctx, args, -1) }

func readLayers(ctx context.Context, args []string, atOnce int) error {
	if len(args) != 1 {
		return errors.New("want the path of a repository")
	}
	repo, image, err := openImage(ctx, args[0])
	if err != nil {
		return err
	}
	src := source.New(nil, repo, image)
	defer src.Close()
	layers, err := src.LayerInfosForCopy(ctx, nil)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, l := range layers {
		group.Go(func() error {
			blob, size, err := src.GetBlob(ctx, l, nil)
			if err != nil {
				return err
			}
			defer blob.Close()
			n, err := io.Copy(io.Discard, onlyReader{blob})
			if err == nil && n != size {
				err = fmt.Errorf("layer %s: %d bytes instead of %d", l.Digest, n, size)
			}
			return err
		})
	}
	return group.Wait()
}

// onlyReader has a copy call Read, as the pipelines of containers/image do.
type onlyReader struct{ io.Reader }

// readObjectsPart reads the files of a list and hashes them, in one pass: what
// anybody has to do at the least who reads a layer and checks it.
func readObjectsPart(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("want the path of a list of files")
	}
	list, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer list.Close()
	hash := sha256.New()
	buffer := make([]byte, 256<<10)
	for names := bufio.NewReader(list); ctx.Err() == nil; {
		name, err := names.ReadString(0)
		if err == io.EOF {
			fmt.Printf("%x\n", hash.Sum(nil))
			return nil
		}
		if err != nil {
			return err
		}
		if err := readObject(hash, name[:len(name)-1], buffer); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func readObject(hash io.Writer, path string, buffer []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		n, err := f.Read(buffer)
		hash.Write(buffer[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
