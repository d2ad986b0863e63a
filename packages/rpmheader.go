package packages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The tags of a header that are read, and the types of what they stand for; see
// rpmtag.h of rpm.
const (
	tagName      = 1000
	tagVersion   = 1001
	tagRelease   = 1002
	tagEpoch     = 1003
	tagSize      = 1009
	tagArch      = 1022
	tagSourceRPM = 1044
	tagLongSize  = 5009

	typeInt32  = 4
	typeInt64  = 5
	typeString = 6
)

// rpmTypes are the types that the tags have.
var rpmTypes = map[int32]uint32{
	tagName: typeString, tagVersion: typeString, tagRelease: typeString, tagEpoch: typeInt32,
	tagSize: typeInt32, tagArch: typeString, tagSourceRPM: typeString, tagLongSize: typeInt64,
}

// rpm's own bounds of a header.
const (
	maxEntries    = 0xffff
	maxHeaderData = 256 << 20 // bytes
)

// entry is an entry of a header's index: what is in the data at an offset.
type entry struct {
	Tag    int32
	Type   uint32
	Offset int32
	Count  uint32
}

// readHeader returns the package that a header of a database describes: an index and
// data, each with its size before it all. No more of the header is read than has what
// is asked for.
func readHeader(r io.Reader) (Package, error) {
	entries, size, err := readIndex(r)
	if err != nil {
		return Package{}, notCut(err)
	}
	p := Package{Kind: RPM}
	var version, release, epoch string
	data := dataReader{r: r, size: size}
	for _, e := range entries {
		value, err := data.value(e)
		if err != nil {
			return Package{}, notCut(err)
		}
		switch e.Tag {
		case tagName:
			p.Name = value.text
		case tagVersion:
			version = value.text
		case tagRelease:
			release = value.text
		case tagEpoch:
			epoch = fmt.Sprintf("%d:", uint32(value.number))
		case tagSize:
			p.Size = max(p.Size, int64(uint32(value.number)))
		case tagLongSize:
			p.Size = max(p.Size, value.number)
		case tagArch:
			p.Arch = value.text
		case tagSourceRPM:
			p.Source = sourceName(value.text)
		}
	}
	if p.Name == "" || version == "" || release == "" {
		return Package{}, fmt.Errorf("%w: a header without a name, a version or a release", ErrFormat)
	}
	if epoch == "0:" {
		epoch = ""
	}
	p.Version = epoch + version + "-" + release
	return p, nil
}

// readIndex reads the index, and returns the entries that are asked for in the order
// of their data, with the data's size in bytes.
func readIndex(r io.Reader) ([]entry, int64, error) {
	var lengths struct{ Entries, Data uint32 }
	if err := binary.Read(r, binary.BigEndian, &lengths); err != nil {
		return nil, 0, err
	}
	if lengths.Entries < 1 || lengths.Entries > maxEntries || lengths.Data > maxHeaderData {
		return nil, 0, fmt.Errorf("%w: a header of %d entries and %d bytes", ErrFormat, lengths.Entries, lengths.Data)
	}
	const size = 16
	index := make([]byte, size*lengths.Entries)
	if _, err := io.ReadFull(r, index); err != nil {
		return nil, 0, err
	}
	wanted := map[int32]entry{}
	for ; len(index) > 0; index = index[size:] {
		e := entry{
			Tag: int32(binary.BigEndian.Uint32(index)), Type: binary.BigEndian.Uint32(index[4:]),
			Offset: int32(binary.BigEndian.Uint32(index[8:])), Count: binary.BigEndian.Uint32(index[12:]),
		}
		if want, ok := rpmTypes[e.Tag]; !ok {
			continue
		} else if e.Type != want || e.Count != 1 || e.Offset < 0 || uint32(e.Offset) >= lengths.Data {
			return nil, 0, fmt.Errorf("%w: tag %d of type %d at %d of %d bytes", ErrFormat, e.Tag, e.Type, e.Offset, lengths.Data)
		}
		wanted[e.Tag] = e // what was changed after the package was built comes last
	}
	entries := make([]entry, 0, len(wanted))
	for _, e := range wanted {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return int(a.Offset) - int(b.Offset) })
	return entries, int64(lengths.Data), nil
}

// value is what an entry stands for.
type value struct {
	text   string
	number int64
}

// dataReader reads the data of a header. Entries must come in order.
type dataReader struct {
	r    io.Reader
	size int64
	at   int64  // how much of it was read
	last []byte // what was read last, up to there
}

// value returns the value of an entry.
func (d *dataReader) value(e entry) (value, error) {
	switch e.Type {
	case typeInt32:
		b, err := d.bytes(e, 4)
		if err != nil || len(b) < 4 {
			return value{}, orCut(err)
		}
		return value{number: int64(binary.BigEndian.Uint32(b))}, nil
	case typeInt64:
		b, err := d.bytes(e, 8)
		if err != nil || len(b) < 8 {
			return value{}, orCut(err)
		}
		return value{number: int64(binary.BigEndian.Uint64(b))}, nil
	}
	b, err := d.bytes(e, maxText+1)
	if err != nil {
		return value{}, err
	}
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return value{}, fmt.Errorf("%w: tag %d does not end within %d bytes", ErrFormat, e.Tag, len(b))
	}
	return value{text: string(b[:end])}, nil
}

// bytes returns count bytes from an entry's offset on, or as many as there are. What
// one entry's bytes have in common with the next one's is kept.
func (d *dataReader) bytes(e entry, count int64) ([]byte, error) {
	from, to := int64(e.Offset), min(int64(e.Offset)+count, d.size)
	if from >= d.at {
		if _, err := io.CopyN(io.Discard, d.r, from-d.at); err != nil {
			return nil, err
		}
		d.at, d.last = from, nil
	} else {
		d.last = d.last[int64(len(d.last))-(d.at-from):]
	}
	if have := int64(len(d.last)); to > d.at {
		d.last = append(d.last, make([]byte, to-d.at)...)
		if _, err := io.ReadFull(d.r, d.last[have:]); err != nil {
			return nil, err
		}
		d.at = to
	}
	return d.last[:to-from], nil
}

// errCut: a header ends before its data does.
var errCut = fmt.Errorf("%w: a header that ends early", ErrFormat)

func orCut(err error) error {
	if err == nil {
		return errCut
	}
	return err
}

// notCut returns an error as it is, unless it says that a header ended.
func notCut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

// sourceName returns the name in that of a source package's file,
// NAME-VERSION-RELEASE.src.rpm.
func sourceName(file string) string {
	for range 2 {
		dash := strings.LastIndexByte(file, '-')
		if dash < 0 {
			return ""
		}
		file = file[:dash]
	}
	return file
}
