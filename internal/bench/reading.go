package main

import (
	"context"
	"errors"
)

// The rows of what reading is compared with.
const (
	rowObjects    = "objects"
	rowGetBlob    = "getblob"
	rowGetBlob2   = "getblob-twice"
	rowCat        = "cat"
	readingLayers = 2
)

// reading measures how fast layers can be read.
func (b *bench) reading(ctx context.Context, results *Results) (err error) {
	spec := b.spec
	spec.Bytes /= 2
	spec.Layers = readingLayers
	r, err := b.generate(ctx, "reading", spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	large, err := b.generate(ctx, "reading-twice", twice(spec))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, large.remove()) }()

	g := newGroup("Reading the layers of an image", spec, rowObjects)
	g.addRow(rowObjects, "open, read and SHA-256 of the objects, in one pass")
	g.addRow(rowGetBlob, "GetBlob of the layers, read and dropped")
	g.addRow(rowGetBlob2, "the same of an image of twice the size")
	g.addRow(rowCat, "cat of the objects | sha256sum")
	results.Reading = g
	for i := range b.runs {
		say("reading: run %d of %d", i+1, b.runs)
		for _, way := range []struct {
			row   string
			lines commands
		}{
			{rowObjects, one(b.self, "read-objects", r.objects())},
			{rowGetBlob, one(b.self, "read-layers", r.path)},
			{rowGetBlob2, one(b.self, "read-layers", large.path)},
			{rowCat, one("sh", "-c", `xargs -0 cat <"$1" | sha256sum`, "sh", r.objects())},
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
		atLeast("GetBlob: speed against open, read and SHA-256 of the objects", 1/g.find(rowGetBlob).Ratio, 0.8, "×"),
		atMost("GetBlob: peak memory for twice the size", g.growth(rowGetBlob2, rowGetBlob), 1.1, "×"),
	)
	return nil
}
