package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/chrootarchive"
	"github.com/containers/storage/pkg/idtools"
	"github.com/containers/storage/pkg/reexec"
	"github.com/containers/storage/pkg/unshare"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	// Else each extraction would sleep for a second before it ends, where it was
	// built with the race detector.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// pieces is a feed whose files are in a directory.
type pieces struct {
	dir  string
	list []unpack.Piece
}

func (p *pieces) Next() (unpack.Piece, error) {
	if len(p.list) == 0 {
		return unpack.Piece{}, io.EOF
	}
	next := p.list[0]
	p.list = p.list[1:]
	return next, nil
}

func (p *pieces) Open(name string) (*os.File, int64, error) {
	f, err := os.Open(filepath.Join(p.dir, name))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	return f, info.Size(), err
}

// inline returns a tar as a feed of inline pieces of some size.
func inline(content []byte, size int) *pieces {
	p := &pieces{}
	for len(content) > 0 {
		n := min(size, len(content))
		p.list = append(p.list, unpack.Piece{Inline: content[:n]})
		content = content[n:]
	}
	return p
}

// split returns a tar as importers split it: the contents of files of more than
// limit bytes are files.
func split(t testing.TB, content []byte, limit int64) *pieces {
	t.Helper()
	return splitTo(t, t.TempDir(), content, limit)
}

// splitTo is split, with the files in a certain directory.
func splitTo(t testing.TB, dir string, content []byte, limit int64) *pieces {
	t.Helper()
	p := &pieces{dir: dir}
	in := bytes.NewReader(content)
	entries := tar.NewReader(in)
	var at int64
	for i := 0; ; i++ {
		h, err := entries.Next()
		if err != nil { // the rest is inline, whatever it is
			p.list = append(p.list, unpack.Piece{Inline: content[at:]})
			return p
		}
		start, err := in.Seek(0, io.SeekCurrent)
		require.NoError(t, err)
		if h.Typeflag != tar.TypeReg || h.Size <= limit || h.Size > int64(len(content))-start {
			continue
		}
		name := fmt.Sprint(i)
		require.NoError(t, os.WriteFile(filepath.Join(p.dir, name), content[start:start+h.Size], 0o600))
		p.list = append(p.list, unpack.Piece{Inline: content[at:start]}, unpack.Piece{File: name})
		at = start + h.Size
	}
}

// entry is one of a tar's, with its content.
type entry struct {
	tar.Header
	content string
}

var modified = time.Unix(1_600_000_000, 123_456_789)

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: modified}, content}
}

func dir(name string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: modified}}
}

func link(kind byte, name, target string) entry {
	return entry{Header: tar.Header{Name: name, Linkname: target, Typeflag: kind, Mode: 0o777, ModTime: modified}}
}

// with returns an entry with its header changed.
func (e entry) with(change func(*tar.Header)) entry {
	change(&e.Header)
	return e
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.content))
		if h.Format == tar.FormatUnknown {
			h.Format = tar.FormatPAX
		}
		require.NoError(t, w.WriteHeader(&h), h.Name)
		_, err := io.WriteString(w, e.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

var long = strings.Repeat("0123456789", 20_000)

// usual are tars that are unpacked.
var usual = map[string][]entry{
	"nothing":                 {},
	"files":                   {dir("a"), file("a/empty", ""), file("a/short", "short"), file("a/long", long)},
	"dot names":               {dir("./"), dir("./a/"), file("./a/b", "b")},
	"absolute names":          {dir("/a"), file("/a/b", long), link(tar.TypeLink, "/a/c", "/a/b")},
	"roundabout names":        {dir("a"), file("a/../b", "b"), file("a/./c//d", "d")},
	"no directories":          {file("a/b/c", long), file("a/d", "d")},
	"directory after content": {file("a/b", "b"), dir("a").with(func(h *tar.Header) { h.Mode, h.Uid = 0o700, 7 })},
	"directory with access lists after content": append(big("d", 40), dir("d").with(func(h *tar.Header) {
		h.Mode, h.Gid, h.PAXRecords = 0o2755, 50, map[string]string{"SCHILY.xattr.system.posix_acl_default": tartest.AccessList}
	}), file("d/late", "x")),
	"root with access lists after content": append(big(".", 40), dir("/").with(func(h *tar.Header) {
		h.Mode, h.Gid, h.PAXRecords = 0o2755, 50, map[string]string{"SCHILY.xattr.system.posix_acl_default": tartest.AccessList}
	}), file("late", "x")),
	"root":                     {dir("/").with(func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o711, 5, 6 }), file("a", "a")},
	"root that is passed over": {dir(".").with(func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o711, 5, 6 }), file("a", "a")},
	"owners":                   {file("a", "a").with(func(h *tar.Header) { h.Uid, h.Gid = 1000, 2000 }), link(tar.TypeSymlink, "b", "a").with(func(h *tar.Header) { h.Uid, h.Gid = 3, 4 })},
	"modes": {
		file("suid", long).with(func(h *tar.Header) { h.Mode, h.Uid = 0o4755, 9 }),
		file("sgid", long).with(func(h *tar.Header) { h.Mode, h.Gid = 0o2755, 9 }),
		file("none", "x").with(func(h *tar.Header) { h.Mode = 0 }),
		file("all", "x").with(func(h *tar.Header) { h.Mode = 0o7777 }),
		dir("sticky").with(func(h *tar.Header) { h.Mode = 0o1777 }),
		dir("shared").with(func(h *tar.Header) { h.Mode, h.Gid = 0o2775, 50 }),
		file("shared/in", "x"),
	},
	"times": {
		file("before 1970", "x").with(func(h *tar.Header) { h.ModTime = time.Unix(-1000, 5) }),
		file("far", "x").with(func(h *tar.Header) { h.ModTime = time.Unix(1<<34, 0) }),
		file("too far", "x").with(func(h *tar.Header) { h.ModTime = time.Unix(1<<35, 0) }),
		link(tar.TypeSymlink, "far link", "x").with(func(h *tar.Header) { h.ModTime = time.Unix(1<<33, 7) }),
		link(tar.TypeSymlink, "old link", "x").with(func(h *tar.Header) { h.ModTime = time.Unix(-1<<30, 0) }),
		dir("d").with(func(h *tar.Header) { h.ModTime = time.Unix(-1, 0) }),
		file("d/x", "x"),
	},
	"links": {
		file("a", long), link(tar.TypeLink, "b", "a"), link(tar.TypeLink, "d/c", "b"),
		link(tar.TypeSymlink, "s", "../../etc/passwd"), link(tar.TypeLink, "t", "s"),
		link(tar.TypeLink, "slash", "/a"), link(tar.TypeSymlink, "loop", "loop"),
	},
	"links with metadata of their own": {
		file("a", long).with(func(h *tar.Header) { h.Mode, h.Uid = 0o4755, 3 }),
		link(tar.TypeLink, "b", "a").with(func(h *tar.Header) { h.Mode, h.Uid, h.ModTime = 0o600, 4, time.Unix(5, 6) }),
		file("c", long),
		link(tar.TypeLink, "d", "c").with(func(h *tar.Header) { h.Mode = 0o711 }),
		link(tar.TypeLink, "e", "d").with(func(h *tar.Header) { h.Mode = 0o722 }),
	},
	"attributes": {
		file("a", long).with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{
				"SCHILY.xattr.user.x":              "y",
				"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
				"SCHILY.xattr.security.selinux":    "ignored",
			}
		}),
		dir("d").with(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.dir": "1"} }),
		link(tar.TypeSymlink, "s", "a").with(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.link": "1"} }),
	},
	"devices": {
		{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: modified}},
		{Header: tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Mode: 0o660, Gid: 6, Devmajor: 259, Devminor: 300, ModTime: modified}},
		{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o4600, ModTime: modified}},
		link(tar.TypeLink, "fifo2", "fifo"),
	},
	"whiteouts": {
		dir("d"), file("d/.wh.gone", "").with(func(h *tar.Header) { h.Uid = 12 }), file(".wh.top", ""), file("implied/.wh.x", ""),
		dir("e"), file("e/.wh..wh..opq", ""), file("e/new", "new"), file("f/.wh..wh..opq", ""), file(".wh..wh..opq", ""),
		file("g/.wh..wh.plnk", ""),
	},
	"GNU names":  {file(strings.Repeat("n", 180)+"/"+strings.Repeat("m", 200), long).with(func(h *tar.Header) { h.Format, h.ModTime = tar.FormatGNU, time.Unix(1, 0) })},
	"no UTF-8":   {file("\xff\xfe", long).with(func(h *tar.Header) { h.Format, h.ModTime = tar.FormatGNU, time.Unix(1, 0) })},
	"many":       many(300),
	"same twice": {file("a", long), file("b", long)},
}

// big are files that take a while to make.
func big(dir string, n int) (entries []entry) {
	for i := range n {
		entries = append(entries, file(fmt.Sprintf("%s/f%d", dir, i), long))
	}
	return entries
}

func many(n int) (entries []entry) {
	for i := range n {
		name := fmt.Sprintf("d%d/f%d", i%7, i)
		entries = append(entries, file(name, strings.Repeat(name, i)))
		if i%5 == 0 {
			entries = append(entries, link(tar.TypeLink, name+"-link", name))
		}
	}
	return entries
}

// unusual are tars that are left to containers/storage.
var unusual = map[string][]entry{
	"name that climbs out":      {file("../outside", "x")},
	"name that climbs":          {dir("a"), file("a/../../outside", "x")},
	"absolute name that climbs": {file("/../outside", "x")},
	"name that climbs late":     {file("a/b/../../../outside", "x")},
	"through a symlink":         {dir("a"), link(tar.TypeSymlink, "s", "a"), file("s/f", "x")},
	"through a symlink outside": {link(tar.TypeSymlink, "s", "../.."), file("s/outside", "x")},
	"through an absolute link":  {link(tar.TypeSymlink, "s", "/"), file("s/outside", "x")},
	"through a file":            {file("a", "x"), file("a/b", "x")},
	"over a file":               {file("a", "x"), file("/a", "y")},
	"over a symlink":            {link(tar.TypeSymlink, "a", "/outside"), file("/a", "y")},
	"directory over a file":     {file("a", "x"), dir("/a")},
	"file over a directory":     {dir("a"), file("/a", "x")},
	"whiteout of what is there": {file("a", "x"), file(".wh.a", "")},
	"file over a whiteout":      {file(".wh.a", ""), file("a", "x")},
	"whiteout over a directory": {file(".wh.a/x", "x"), file(".wh.a", "")},
	"opaque over a directory":   {file(".wh..wh..opq/x", "x"), file(".wh..wh..opq", "")},
	"whiteout with content":     {file(".wh.a", "x")},
	"whiteout of nothing":       {file(".wh.", "")},
	"whiteout of the directory": {file("a/.wh..", "")},
	"link to outside":           {link(tar.TypeLink, "a", "../../outside")},
	"link to nothing":           {link(tar.TypeLink, "a", "b")},
	"link to a directory":       {dir("b"), link(tar.TypeLink, "a", "b")},
	"link through a symlink":    {dir("d"), file("d/f", "x"), link(tar.TypeSymlink, "s", "d"), link(tar.TypeLink, "a", "s/f")},
	"root that is a file":       {link(tar.TypeSymlink, "/", "x")},
	"global header":             {{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "x"}}}, file("a", "x")},
	"contiguous file":           {file("a", "x").with(func(h *tar.Header) { h.Typeflag = tar.TypeCont })},
}

// outcome is what became of a directory.
type outcome struct {
	err   error
	trees map[string]trees.Entry
}

// started is when the tests began.
var started = time.Now()

// outcomeOf lists a directory after an extraction.
func outcomeOf(t testing.TB, dest string, err error) outcome {
	t.Helper()
	return outcome{err, trees.ListUntouched(t, dest, started)}
}

// within makes a directory to unpack into, with something beside it that is to
// stay as it is.
func within(t testing.TB) (dest string) {
	t.Helper()
	around := t.TempDir()
	dest = filepath.Join(around, "dest")
	require.NoError(t, os.Mkdir(dest, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(around, "outside"), []byte("untouched"), 0o600))
	t.Cleanup(func() {
		content, err := os.ReadFile(filepath.Join(around, "outside"))
		assert.NoError(t, err)
		assert.Equal(t, "untouched", string(content))
		names, err := os.ReadDir(around)
		assert.NoError(t, err)
		assert.Len(t, names, 2)
	})
	return dest
}

// theirs unpacks as containers/storage does it.
func theirs(t testing.TB, content []byte, options *archive.TarOptions) outcome {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containers/storage needs root to unpack")
	}
	if options.InUserNS { // where it is, overlay's attributes are the user's
		t.Setenv(unshare.UsernsEnvName, "done")
	}
	dest := within(t)
	err := chrootarchive.UntarUncompressed(bytes.NewReader(content), dest, options)
	return outcomeOf(t, dest, err)
}

// ours unpacks as this package does it, and checks what is told of it.
func ours(t testing.TB, content []byte, feed unpack.Feed, options *archive.TarOptions) outcome {
	t.Helper()
	dest := within(t)
	var progress int64
	o := optionsOf(options)
	o.TempDir, o.Progress = t.TempDir(), func(n int64) { progress += n }
	result, err := unpack.Layer(t.Context(), feed, dest, o)
	out := outcomeOf(t, dest, err)
	if err == nil {
		defer result.TarSplit.Close()
		assert.Equal(t, digest.FromBytes(content), result.Digest)
		assert.EqualValues(t, len(out.trees)-1, result.Entries)
		assert.EqualValues(t, len(content), result.Size)
		assert.EqualValues(t, len(content), progress)
		if options.ForceMask == nil && options.WhiteoutFormat == archive.OverlayWhiteoutFormat {
			assert.True(t, bytes.Equal(content, rebuild(t, result.TarSplit, dest)), "the rebuilt tar is another one")
		}
	} else {
		assert.Nil(t, result)
	}
	return out
}

// optionsOf returns the options of containers/storage as those of this package.
func optionsOf(options *archive.TarOptions) unpack.Options {
	o := unpack.Options{
		IgnoreChownErrors: options.IgnoreChownErrors, InUserNS: options.InUserNS, ForceMask: options.ForceMask,
		OverlayWhiteouts: options.WhiteoutFormat == archive.OverlayWhiteoutFormat,
		DotRoot:          dotIsRoot(),
	}
	for _, m := range options.UIDMaps {
		o.UIDMaps = append(o.UIDMaps, unpack.IDMap(m))
	}
	for _, m := range options.GIDMaps {
		o.GIDMaps = append(o.GIDMaps, unpack.IDMap(m))
	}
	return o
}

// dotIsRoot tells whether this containers/storage takes an entry "." for one of
// the root directory.
var dotIsRoot = sync.OnceValue(func() bool {
	dest, err := os.MkdirTemp("", "dot")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dest)
	var content bytes.Buffer
	tw := tar.NewWriter(&content)
	err = errors.Join(tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o711}), tw.Close(),
		archive.Unpack(&content, dest, &archive.TarOptions{NoLchown: true}))
	info, statErr := os.Stat(dest)
	if err = errors.Join(err, statErr); err != nil {
		panic(err)
	}
	return info.Mode().Perm() == 0o711
})

// rebuild rebuilds a tar as containers/storage does it.
func rebuild(t testing.TB, tarSplit *os.File, dest string) []byte {
	t.Helper()
	_, err := tarSplit.Seek(0, io.SeekStart)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, asm.WriteOutputTarStream(storage.NewPathFileGetter(dest), storage.NewJSONUnpacker(tarSplit), &out))
	return out.Bytes()
}

// optionSets are the ways in which stores want layers unpacked.
func optionSets() map[string]*archive.TarOptions {
	mask := os.FileMode(0o700)
	maps := []idtools.IDMap{{ContainerID: 0, HostID: 100_000, Size: 65536}}
	return map[string]*archive.TarOptions{
		"overlay":     {WhiteoutFormat: archive.OverlayWhiteoutFormat},
		"AUFS":        {WhiteoutFormat: archive.AUFSWhiteoutFormat},
		"in userns":   {WhiteoutFormat: archive.OverlayWhiteoutFormat, InUserNS: true},
		"mapped":      {WhiteoutFormat: archive.OverlayWhiteoutFormat, UIDMaps: maps, GIDMaps: maps},
		"masked":      {WhiteoutFormat: archive.OverlayWhiteoutFormat, ForceMask: &mask},
		"no owners":   {WhiteoutFormat: archive.OverlayWhiteoutFormat, IgnoreChownErrors: true},
		"mapped AUFS": {WhiteoutFormat: archive.AUFSWhiteoutFormat, UIDMaps: maps, GIDMaps: maps},
	}
}

func TestUsualTarsAreUnpackedAsByContainersStorage(t *testing.T) {
	options := optionSets()["overlay"]
	for name, entries := range usual {
		t.Run(name, func(t *testing.T) {
			content := makeTar(t, entries...)
			want := theirs(t, content, options)
			require.NoError(t, want.err)
			for feedName, feed := range map[string]unpack.Feed{
				"split":        split(t, content, 64),
				"split all":    split(t, content, 0),
				"inline":       inline(content, 1<<30),
				"inline parts": inline(content, 700),
			} {
				got := ours(t, content, feed, options)
				require.NoError(t, got.err, feedName)
				assert.Equal(t, want.trees, got.trees, feedName)
			}
		})
	}
}

// together returns the entries of all usual tars as those of one.
func together() (all []entry) {
	for _, name := range slices.Sorted(maps.Keys(usual)) {
		for _, e := range usual[name] {
			e.Name = name + "/" + e.Name
			if e.Typeflag == tar.TypeLink {
				e.Linkname = name + "/" + e.Linkname
			}
			all = append(all, e)
		}
	}
	return all
}

func TestEveryStoreHasItsWayOfUnpacking(t *testing.T) {
	content := makeTar(t, together()...)
	for name, options := range optionSets() {
		t.Run(name, func(t *testing.T) {
			want := theirs(t, content, options)
			require.NoError(t, want.err)
			got := ours(t, content, split(t, content, 64), options)
			require.NoError(t, got.err)
			assert.Equal(t, want.trees, got.trees)
		})
	}
}

func TestOwnersThatAreNotMappedAreRefused(t *testing.T) {
	content := makeTar(t, file("a", "a").with(func(h *tar.Header) { h.Uid = 1 << 20 }))
	options := optionSets()["mapped"]
	assert.Error(t, theirs(t, content, options).err)
	assert.Error(t, ours(t, content, split(t, content, 0), options).err)
}

func TestUnusualTarsAreRefused(t *testing.T) {
	needs.Root(t)
	for name, entries := range unusual {
		t.Run(name, func(t *testing.T) {
			content := makeTar(t, entries...)
			got := ours(t, content, split(t, content, 0), &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat})
			require.ErrorIs(t, got.err, unpack.ErrUnusual)
			named := func(e entry) bool { return strings.Contains(got.err.Error(), fmt.Sprintf("%q", e.Name)) }
			assert.True(t, slices.ContainsFunc(entries, named), "it names no entry: %v", got.err)
		})
	}
}

func TestSparseFilesAreRefused(t *testing.T) {
	content := makeTar(t, file("a", "1\n0\n512\n"+strings.Repeat("\x00", 504)+strings.Repeat("x", 512)).with(func(h *tar.Header) {
		h.PAXRecords = map[string]string{"comment": "GNU.sparse"}
	}))
	// The writer makes none, so the records are put in by hand.
	content = bytes.Replace(content, []byte("22 comment=GNU.sparse\n"), []byte("22 GNU.sparse.major=1\n"), 1)
	got := ours(t, content, split(t, content, 1<<20), &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat})
	assert.ErrorIs(t, got.err, unpack.ErrUnusual)
}

func TestPathThatOccursTwiceIsNamed(t *testing.T) {
	needs.Root(t)
	for name, entries := range map[string][]entry{
		"files":              {file("a/b", "x"), file("./a/b", "y")},
		"directories":        {dir("a/b"), dir("a/b/")},
		"far apart":          append(many(200), file("d1/f1", "x")),
		"with large content": {file("a/b", long), file("c", long), file("a/b", long)},
	} {
		t.Run(name, func(t *testing.T) {
			content := makeTar(t, entries...)
			got := ours(t, content, split(t, content, 64), &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat})
			require.Error(t, got.err)
			assert.ErrorIs(t, got.err, unpack.ErrUnusual)
		})
	}
}

func TestPiecesNeedNotBeFiles(t *testing.T) {
	needs.Root(t)
	content := makeTar(t, file("a", long), file("b", long))
	dir := t.TempDir()
	for name, cuts := range map[string][]int{
		"a file in two":          {1024, 5000, 1024 + len(long)},
		"a header as a file":     {0, 512, 1024},
		"headers and contents":   {100, 1024 + len(long) + 600},
		"all of it":              {0, len(content)},
		"more than the content":  {1024, 1024 + len(long) + 1},
		"an empty file, ignored": {1024, 1024},
	} {
		t.Run(name, func(t *testing.T) {
			// What lies between two cuts is a file, what is around them inline.
			feed := &pieces{dir: dir, list: []unpack.Piece{{Inline: content[:cuts[0]]}}}
			for i := range len(cuts) - 1 {
				file := fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), i)
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), content[cuts[i]:cuts[i+1]], 0o600))
				feed.list = append(feed.list, unpack.Piece{File: file})
			}
			feed.list = append(feed.list, unpack.Piece{Inline: content[cuts[len(cuts)-1]:]})
			got := ours(t, content, feed, &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat})
			assert.NoError(t, got.err)
		})
	}
}

func TestTarsThatEndEarlyAreRefused(t *testing.T) {
	content := makeTar(t, file("a", long), file("b", long))
	for _, end := range []int{100, 1500, 5000, 1024 + len(long) + 100, len(content) - 1024 - 600} {
		got := ours(t, content[:end], inline(content[:end], 4096), &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat})
		assert.Error(t, got.err, "%d", end)
	}
}

func TestMissingFileIsReported(t *testing.T) {
	needs.Root(t)
	content := makeTar(t, append(many(100), file("last", long))...)
	feed := split(t, content, 64)
	require.NoError(t, os.Remove(filepath.Join(feed.dir, "119")))
	got := ours(t, content, feed, &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat})
	assert.ErrorIs(t, got.err, os.ErrNotExist)
}

func TestCancelEndsUnpacking(t *testing.T) {
	needs.Root(t)
	content := makeTar(t, many(300)...)
	for after := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		feed := &cancelling{pieces: split(t, content, 64), after: after * 10, cancel: cancel}
		start := time.Now()
		_, err := unpack.Layer(ctx, feed, within(t), unpack.Options{})
		assert.ErrorIs(t, err, context.Canceled)
		assert.Less(t, time.Since(start), 10*time.Second)
	}
}

// cancelling cancels a context after some pieces.
type cancelling struct {
	*pieces
	after  int
	cancel context.CancelFunc
}

func (c *cancelling) Next() (unpack.Piece, error) {
	if c.after--; c.after < 0 {
		c.cancel()
	}
	return c.pieces.Next()
}

func TestDiffIDWithLostZerosIsFound(t *testing.T) {
	needs.Root(t)
	content := makeTar(t, file("a", long))
	whole := append(content, make([]byte, 10240-len(content)%10240)...)
	for name, want := range map[string]digest.Digest{
		"lost":     digest.FromBytes(whole),
		"not lost": digest.FromBytes(content),
		"another":  digest.FromString("another"),
	} {
		t.Run(name, func(t *testing.T) {
			dest := within(t)
			result, err := unpack.Layer(t.Context(), inline(content, 4096), dest, unpack.Options{DiffID: want})
			require.NoError(t, err)
			defer result.TarSplit.Close()
			rebuilt := rebuild(t, result.TarSplit, dest)
			assert.Equal(t, result.Digest, digest.FromBytes(rebuilt))
			assert.EqualValues(t, len(rebuilt), result.Size)
			if name == "lost" {
				assert.Equal(t, want, result.Digest)
			} else {
				assert.Equal(t, digest.FromBytes(content), result.Digest)
			}
		})
	}
}
