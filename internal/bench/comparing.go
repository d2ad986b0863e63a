package main

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// The rows of comparisons of two images.
const (
	rowDiff     = "diff"
	rowUpdate   = "diff-update"
	rowContents = "diff-contents"
)

// The tags of images that are compared with the one called tag: one that has nothing
// in common with it, and one with the same layers but for the uppermost.
const (
	tagOther  = "localhost/other:latest"
	tagUpdate = "localhost/update:latest"
)

// comparing measures how long it takes to tell how two images differ.
func (b *bench) comparing(ctx context.Context, results *Results) (err error) {
	say("generating two images of %d files, %s", b.spec.Files, bytesText(b.spec.Bytes))
	r := repository{filepath.Join(b.disk.path, "comparing"), b.spec}
	if _, err := b.measure(ctx, func(string) [][]string {
		return [][]string{
			{b.self, "generate-pair", r.path, strconv.Itoa(r.spec.Files), strconv.FormatInt(r.spec.Bytes, 10), strconv.Itoa(r.spec.Layers)},
			{b.self, "read-objects", r.objects()},
		}
	}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.remove()) }()

	g := newGroup("Comparing two images", b.spec, rowDiff)
	g.addRow(rowDiff, "skopeo-cfs diff --files, nothing in common")
	g.addRow(rowUpdate, "skopeo-cfs diff --files, the uppermost layers differ")
	g.addRow(rowContents, "open, read and SHA-256 of both images' objects").Limit = true
	results.Comparing = g
	diff := func(with string) commands {
		return one(b.command, "diff", "--files", r.image(), "composefs:["+r.path+"]"+with)
	}
	for i := range b.runs {
		say("comparing: run %d of %d", i+1, b.runs)
		for _, way := range []struct {
			row   string
			lines commands
		}{
			{rowDiff, diff(tagOther)},
			{rowUpdate, diff(tagUpdate)},
			{rowContents, one(b.self, "read-objects", r.objects())},
		} {
			run, err := b.measure(ctx, way.lines)
			if err != nil {
				return err
			}
			g.add(way.row, run)
		}
	}
	g.summarise()
	results.Goals = append(results.Goals,
		atMost("diff of an update: seconds", g.find(rowUpdate).Seconds, 0.5, " s"),
		atMost("diff: seconds", g.find(rowDiff).Seconds, 0.5, " s"),
		atMost("diff: peak memory", float64(g.find(rowDiff).PeakMemory)/1e6, 150, " MB"),
	)
	return nil
}

// generatePairPart makes a repository with the images that are compared: PATH FILES
// BYTES LAYERS.
func generatePairPart(ctx context.Context, args []string) error {
	spec, err := parseSpec("generate-pair", args)
	if err != nil {
		return err
	}
	repo, err := repomaker.Create(args[0], fsverity.SHA512, repomaker.Options{})
	if err != nil {
		return err
	}
	other := spec
	other.Seed++
	if _, err := repo.AddGenerated(tag, spec, repomaker.Pretended); err != nil {
		return err
	}
	if _, err := repo.AddGenerated(tagOther, other, repomaker.Pretended); err != nil {
		return err
	}
	layers, err := genimage.Generate(spec)
	if err != nil {
		return err
	}
	others, err := genimage.Generate(other)
	if err != nil {
		return err
	}
	layers[len(layers)-1] = others[len(others)-1]
	update := repomaker.Image{Listing: repomaker.Pretended}
	for _, l := range layers {
		content := l.Reader()
		defer content.Close()
		update.Layers = append(update.Layers, repomaker.Layer{Tar: content})
	}
	if _, err := repo.AddImage(tagUpdate, update); err != nil {
		return err
	}
	return listObjects(ctx, repository{args[0], spec}, tag, tagOther)
}
