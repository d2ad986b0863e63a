package faults

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containers/storage"
	storagetypes "github.com/containers/storage/types"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
)

// copies has what a copy with faults needs: a filesystem with reflinks, and on it
// a repository, a store and a directory for temporary files.
type copies struct {
	command   string
	dir       string
	repo, tmp string
	driver    string
	root, run string
	flags     []string
	image     string
	store     storage.Store
	started   time.Time
	want      copied          // what a copy without faults has made
	empty     map[string]bool // the names in the store without the image
}

// copied is an image in a store: its manifest's digest, and the trees of its
// layers by their ID.
type copied struct {
	manifest digest.Digest
	layers   map[string]map[string]trees.Entry
}

// buildCommand builds the command.
func buildCommand(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "skopeo-cfs")
	out, err := exec.Command("go", "build", "-tags", "containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper",
		"-o", path, "github.com/skopeo-cfs/skopeo-cfs/cmd/skopeo-cfs").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// newCopies makes one for an image: "hello" of the fixtures, or "generated". The
// store has another image already.
func newCopies(t *testing.T, command, image, driver string, flags ...string) *copies {
	t.Helper()
	dir, err := filepath.EvalSymlinks(reflinks.XFS(t))
	require.NoError(t, err)
	c := &copies{command: command, dir: dir, image: image, driver: driver, flags: flags, tmp: filepath.Join(dir, "tmp")}
	require.NoError(t, fixtures.UnpackTo(dir, "sha256"))
	c.repo = filepath.Join(dir, "sha256")
	require.NoError(t, os.Mkdir(c.tmp, 0o700))
	conf := fmt.Sprintf("[storage]\ndriver = %q\nrunroot = %q\ngraphroot = %q\n", driver, filepath.Join(dir, "run"), filepath.Join(dir, "root"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "storage.conf"), []byte(conf), 0o600))
	if image == "generated" {
		c.repo = filepath.Join(dir, "generated")
		maker, err := repomaker.Create(c.repo, fsverity.SHA512, repomaker.Options{})
		require.NoError(t, err)
		_, err = maker.AddGenerated("localhost/generated:latest", genimage.Spec{Files: 24, Bytes: 200_000, Layers: 2, Seed: 3}, repomaker.Gzip)
		require.NoError(t, err)
	}
	c.newStore(t)
	return c
}

// newStore takes a new store, which has another image alone, and learns there what
// a copy makes.
func (c *copies) newStore(t *testing.T) {
	t.Helper()
	at, err := os.MkdirTemp(c.dir, "store")
	require.NoError(t, err)
	c.root, c.run = filepath.Join(at, "root"), filepath.Join(at, "run")
	other := c.newCommand("copy", "--insecure-policy", "composefs:["+filepath.Join(c.dir, "sha256")+"]sizes", c.to("other"))
	out, err := other.CombinedOutput()
	require.NoError(t, err, "%s", out)
	c.store, err = storage.GetStore(storagetypes.StoreOptions{GraphRoot: c.root, RunRoot: c.run, GraphDriverName: c.driver})
	require.NoError(t, err)
	store := c.store
	t.Cleanup(func() {
		_, err := store.Shutdown(true)
		assert.NoError(t, err)
	})
	c.started = time.Now()
	out, err = c.copyCommand().CombinedOutput()
	require.NoError(t, err, "%s", out)
	c.want, err = c.arrived(t)
	require.NoError(t, err)
	require.NotEmpty(t, c.want.layers)
	c.remove(t)
	c.empty = c.names(t)
}

func (c *copies) to(name string) string {
	return fmt.Sprintf("containers-storage:[%s@%s+%s]localhost/%s:latest", c.driver, c.root, c.run, name)
}

func (c *copies) newCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(c.command, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+c.tmp, "CONTAINERS_STORAGE_CONF="+filepath.Join(c.dir, "storage.conf"))
	return cmd
}

// copyCommand is the copy of the image.
func (c *copies) copyCommand() *exec.Cmd {
	args := append([]string{"copy", "--quiet", "--insecure-policy", "--tmpdir", c.tmp}, c.flags...)
	return c.newCommand(append(args, "composefs:["+c.repo+"]"+c.image, c.to("copied"))...)
}

// arrived returns the image as it is in the store. It is an error if it isn't, or
// not wholly.
func (c *copies) arrived(t testing.TB) (copied, error) {
	t.Helper()
	image, err := c.store.Image("localhost/copied:latest")
	if err != nil {
		return copied{}, err
	}
	a := copied{manifest: image.Digest, layers: map[string]map[string]trees.Entry{}}
	for id := image.TopLayer; id != ""; {
		layer, err := c.store.Layer(id)
		if err != nil {
			return copied{}, err
		}
		dir := filepath.Join(c.root, "overlay", id, "diff")
		if c.driver == "vfs" {
			dir = filepath.Join(c.root, "vfs", "dir", id)
		}
		a.layers[id] = trees.ListUnpacked(t, dir, c.started)
		if root := a.layers[id]["."]; strings.HasPrefix(root.Xattrs, "trusted.overlay.uuid=") {
			root.Xattrs = "" // the kernel's, where the layer was mounted
			a.layers[id]["."] = root
		}
		id = layer.Parent
	}
	return a, nil
}

// remove removes the image and all its layers, those of a copy that has failed,
// too.
func (c *copies) remove(t testing.TB) {
	t.Helper()
	if image, err := c.store.Image("localhost/copied:latest"); err == nil {
		_, err := c.store.DeleteImage(image.ID, true)
		require.NoError(t, err)
	}
	other, err := c.store.Image("localhost/other:latest")
	require.NoError(t, err)
	used := map[string]bool{}
	for id := other.TopLayer; id != ""; {
		layer, err := c.store.Layer(id)
		require.NoError(t, err)
		used[id] = true
		id = layer.Parent
	}
	for again := true; again; {
		again = false
		layers, err := c.store.Layers()
		require.NoError(t, err)
		for _, l := range layers {
			if !used[l.ID] && c.store.DeleteLayer(l.ID) == nil {
				again = true
			}
		}
	}
}

// names returns the names of all files of the store but for those in layers.
func (c *copies) names(t testing.TB) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, dir := range []string{c.root, c.run, c.tmp} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(filepath.Dir(c.root), path)
			names[name] = true
			if d.IsDir() && (d.Name() == "diff" || filepath.Base(filepath.Dir(path)) == "dir") { // a layer's files
				return fs.SkipDir
			}
			return err
		})
		require.NoError(t, err)
	}
	return names
}

// strays returns what is in the store or among the temporary files and belongs
// there to nothing: neither a layer nor an image.
func (c *copies) strays(t testing.TB) (strays []string) {
	t.Helper()
	known := []string{}
	layers, err := c.store.Layers()
	require.NoError(t, err)
	for _, l := range layers {
		known = append(known, l.ID)
		if link, err := os.ReadFile(filepath.Join(c.root, "overlay", l.ID, "link")); err == nil {
			known = append(known, string(link))
		}
	}
	images, err := c.store.Images()
	require.NoError(t, err)
	for _, i := range images {
		known = append(known, i.ID)
	}
	for name := range c.names(t) {
		if c.empty[name] || isLibrarys(name) || slices.ContainsFunc(known, func(id string) bool { return strings.Contains(name, id) }) {
			continue
		}
		strays = append(strays, name)
	}
	slices.Sort(strays)
	return strays
}

// isLibrarys tells whether a name in a store is one that containers/storage leaves
// behind, without harm, where what it does fails.
func isLibrarys(name string) bool {
	dir, base := filepath.Split(name)
	switch dir {
	case "root/overlay/":
		return base == "backingFsBlockDev.tmp" // is made anew each time
	case "root/overlay/l/":
		return true // a symlink to a layer that could not be made
	case "root/overlay-layers/", "root/overlay-images/", "root/vfs-layers/", "root/vfs-images/":
		return strings.HasPrefix(base, ".tmp-") // a list that could not be written, nor removed
	}
	return false
}

// isLibrarysStaging tells whether a call that failed is one of those after which
// containers/storage leaves a staging directory that is empty, and tells nobody
// its name.
func isLibrarysStaging(hit Call) bool {
	if filepath.Base(filepath.Dir(filepath.Dir(hit.File))) != "staging" {
		return false
	}
	name := filepath.Base(hit.File)
	return hit.Name == "mkdirat" && name == "dir" || name == "staging.lock"
}

// isNote tells whether a call that failed is one on the note by which a next copy
// finds such a directory. On a disk on which everything fails from then on, it can't
// be removed either; containers/storage removes it when it shuts down.
func isNote(hit Call) bool { return filepath.Base(hit.File) == "probe" }

// complaints returns what the store finds wrong with itself, but for layers that
// no image uses.
func (c *copies) complaints(t testing.TB) (list []string) {
	t.Helper()
	report, err := c.store.Check(storage.CheckEverything())
	require.NoError(t, err)
	for _, errs := range []map[string][]error{report.Layers, report.Images, report.Containers} {
		for id, found := range errs {
			for _, err := range found {
				text := err.Error()
				// What extraction itself makes of these directories of the fixture.
				if slices.ContainsFunc([]string{"/etc(", "/usr(", "/usr/share(", "/usr/share/doc("}, func(d string) bool { return strings.Contains(text, d) }) {
					continue
				}
				list = append(list, id+": "+text)
			}
		}
	}
	layers, err := c.store.Layers()
	require.NoError(t, err)
	for _, l := range layers {
		if l.Flags["incomplete"] == true {
			list = append(list, l.ID+": incomplete")
		}
	}
	slices.Sort(list)
	return list
}

// outcomes counts what copies with a fault came to.
type outcomes struct {
	cases, right, failed, strays int
	unnamed                      int // errors of which the library does not know the cause
	panics                       int // of containers/storage, whose lock could not be opened
}

// try copies the image with a fault and judges what came of it. It returns false
// where no operation was left to fail.
func (c *copies) try(t *testing.T, dir func(*copies) string, f Fault, seen *outcomes) bool {
	t.Helper()
	f.Dir = dir(c)
	f.Chroots = f.Dir == c.root
	cmd := c.copyCommand()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	result, err := f.Run(cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	if result.Hit == (Call{}) {
		require.NoError(t, err, "%s", &output)
		c.remove(t)
		return false
	}
	seen.cases++
	problems := c.judge(t, f, result.Hit, err, output.String(), seen)
	// The next copy finds nothing that is in its way.
	// Where the disk was full for long, containers/storage warns of what it mends.
	if out, err := c.copyCommand().CombinedOutput(); err != nil || len(out) > 0 && !f.Stays {
		problems = append(problems, fmt.Sprintf("the next copy: %v: %s", err, out))
	}
	problems = append(problems, c.judgeRight(t, "the next copy")...)
	require.NoError(t, os.RemoveAll(c.tmp)) // is nobody's to clean up
	require.NoError(t, os.Mkdir(c.tmp, 0o700))
	strays := c.strays(t)
	if len(strays) > 0 && !isLibrarysStaging(result.Hit) && !(f.Stays && isNote(result.Hit)) {
		problems = append(problems, fmt.Sprintf("the next copy leaves: %q", strays))
	}
	if len(problems) > 0 {
		text := fmt.Sprintf("operation %d, %s, exit %v:\n  %s\n  output: %s", f.At, result.Hit, err, strings.Join(problems, "\n  "), &output)
		t.Error(strings.NewReplacer(filepath.Dir(c.root), "STORE", c.dir, "DIR").Replace(text))
	}
	if len(problems)+len(strays) > 0 {
		c.newStore(t)
	} else {
		c.remove(t)
	}
	return true
}

// judge returns what is wrong after a copy with a fault.
func (c *copies) judge(t *testing.T, f Fault, hit Call, err error, output string, seen *outcomes) (problems []string) {
	strays := c.strays(t)
	if err == nil {
		seen.right++
		problems = c.judgeRight(t, "the copy")
	} else {
		seen.failed++
		panicked := strings.Contains(output, "panic:")
		switch {
		case isLockPanic(output):
			seen.panics++
		case panicked:
			problems = append(problems, "it has panicked")
		case output == "":
			problems = append(problems, "it has failed and does not say why")
		case f.Err != 0 && !strings.Contains(output, f.Err.Error()):
			seen.unnamed++
		}
		if _, err := c.store.Image("localhost/copied:latest"); err == nil {
			problems = append(problems, c.judgeRight(t, "the image of a failed copy")...)
		}
		if found := c.complaints(t); len(found) > 0 && !f.Stays {
			problems = append(problems, fmt.Sprintf("the store is not right: %q", found))
		}
	}
	if len(strays) > 0 {
		seen.strays++
		// An error was seen. Without one there has to be a warning.
		if err == nil && output == "" || err != nil && !c.isExcused(strays, f, hit, output) {
			problems = append(problems, fmt.Sprintf("left behind: %q", strays))
		}
	}
	return problems
}

// isLockPanic tells whether containers/storage has panicked over a lock file that
// it could not open.
func isLockPanic(output string) bool {
	return strings.Contains(output, "panic:") && strings.Contains(output, "lockfile.(*LockFile)")
}

// isExcused tells whether a failed copy may have left something behind: all that
// came after the fault failed, too; or there was a panic; or the call that failed
// was one on what is left, or on the directory that it is in.
func (c *copies) isExcused(strays []string, f Fault, hit Call, output string) bool {
	if f.Stays || isLockPanic(output) || isLibrarysStaging(hit) {
		return true
	}
	name, err := filepath.Rel(filepath.Dir(c.root), hit.File)
	return err == nil && !slices.ContainsFunc(strays, func(stray string) bool {
		return !strings.HasPrefix(stray+"/", name+"/") && !strings.HasPrefix(name+"/", stray+"/")
	})
}

// judgeRight returns what is wrong with an image that is to be right.
func (c *copies) judgeRight(t *testing.T, what string) (problems []string) {
	got, err := c.arrived(t)
	if err != nil {
		return []string{what + ": " + err.Error()}
	}
	if !assert.ObjectsAreEqual(c.want, got) {
		problems = append(problems, fmt.Sprintf("%s is not right: %s instead of %s, %s", what, got.manifest, c.want.manifest, difference(c.want, got)))
	}
	if found := c.complaints(t); len(found) > 0 {
		problems = append(problems, fmt.Sprintf("%s: the store is not right: %q", what, found))
	}
	return problems
}

// difference returns the first entries that differ.
func difference(want, got copied) string {
	for id, tree := range want.layers {
		for name, w := range tree {
			if g, ok := got.layers[id][name]; !ok || g != w {
				return fmt.Sprintf("%s of layer %s is %+v instead of %+v", name, id, g, w)
			}
		}
		if len(tree) != len(got.layers[id]) {
			return fmt.Sprintf("layer %s has %d entries instead of %d", id, len(got.layers[id]), len(tree))
		}
	}
	return "the layers are the same"
}

// places are where a copy works, and what can go wrong there.
var places = []struct {
	name  string
	dir   func(*copies) string
	kinds []kindOfFault
}{
	{"repository", func(c *copies) string { return c.repo }, []kindOfFault{once(unix.EIO), stays(unix.EIO), endsEarly}},
	{"store", func(c *copies) string { return c.root }, []kindOfFault{once(unix.EIO), once(unix.ENOSPC), stays(unix.EIO), stays(unix.ENOSPC)}},
	{"temporary files", func(c *copies) string { return c.tmp }, []kindOfFault{once(unix.EIO), stays(unix.EIO), stays(unix.ENOSPC)}},
}

// kindOfFault is a fault without its place.
type kindOfFault struct {
	name string
	Fault
}

func once(err unix.Errno) kindOfFault {
	return kindOfFault{err.Error(), Fault{Err: err}}
}

func stays(err unix.Errno) kindOfFault {
	return kindOfFault{err.Error() + " from then on", Fault{Err: err, Stays: true}}
}

var endsEarly = kindOfFault{"file ends early", Fault{}}

var (
	allOperations = flag.Bool("all", false, "each operation fails; else of each kind of call one")
	firstAt       = flag.Int("first", 1, "with -all, where to begin")
	lastAt        = flag.Int("last", 0, "with -all, where to end; 0 for at the end")
	reportPath    = flag.String("report", "", "`file` that the results are added to, as a section in Markdown")
)

// Each operation of a small copy fails: in the repository, in the store, among
// the temporary files. The right image arrives, or there is an error; the store
// is whole, nothing but whole layers is left, and the next copy succeeds.
func TestCopiesWithFaults(t *testing.T) {
	needs.Root(t)
	needs.Tool(t, "mkfs.xfs", "mount")
	command := buildCommand(t)
	var rows []row
	for _, way := range []struct {
		name, image, driver string
		flags               []string
		kinds               int // how many of a place's; those with 1 are left out of the short form
	}{
		{"hello", "hello", "overlay", nil, 4},
		{"hello, extracted by the store", "hello", "overlay", []string{"--no-zero-copy"}, 1},
		{"hello, into vfs", "hello", "vfs", nil, 1},
		{"a generated image", "generated", "overlay", nil, 1},
	} {
		if !*allOperations && way.kinds == 1 {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			c := newCopies(t, command, way.image, way.driver, way.flags...)
			for _, place := range places {
				for _, kind := range place.kinds[:min(way.kinds, len(place.kinds))] {
					t.Run(place.name+", "+kind.name, func(t *testing.T) {
						seen := c.sweep(t, place.dir, kind.Fault)
						r := row{way.name, place.name, kind.name, seen.cases, seen.text(t.Failed())}
						t.Log(r)
						rows = append(rows, r)
					})
				}
			}
		})
	}
	addToReport(t, rows)
}

// sweep has each operation fail, or some of them.
func (c *copies) sweep(t *testing.T, dir func(*copies) string, f Fault) (seen outcomes) {
	if *allOperations {
		for f.At = *firstAt; (*lastAt == 0 || f.At <= *lastAt) && c.try(t, dir, f, &seen); f.At++ {
		}
		return seen
	}
	f.Dir = dir(c)
	f.Chroots = f.Dir == c.root
	result, err := f.Run(c.copyCommand())
	require.NoError(t, err)
	c.remove(t)
	for _, at := range sample(result.Calls, f == Fault{Dir: f.Dir, Chroots: f.Chroots, Err: unix.EIO}) {
		f.At = at
		c.try(t, dir, f, &seen)
	}
	return seen
}

// The driver overlay reads from the files "lower" which layers are below a layer,
// and does not say if it can't.
func TestLayersBelowAreNotLost(t *testing.T) {
	needs.Root(t)
	needs.Tool(t, "mkfs.xfs", "mount")
	command := buildCommand(t)
	for name, flags := range map[string][]string{"staged": nil, "extracted": {"--no-zero-copy"}} {
		if flags != nil && !*allOperations {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c := newCopies(t, command, "hello", "overlay", flags...)
			f := Fault{Dir: c.root, Err: unix.EIO}
			result, err := f.Run(c.copyCommand())
			require.NoError(t, err)
			c.remove(t)
			var seen outcomes
			for i, call := range result.Calls {
				if filepath.Base(call.File) == "lower" && (call.Name == "openat" || call.Name == "read") {
					f.At = i + 1
					c.try(t, func(c *copies) string { return c.root }, f, &seen)
				}
			}
			assert.Positive(t, seen.cases)
			t.Log(seen.text(t.Failed()))
		})
	}
}

// sample returns of each call one, in the middle of its kind, or of some calls,
// counted from 1.
func sample(calls []Call, all bool) (sampled []int) {
	places := map[string][]int{}
	for i, c := range calls {
		places[c.Name] = append(places[c.Name], i+1)
	}
	for _, at := range places {
		sampled = append(sampled, at[len(at)/2])
	}
	slices.Sort(sampled)
	if !all && len(sampled) > 3 {
		sampled = []int{sampled[0], sampled[len(sampled)/2], sampled[len(sampled)-1]}
	}
	return sampled
}

// text says what came of the cases.
func (seen outcomes) text(failed bool) string {
	if seen.cases == 0 {
		return "nothing is done there"
	}
	text := "holds"
	if failed {
		text = "**does not hold**"
	}
	text += fmt.Sprintf("; %d right images, %d errors", seen.right, seen.failed)
	if seen.unnamed > 0 {
		text += fmt.Sprintf(", %d of them with what came of the fault instead of its name", seen.unnamed)
	}
	if seen.panics > 0 {
		text += fmt.Sprintf(", %d of them a panic in containers/storage over a lock that it can't open", seen.panics)
	}
	if seen.strays > 0 {
		text += fmt.Sprintf("; %d could not clean up", seen.strays)
	}
	return text
}

// row is what came of all cases of a fault.
type row struct {
	copy, place, fault string
	cases              int
	outcome            string
}

func (r row) String() string {
	return fmt.Sprintf("| %s | %s | %s | %d | %s |", r.copy, r.place, r.fault, r.cases, r.outcome)
}

// addToReport adds the results to the file that is to have them.
func addToReport(t *testing.T, rows []row) {
	t.Helper()
	if *reportPath == "" {
		return
	}
	file, err := os.OpenFile(*reportPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer file.Close()
	_, err = file.WriteString(`
## A disk that fails

In ` + "`internal/faults`" + `, one operation on a file in the repository, in the store or among
the temporary files fails, of each copy another one, until all have failed that a
copy makes; or all fail from one on. Must hold: the right image arrives, or there is
an error, no image, and nothing but whole layers; the next copy succeeds, and leaves
nothing of the one that failed.

| Copy of | Where | What happens | Cases | Outcome |
| --- | --- | --- | --- | --- |
`)
	require.NoError(t, err)
	for _, r := range rows {
		_, err := fmt.Fprintln(file, r)
		require.NoError(t, err)
	}
}
