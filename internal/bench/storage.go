package main

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

// The rows of what bringing an image into containers-storage is compared by.
const (
	rowToday  = "today"
	rowPlain  = "plain"
	rowFast   = "fast"
	rowBefore = "fast-before"
	rowAgain  = "again"
	rowTwice  = "fast-twice"
	rowClone  = "cp"
	rowHash   = "sha256"
)

// storage measures what bringing an image into containers-storage takes.
func (b *bench) storage(ctx context.Context, results *Results) (err error) {
	image, err := b.generate(ctx, "image", b.spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, image.remove()) }()
	large, err := b.generate(ctx, "image-twice", twice(b.spec))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, large.remove()) }()
	g := newGroup("Bringing an image into containers-storage", b.spec, rowFast)
	g.addRow(rowToday, "the way of today: gzip, OCI layout, skopeo copy")
	g.addRow(rowPlain, "skopeo-cfs copy --no-zero-copy")
	g.addRow(rowFast, "skopeo-cfs copy")
	if b.before != "" {
		g.addRow(rowBefore, "skopeo-cfs copy, of commit "+b.baseline)
	}
	g.addRow(rowAgain, "skopeo-cfs copy, all layers there")
	g.addRow(rowTwice, "skopeo-cfs copy, of an image of twice the size")
	g.addRow(rowClone, b.cloneCommand()+" of the layers' files").Limit = true
	g.addRow(rowHash, "SHA-256 of the layers' tars, on all cores").Limit = true
	results.Storage = g
	for i := range b.runs {
		say("storage: run %d of %d", i+1, b.runs)
		if err := b.storageRound(ctx, g, image, large, i == 0); err != nil {
			return err
		}
	}
	g.summarise()
	results.Goals = append(results.Goals, storageGoals(g, b.spec)...)
	if b.before != "" {
		results.Goals = append(results.Goals, atMost("skopeo-cfs copy takes, against that of commit "+b.baseline, 1/g.find(rowBefore).Ratio, 1.1, "×"))
	}
	return nil
}

// storageRound measures each way once.
func (b *bench) storageRound(ctx context.Context, g *Group, image, large repository, withSlow bool) error {
	if err := b.fastWays(ctx, g, image); err != nil {
		return err
	}
	if b.before != "" {
		err := b.intoNewStore(ctx, g, rowBefore, func(s store) commands { return copyWith(b.before, image, s) })
		if err != nil {
			return err
		}
	}
	if err := b.intoNewStore(ctx, g, rowTwice, func(s store) commands { return b.copyCommand(large, s) }); err != nil {
		return err
	}
	if err := b.intoNewStore(ctx, g, rowPlain, func(s store) commands { return b.copyCommand(image, s, "--no-zero-copy") }); err != nil {
		return err
	}
	if !withSlow {
		return nil
	}
	say("storage: the way of today")
	return b.intoNewStore(ctx, g, rowToday, func(s store) commands { return b.todaysCommands(image, s) })
}

// fastWays measures the fast way, and what needs the layers that it leaves.
func (b *bench) fastWays(ctx context.Context, g *Group, image repository) (err error) {
	s, err := b.newStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	for _, row := range []string{rowFast, rowAgain} {
		if err := b.measureRow(ctx, g, row, b.copyCommand(image, s)); err != nil {
			return err
		}
	}
	clone, err := b.cloneLayers(s)
	if err != nil {
		return err
	}
	if err := b.measureRow(ctx, g, rowClone, clone); err != nil {
		return err
	}
	return b.measureRow(ctx, g, rowHash, one(b.self, "hash-layers", image.path))
}

// intoNewStore measures a way into a store that is empty.
func (b *bench) intoNewStore(ctx context.Context, g *Group, row string, way func(store) commands) (err error) {
	s, err := b.newStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	return b.measureRow(ctx, g, row, way(s))
}

func (b *bench) measureRow(ctx context.Context, g *Group, row string, lines commands) error {
	run, err := b.measure(ctx, lines)
	if err != nil {
		return err
	}
	g.add(row, run)
	return nil
}

// copyCommand is a copy with skopeo-cfs.
func (b *bench) copyCommand(image repository, s store, flags ...string) commands {
	return copyWith(b.command, image, s, flags...)
}

// copyWith is a copy with the skopeo-cfs of a path.
func copyWith(command string, image repository, s store, flags ...string) commands {
	return func(tmp string) [][]string {
		line := append([]string{command, "copy", "--insecure-policy", "--tmpdir", tmp}, flags...)
		return [][]string{append(line, image.image(), s.image())}
	}
}

// todaysCommands are the way of today. Its second half is skopeo's, or where
// that is not installed, the copy of skopeo-cfs, which is the same library's.
func (b *bench) todaysCommands(image repository, s store) commands {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		skopeo = b.command
	}
	return func(tmp string) [][]string {
		layout := filepath.Join(tmp, "layout")
		return [][]string{
			{b.self, "rearchive", image.path, layout},
			{skopeo, "--insecure-policy", "--tmpdir", tmp, "copy", "oci:" + layout, s.image()},
		}
	}
}

// cloneCommand is the copy that is the limit: of files that share their blocks,
// where the disk lets them.
func (b *bench) cloneCommand() string {
	if b.disk.reflinks {
		return "cp -a --reflink=always"
	}
	return "cp -a"
}

// cloneLayers copies the files of a store's layers.
func (b *bench) cloneLayers(s store) (commands, error) {
	layers, err := filepath.Glob(filepath.Join(s.root(), "overlay", "*", "diff"))
	if err != nil {
		return nil, err
	}
	if len(layers) == 0 {
		return nil, errors.New("there are no layers in the store that has just been filled")
	}
	mode := "--reflink=auto"
	if b.disk.reflinks {
		mode = "--reflink=always"
	}
	var lines [][]string
	for i, layer := range layers {
		// What is copied goes with the store.
		lines = append(lines, []string{"cp", "-a", mode, layer, filepath.Join(s.dir, "cloned-"+strconv.Itoa(i))})
	}
	return func(string) [][]string { return lines }, nil
}

// storageGoals are what the fast way has to reach.
func storageGoals(g *Group, spec genimage.Spec) []Goal {
	fast := g.find(rowFast)
	return []Goal{
		atLeast("the way of today takes, against skopeo-cfs copy", g.find(rowToday).Ratio, 15, "×"),
		atLeast("skopeo-cfs copy --no-zero-copy takes, against skopeo-cfs copy", g.find(rowPlain).Ratio, 6, "×"),
		atMost("skopeo-cfs copy takes, against cp", 1/g.find(rowClone).Ratio, 2, "×"),
		atMost("temporary files", float64(fast.Temporary)/1e6, 1, " MB"),
		atMost("disk added, of the image's size", 100*float64(fast.DiskAdded)/float64(spec.Bytes), 3, "%"),
		atMost("peak memory", float64(fast.PeakMemory)/1e6, 150, " MB"),
		atMost("peak memory for twice the size", g.growth(rowTwice, rowFast), 1.1, "×"),
		atMost("a second copy takes", g.find(rowAgain).Seconds, 0.3, " s"),
	}
}
