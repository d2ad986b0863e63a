package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// spelled writes to a terminal what does not print spelled out, but for the ends of
// lines and tabs.
type spelled struct {
	out  io.Writer
	left []byte // the beginning of a character
}

func (s *spelled) Write(p []byte) (int, error) {
	return len(p), s.write(p, false)
}

// end writes what was left.
func (s *spelled) end() error { return s.write(nil, true) }

func (s *spelled) write(p []byte, all bool) error {
	text := append(s.left, p...)
	var b strings.Builder
	for len(text) > 0 && (all || utf8.FullRune(text)) {
		r, size := utf8.DecodeRune(text)
		if r == '\n' || r == '\t' {
			b.WriteRune(r)
		} else {
			spell(&b, r, text[:size])
		}
		text = text[size:]
	}
	s.left = append([]byte(nil), text...)
	_, err := io.WriteString(s.out, b.String())
	return err
}

// spell writes a character, which raw is, spelled out if it does not print.
func spell(b *strings.Builder, r rune, raw []byte) {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		fmt.Fprintf(b, `\x%02x`, raw[0])
	case !strconv.IsPrint(r):
		b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
	default:
		b.WriteRune(r)
	}
}
