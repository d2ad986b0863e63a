package main

import (
	"context"
	"errors"

	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

// The rows of what images of many files are compared by.
const (
	rowFew        = "few"
	rowMany       = "many"
	rowFewBefore  = "few-before"
	rowManyBefore = "many-before"
)

const (
	bytesAFile   = 8 << 10
	manyFileRuns = 3 // what is looked at is memory, which differs little
)

// manyFiles measures whether what a copy takes for each file stays the same
// however many there are.
func (b *bench) manyFiles(ctx context.Context, results *Results) (err error) {
	few := genimage.Spec{Files: b.spec.Files, Bytes: int64(b.spec.Files) * bytesAFile, Layers: b.spec.Layers}
	many := genimage.Spec{Files: b.many, Bytes: int64(b.many) * bytesAFile, Layers: b.spec.Layers}
	small, err := b.generate(ctx, "few-files", few)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, small.remove()) }()
	large, err := b.generate(ctx, "many-files", many)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, large.remove()) }()

	type way struct {
		row, command string
		image        repository
	}
	g := newGroup("Images of few and many files", few, rowFew)
	sizes := " (" + (&Group{Files: many.Files, Bytes: many.Bytes, Layers: many.Layers}).size() + ")"
	g.addRow(rowFew, "skopeo-cfs copy")
	g.addRow(rowMany, "skopeo-cfs copy of many files"+sizes)
	ways := []way{{rowFew, b.command, small}, {rowMany, b.command, large}}
	if b.before != "" {
		g.addRow(rowFewBefore, "skopeo-cfs copy, of commit "+b.baseline)
		g.addRow(rowManyBefore, "skopeo-cfs copy of many files, of commit "+b.baseline)
		ways = append(ways, way{rowFewBefore, b.before, small}, way{rowManyBefore, b.before, large})
	}
	results.Files = g
	for i := range min(b.runs, manyFileRuns) {
		say("files: run %d of %d", i+1, min(b.runs, manyFileRuns))
		for _, w := range ways {
			if err := b.intoNewStore(ctx, g, w.row, func(s store) commands { return copyWith(w.command, w.image, s) }); err != nil {
				return err
			}
		}
	}
	g.summarise()
	results.Goals = append(results.Goals, atMost("peak memory for many files", g.growth(rowMany, rowFew), 1.1, "×"))
	return nil
}
