package genimage

import (
	"archive/tar"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"time"
)

// What there is one of in so many files.
const (
	filesAPackage = 40
	filesASymlink = 12
	filesALink    = 30 // hard link
	filesASetID   = 2000
	filesACapable = 2500 // with a file capability
	filesANano    = 50   // with a time that is no whole second
	filesAReplace = 40   // of an upper layer: in place of one of a lower layer
	filesAGone    = 60   // of an upper layer: whiteout
)

// Generate plans the layers of an image. Spec's numbers must be positive, but
// for Bytes and Seed, which may be 0.
func Generate(s Spec) ([]*Layer, error) {
	if s.Files < 1 || s.Layers < 1 || s.Bytes < 0 {
		return nil, errors.New("an image needs a file and a layer at least")
	}
	r := rand.New(rand.NewPCG(s.Seed, 0))
	p := &planner{Rand: r, seed: s.Seed << 32, sizes: sizes(r, s.Files, s.Bytes), below: map[string]bool{}}
	var layers []*Layer
	for i := range s.Layers {
		files := len(p.sizes)
		switch {
		case i == s.Layers-1:
		case i == 0:
			files /= 2
		default:
			files /= s.Layers - i
		}
		layers = append(layers, p.layer(files, i > 0))
	}
	return layers, nil
}

// planner plans layers, from the lowest to the highest.
type planner struct {
	*rand.Rand
	seed     uint64  // of the next file's content
	sizes    []int64 // of the files still to be made
	packages int

	below map[string]bool // files of the layers below that are still to be seen
	files []string        // those, in order, and others that are gone

	current *Layer          // the layer being planned
	dirs    map[string]bool // its directories
	taken   map[string]bool // its other entries
	added   []entry         // its files
	opaque  string          // its opaque directory, until something is in it
}

// one tells, once in n times, true.
func (p *planner) one(n int) bool { return p.IntN(n) == 0 }

func (p *planner) layer(files int, upper bool) *Layer {
	l := &Layer{}
	p.current, p.dirs, p.taken, p.added, p.opaque = l, map[string]bool{}, map[string]bool{}, nil, ""
	if upper {
		p.hide(files)
	}
	for files > 0 {
		n := min(files, 1+p.IntN(2*filesAPackage))
		p.pack(n, upper)
		files -= n
	}
	for _, e := range p.added {
		if !p.below[e.header.Name] {
			p.below[e.header.Name] = true
			p.files = append(p.files, e.header.Name)
		}
	}
	return l
}

// hide plans an opaque directory, the whiteout of another one, and those of
// files.
func (p *planner) hide(files int) {
	if dir, ok := p.lowerDir(); ok {
		p.mark(path.Join(dir, ".wh..wh..opq"))
		p.forget(dir)
		p.opaque = dir
	}
	if dir, ok := p.lowerDir(); ok && !within(dir, p.opaque) && !within(p.opaque, dir) {
		p.mark(path.Join(path.Dir(dir), ".wh."+path.Base(dir)))
		p.forget(dir)
	}
	for range files/filesAGone + 1 {
		if file, ok := p.lower(); ok {
			p.mark(path.Join(path.Dir(file), ".wh."+path.Base(file)))
			delete(p.below, file)
		}
	}
}

// lowerDir returns a directory of the layers below that only one package has
// files in.
func (p *planner) lowerDir() (string, bool) {
	for range 10 {
		if file, ok := p.lower(); ok && strings.Count(file, "/") > 3 {
			return path.Dir(file), true
		}
	}
	return "", false
}

func within(dir, parent string) bool { return strings.HasPrefix(dir+"/", parent+"/") }

// mark plans a whiteout.
func (p *planner) mark(name string) {
	if !p.taken[name] {
		p.taken[name] = true
		p.add(entry{header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}})
	}
}

// forget removes the files in a directory from those below.
func (p *planner) forget(dir string) {
	for file := range p.below {
		if within(file, dir) {
			delete(p.below, file)
		}
	}
}

// lower returns a file of the layers below.
func (p *planner) lower() (string, bool) {
	if len(p.files) == 0 {
		return "", false
	}
	for range 10 {
		if file := p.files[p.IntN(len(p.files))]; p.below[file] && !p.taken[file] {
			return file, true
		}
	}
	return "", false
}

// places are where a package's files are: %s is its name, %d its own number.
var places = []struct {
	dir, ending string
	mode        int64
	weight      int
}{
	{"usr/bin", "", 0o755, 3},
	{"usr/lib/%s", ".so.1", 0o644, 6},
	{"usr/lib/%s/modules", ".mod", 0o644, 4},
	{"usr/lib/%s/python3/site", ".py", 0o644, 9},
	{"usr/lib/%s/libexec", "", 0o755, 2},
	{"usr/share/doc/%s", ".txt", 0o644, 3},
	{"usr/share/%s/locale/LC_MESSAGES", ".mo", 0o644, 7},
	{"usr/share/%s/icons/48x48", ".png", 0o644, 4},
	{"etc/%s", ".conf", 0o644, 2},
	{"var/lib/%s", ".db", 0o640, 1},
}

// pack plans the files of a package, and its links.
func (p *planner) pack(files int, upper bool) {
	p.packages++
	name := fmt.Sprintf("%s-%s%d", words[p.IntN(len(words))], words[p.IntN(len(words))], p.packages)
	changed := epoch.Add(time.Duration(p.IntN(300*24*3600)) * time.Second)
	for i := range files {
		place := places[p.place()]
		dir := place.dir
		if strings.Contains(dir, "%s") {
			dir = fmt.Sprintf(dir, name)
		}
		if p.opaque != "" {
			dir, p.opaque = p.opaque, ""
		}
		e := entry{header: tar.Header{
			Typeflag: tar.TypeReg,
			Name:     fmt.Sprintf("%s/%s-%d-%d%s", dir, words[p.IntN(len(words))], p.packages, i, place.ending),
			Mode:     place.mode, ModTime: changed,
		}}
		if upper && p.one(filesAReplace) {
			if file, ok := p.lower(); ok {
				e.header.Name = file
			}
		}
		p.file(e)
	}
}

// place picks one by weight.
func (p *planner) place() int {
	n := p.IntN(41) // the weights together
	for i := range places {
		if n -= places[i].weight; n < 0 {
			return i
		}
	}
	return 0
}

// file plans a file, of the next size, and what comes with it.
func (p *planner) file(e entry) {
	e.header.Size, p.sizes = p.sizes[0], p.sizes[1:]
	e.content = p.seed
	p.seed++
	if n := len(p.added); n > 0 && p.added[n-1].header.Size == e.header.Size {
		e.content = p.added[n-1].content
	}
	switch {
	case p.one(filesASetID), len(p.added) == 0:
		e.header.Mode = 0o4755
	case p.one(filesACapable), len(p.added) == 1:
		e.header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capability}
	case p.one(filesANano):
		e.header.ModTime = e.header.ModTime.Add(time.Duration(p.IntN(1e9)))
		e.header.Format = tar.FormatPAX
	case strings.HasPrefix(e.header.Name, "var/"):
		e.header.Uid, e.header.Gid = 100+p.IntN(20), 100
	}
	p.taken[e.header.Name] = true
	p.add(e)
	p.added = append(p.added, e)

	if p.one(filesASymlink) {
		p.add(entry{header: tar.Header{
			Typeflag: tar.TypeSymlink, Name: e.header.Name + ".link", Linkname: path.Base(e.header.Name),
			Mode: 0o777, ModTime: e.header.ModTime.Truncate(time.Second),
		}})
	}
	if p.one(filesALink) || len(p.added) == 3 {
		to := p.added[p.IntN(len(p.added))].header
		to.Typeflag, to.Linkname, to.Name, to.Size = tar.TypeLink, to.Name, e.header.Name+".same", 0
		p.add(entry{header: to})
	}
}

// add plans an entry, after those directories of its path that the layer does
// not have yet.
func (p *planner) add(e entry) {
	p.dir(path.Dir(e.header.Name))
	if e.header.ModTime.IsZero() {
		e.header.ModTime = epoch
	}
	p.current.entries = append(p.current.entries, e)
}

func (p *planner) dir(dir string) {
	if dir == "." || p.dirs[dir] {
		return
	}
	p.dir(path.Dir(dir))
	p.dirs[dir] = true
	p.current.entries = append(p.current.entries, entry{header: tar.Header{
		Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755,
		ModTime: epoch.Add(time.Duration(p.IntN(300*24*3600)) * time.Second),
	}})
}

// capability is what the kernel keeps in security.capability: revision 2,
// effective, cap_net_raw permitted.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

var words = strings.Fields(`amber base cedar delta ember fable grain harbor iris juniper kernel
	lumen maple nectar ocean pepper quartz river sable tulip umbra velvet willow xylem yarrow zephyr`)
