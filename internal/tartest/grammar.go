// Package tartest makes tars for tests, ordinary ones and unusual ones, and unpacks
// them as containers-storage does it.
package tartest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

// grammar makes a tar of bytes, which are its choices: any bytes make one, and
// few of them make unusual ones. Zeros are the most ordinary choice.
type grammar struct {
	choices []byte
	out     bytes.Buffer

	fresh  int
	dirs   []string
	others []string
	files  []string // those of the others with a usual name
	// implied are directories with something in them, but no entry yet.
	implied []string
}

// Generate returns the tar that some choices make.
func Generate(choices []byte) []byte {
	g := &grammar{choices: choices, dirs: []string{""}}
	for n := 0; len(g.choices) > 0 && n < 24; n++ {
		g.entry()
	}
	g.trailer()
	return g.out.Bytes()
}

// Choices are the choices of a tar of the grammar, the same each time.
func Choices(seed int) []byte {
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	all := make([]byte, 5+random.IntN(120))
	for i := range all {
		all[i] = byte(random.IntN(256))
	}
	return all
}

func (g *grammar) next() int {
	if len(g.choices) == 0 {
		return 0
	}
	c := g.choices[0]
	g.choices = g.choices[1:]
	return int(c)
}

// rarely is true for so many of 256 choices.
func (g *grammar) rarely(n int) bool { return g.next() >= 256-n }

func choose[T any](g *grammar, of []T) T { return of[g.next()%len(of)] }

func (g *grammar) freshName() string {
	g.fresh++
	return fmt.Sprintf("n%d", g.fresh)
}

// record is a header, with what follows it.
type record struct {
	kind               byte
	name, target       string
	mode, uid, gid     int64
	time, size         int64
	major, minor       int64
	gnu, star, ancient bool
	gnuTimes           bool
	pax                []string // name, value, …
	content            string
}

// AccessList lets user 1000 write, too: user::rw-, user:1000:rw-, group::r--,
// mask::rw-, other::r--.
const AccessList = "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\xe8\x03\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"

// deep is a directory of 2000 bytes.
var deep = strings.Repeat(strings.Repeat("d", 199)+"/", 10)

var (
	modes   = []int64{0o644, 0o755, 0, 0o7777, 0o4755, 0o2711, 0o1777, 0o600, 0o100644, 0o40755, 0o177777, 1 << 23, 1<<31 | 0o644, 1<<40 | 0o4644}
	ids     = []int64{0, 1, 7, 1000, 65534, 65535, 65536, 100_000, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1, 1 << 32, 1<<32 + 5, -1, -2}
	seconds = []int64{1_600_000_000, 0, 1, 1 << 31, 1<<31 - 1, 1 << 33, 1 << 34, 1 << 35, 9223372036, 9223372037, 1 << 40, -1, -1000, -1 << 31, -1 << 33, -62135596800}
	devices = []int64{0, 1, 3, 8, 255, 256, 259, 4095, 4096, 1 << 20, 1<<20 - 1, 1 << 21}
	lengths = []int{5, 1, 511, 512, 513, 1024, 5000, 70_000, 200_000}
	paxTime = []string{"1600000000.123456789", "1600000000", "1.5", "0", "-1.5", "-0.000000001", "8589934592.25", "9223372036.854775807", "9223372036.854775808", "17179869184", "99999999999999", "1600000000.1234567899", "-99999999999", "-62135596800", "x", ""}
	odd     = []string{
		"", ".", "/", "./", "..", "../", "../x", "/..", "/../x", "a/../../x", "a//b", "./x", "/x", "//x", "x/", "x//", "x/.", "x/..", "x/./y", "a/../b", "./.", "./..",
		"/.", "/./", "\xff\xfe", "\xffd/\xfe", "ü", "日本/語", "new\nline", " ", "a ", "C:\\x", "*", "...", "..x", "x..", ".wh", ".w", "a\\b", "%s", "\x01", "~", "-", "a/b/c/d/e/f",
		strings.Repeat("l", 99), strings.Repeat("l", 100), strings.Repeat("l", 101), strings.Repeat("l", 255), strings.Repeat("l", 256),
		strings.Repeat("d/", 80) + "f", deep + strings.Repeat("f", 48), deep + strings.Repeat("f", 49), deep + deep + deep,
	}
	whiteouts = []string{
		"", ".wh..opq", ".wh.plnk", ".wh.aufs", ".wh.plnk/x", ".wh..opq/x", ".", "..", "...", "/", "/x", ".wh.", ".wh.x", " ", "x/", "x/y",
	}
	xattrNames = []string{
		"user.x", "user.y", "trusted.x", "security.capability", "security.selinux", "user.containers.override_stat", "system.posix_acl_access", "system.posix_acl_default",
		"security.x", "foo.bar", "user.", "user", "", "trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", "user." + strings.Repeat("x", 250), "user." + strings.Repeat("x", 251),
	}
	xattrValues = []string{
		"", "y", "\x00\x01\xff", "0:0:0755:dir", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", strings.Repeat("v", 3000), strings.Repeat("v", 70_000),
		AccessList,
	}
	otherRecords = [][2]string{
		{"comment", "x"}, {"path", "other"}, {"path", ""}, {"path", "d/other"}, {"linkpath", "other"}, {"size", "3"}, {"size", "-1"}, {"size", "0"}, {"uid", "12"}, {"gid", "4294967296"}, {"uid", "-5"}, {"uid", "x"},
		{"GNU.sparse.major", "1"}, {"GNU.sparse.map", "0,1"}, {"GNU.sparse.size", "5"}, {"GNU.sparse.realsize", "5"}, {"GNU.sparse.name", "sparse"}, {"SCHILY.devmajor", "5"}, {"SCHILY.fflags", "x"}, {"ctime", "5"},
		{"LIBARCHIVE.creationtime", "5"}, {"", "x"}, {"SCHILY.xattr", "x"}, {"schily.xattr.user.x", "x"}, {"SCHILY.xattr.user.x", "twice"}, {"hdrcharset", "BINARY"}, {"uname", "ü"}, {"LIBARCHIVE.xattr.user.z", "eA=="},
	}
)

// entry makes an entry, or a few.
func (g *grammar) entry() {
	r := &record{time: 1_600_000_000, mode: 0o644}
	switch v := g.next(); {
	case v < 110:
		r.kind = '0'
	case v < 160:
		r.kind, r.mode = '5', 0o755
	case v < 185:
		r.kind, r.target = '2', g.symlinkTarget()
	case v < 215:
		r.kind, r.target = '1', g.linkTarget()
	case v < 225:
		r.kind = '6'
	case v < 234:
		r.kind, r.major, r.minor = '3', choose(g, devices), choose(g, devices)
	case v < 243:
		r.kind, r.major, r.minor = '4', choose(g, devices), choose(g, devices)
	case v < 249: // whiteouts are made of names; here is one on its own
		g.whiteout()
		return
	case v < 252:
		g.otherKind()
		return
	default:
		r.kind = choose(g, []byte("07\x00SxgKLVMND9 "))
	}
	r.name = g.name(r.kind)
	g.metadata(r)
	g.content(r)
	g.write(r)
}

// name chooses the name of an entry of some kind, and notes it.
func (g *grammar) name(kind byte) string {
	dir := choose(g, g.dirs)
	name := dir + g.freshName()
	switch v := g.next(); {
	case v < 165:
		if kind != '5' {
			g.files = append(g.files, name)
		}
	case v < 186:
		above := dir + g.freshName()
		name = above + "/" + strings.TrimPrefix(name, dir)
		g.implied = append(g.implied, above)
	case v < 192 && kind == '5' && len(g.implied) > 0:
		last := len(g.implied) - 1
		name, g.implied = g.implied[last], g.implied[:last]
	case v < 200:
		name = choose(g, []string{"./", "/", "//", "././/", "x/../"}) + name
	case v < 206:
		name = dir + choose(g, odd)
	case v < 210:
		name = choose(g, odd)
	case v < 214 && len(g.others) > 0:
		name = choose(g, g.others)
	case v < 218 && kind == '5':
		name = strings.TrimSuffix(dir, "/")
	case v < 220 && len(g.others) > 0:
		name = choose(g, g.others) + "/" + name
	case v < 225:
		name = dir + ".wh." + choose(g, append(whiteouts, name))
	}
	if kind == '5' {
		if g.next() < 200 {
			name += "/"
		}
		g.dirs = append(g.dirs, strings.TrimSuffix(name, "/")+"/")
	} else {
		g.others = append(g.others, name)
	}
	return name
}

func (g *grammar) linkTarget() string {
	switch v := g.next(); {
	case v < 230 && len(g.files) > 0:
		target := choose(g, g.files)
		if g.rarely(20) {
			target = choose(g, []string{"/", "./", "x/../", "../", "//"}) + target
		}
		return target
	case v < 235 && len(g.others) > 0:
		return choose(g, g.others)
	case v < 238:
		return fmt.Sprintf("n%d", g.fresh+2) // one that comes later
	case v < 240:
		return strings.TrimSuffix(choose(g, g.dirs), "/")
	default:
		return choose(g, odd)
	}
}

func (g *grammar) symlinkTarget() string {
	switch v := g.next(); {
	case v < 100 && len(g.others) > 0:
		return choose(g, g.others)
	case v < 150:
		return strings.TrimSuffix(choose(g, g.dirs), "/") + "."
	case v < 200:
		return choose(g, []string{"x", "../x", "/etc/passwd", "../../../../etc", "/", ".", "..", "./x//y", strings.Repeat("t", 300), "\xff", "ü"})
	default:
		return "n" + choose(g, odd)
	}
}

func (g *grammar) whiteout() {
	dir := choose(g, g.dirs)
	if g.rarely(60) {
		dir += g.freshName() + "/"
	}
	r := &record{kind: '0', time: 1, name: dir + ".wh." + g.freshName()}
	switch v := g.next(); {
	case v < 120:
	case v < 200:
		r.name = dir + ".wh..wh..opq"
	case v < 240:
		r.name = dir + ".wh." + choose(g, whiteouts)
	case len(g.others) > 0:
		r.name = dir + ".wh." + choose(g, g.others)
	}
	g.metadata(r)
	if g.rarely(10) {
		r.kind = choose(g, []byte("1234567"))
	}
	if g.rarely(10) {
		g.content(r)
	}
	g.write(r)
}

// otherKind makes an entry of the archive as a whole, or a sparse file.
func (g *grammar) otherKind() {
	switch v := g.next(); {
	case v < 80:
		g.write(&record{kind: 'g', name: "pax_global_header", content: PAXRecords(choose(g, []string{"comment", "mtime", "SCHILY.xattr.user.x", "path"}), "5")})
	case v < 160:
		r := &record{kind: 'S', gnu: true, name: g.name('0'), size: 512, content: strings.Repeat("s", 512)}
		g.write(r)
	default:
		content := "1\n0\n512\n" + strings.Repeat("\x00", 504) + strings.Repeat("s", 512)
		r := &record{kind: '0', name: g.name('0'), content: content, size: int64(len(content))}
		r.pax = append(r.pax, "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", r.name, "GNU.sparse.realsize", "600")
		g.write(r)
	}
}

// metadata chooses all but name, kind and content.
func (g *grammar) metadata(r *record) {
	shape := g.next() // one choice for an entry with nothing special
	if shape < 60 {
		return
	}
	if shape&1 != 0 {
		r.mode = choose(g, modes)
	}
	if shape&2 != 0 {
		r.uid, r.gid = choose(g, ids[:6]), choose(g, ids[:6])
		if g.rarely(20) {
			r.uid = choose(g, ids)
		}
		if g.rarely(10) {
			r.gid = choose(g, ids)
		}
	}
	if shape&4 != 0 {
		r.time = choose(g, seconds)
	}
	if shape&8 != 0 {
		r.pax = append(r.pax, "mtime", choose(g, paxTime[:2+g.next()%(len(paxTime)-1)]))
	}
	if shape&16 != 0 {
		r.pax = append(r.pax, "atime", choose(g, paxTime[:2+g.next()%(len(paxTime)-1)]))
	}
	if shape&32 != 0 && r.kind == '5' && g.rarely(80) {
		r.pax = append(r.pax, "SCHILY.xattr.system.posix_acl_default", AccessList)
	}
	if shape&32 != 0 {
		for range 1 + g.next()%3 {
			name, value := choose(g, xattrNames[:4]), choose(g, xattrValues[:4])
			if name == "security.capability" {
				value = xattrValues[4]
			}
			if g.rarely(15) {
				name = choose(g, xattrNames)
			}
			if g.rarely(10) {
				value = choose(g, xattrValues)
			}
			r.pax = append(r.pax, "SCHILY.xattr."+name, value)
		}
	}
	if g.rarely(12) {
		other := choose(g, otherRecords)
		r.pax = append(r.pax, other[0], other[1])
	}
	if g.rarely(40) {
		r.gnu = true
		r.gnuTimes = g.rarely(128)
	}
	r.ancient = g.rarely(6)
	r.star = g.rarely(3)
}

func (g *grammar) content(r *record) {
	if r.kind == '0' || r.kind == '7' || r.kind == 0 {
		if v := g.next(); v > 40 {
			value := string(rune('a' + g.next()%26))
			r.content = strings.Repeat(value, lengths[g.next()%len(lengths[:5+4*(v>>7)])])
		}
	} else if g.rarely(3) {
		r.content = "x"
	}
	r.size = int64(len(r.content))
	if g.rarely(1) {
		r.size = choose(g, []int64{-1, 1 << 40, r.size + 1, r.size + 512, 1<<63 - 1})
	}
}

// write writes a record, after those for what does not fit into it.
func (g *grammar) write(r *record) {
	if len(r.name) > 100 || len(r.target) > 100 {
		if r.gnu {
			if len(r.name) > 100 {
				g.block(&record{kind: 'L', gnu: true, name: "././@LongLink", content: r.name + "\x00", size: int64(len(r.name)) + 1})
			}
			if len(r.target) > 100 {
				g.block(&record{kind: 'K', gnu: true, name: "././@LongLink", content: r.target + "\x00", size: int64(len(r.target)) + 1})
			}
		} else {
			r.pax = append([]string{"path", r.name, "linkpath", r.target}, r.pax...)
		}
	}
	if len(r.pax) > 0 {
		content := PAXRecords(r.pax...)
		g.block(&record{kind: 'x', name: "PaxHeaders/x", content: content, size: int64(len(content))})
	}
	g.block(r)
}

// PAXRecords returns the content of a PAX header of names and values: name, value, ….
func PAXRecords(all ...string) string {
	var out strings.Builder
	for i := 0; i < len(all); i += 2 {
		rest := " " + all[i] + "=" + all[i+1] + "\n"
		n := len(rest) + 1
		for len(fmt.Sprint(n))+len(rest) > n {
			n++
		}
		fmt.Fprint(&out, n, rest)
	}
	return out.String()
}

// block writes a header and the content.
func (g *grammar) block(r *record) {
	var b [512]byte
	copy(b[:100], r.name)
	number(b[100:108], r.mode)
	number(b[108:116], r.uid)
	number(b[116:124], r.gid)
	number(b[124:136], r.size)
	number(b[136:148], r.time)
	b[156] = r.kind
	copy(b[157:257], r.target)
	switch {
	case r.ancient:
	case r.gnu:
		copy(b[257:], "ustar  \x00")
	default:
		copy(b[257:], "ustar\x0000")
	}
	if !r.ancient {
		copy(b[265:], "user")
		copy(b[297:], "group")
		number(b[329:337], r.major)
		number(b[337:345], r.minor)
	}
	if r.gnuTimes {
		number(b[345:357], r.time+5)
		number(b[357:369], r.time)
	}
	if r.kind == 'S' {
		number(b[386:398], 0)
		number(b[398:410], 512)
		number(b[483:495], 600)
	}
	if r.star {
		copy(b[508:], "tar\x00")
	}
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	g.out.Write(b[:])
	g.out.WriteString(r.content)
	g.out.Write(make([]byte, -len(r.content)&511))
}

// number writes a number as octal digits, or as bytes where those don't suffice.
func number(field []byte, value int64) {
	if digits := fmt.Sprintf("%0*o", len(field)-1, value); value >= 0 && len(digits) < len(field) {
		copy(field, digits)
		return
	}
	for i := len(field) - 1; i >= 0; i-- {
		field[i] = byte(value)
		value >>= 8
	}
	field[0] |= 0x80
}

// trailer ends the archive.
func (g *grammar) trailer() {
	switch v := g.next(); {
	case v < 230:
		g.out.Write(make([]byte, 1024))
	case v < 235:
		g.out.Write(make([]byte, 512))
	case v < 245:
		g.out.Write(make([]byte, 10240))
	case v < 250:
		g.out.Write(make([]byte, 1024))
		g.out.WriteString(strings.Repeat("garbage", 100))
	}
}
