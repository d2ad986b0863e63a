package bootc

import (
	"cmp"
	"strings"
)

// compareVersions compares versions as boot menus do: see UAPI.10, the version
// format specification. It is negative if a is the older one.
func compareVersions(a, b string) int {
	for {
		a, b = strings.TrimLeftFunc(a, isNoise), strings.TrimLeftFunc(b, isNoise)
		if c, both := compareMark(&a, &b, '~'); both {
			continue
		} else if c != 0 {
			return c
		}
		if a == "" || b == "" {
			return cmp.Compare(len(a), len(b))
		}
		matched := false
		for _, mark := range []byte("-^.") {
			c, both := compareMark(&a, &b, mark)
			if c != 0 {
				return c
			}
			if matched = both; both {
				break
			}
		}
		if matched {
			continue
		}
		if c := compareParts(&a, &b); c != 0 {
			return c
		}
	}
}

// isNoise tells whether a character has no part in a version.
func isNoise(r rune) bool { return !isDigit(r) && !isLetter(r) && !strings.ContainsRune("~-^.", r) }

func isDigit(r rune) bool  { return r >= '0' && r <= '9' }
func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

// compareMark takes a mark off both versions; where only one has it, that is
// the older.
func compareMark(a, b *string, mark byte) (c int, both bool) {
	inA, inB := strings.HasPrefix(*a, string(mark)), strings.HasPrefix(*b, string(mark))
	switch {
	case inA && inB:
		*a, *b = (*a)[1:], (*b)[1:]
		return 0, true
	case inA:
		return -1, false
	case inB:
		return 1, false
	}
	return 0, false
}

// compareParts takes a number off both versions where one begins with a number,
// else a word, and compares them.
func compareParts(a, b *string) int {
	of, numeric := isLetter, false
	if isDigit(rune((*a)[0])) || isDigit(rune((*b)[0])) {
		of, numeric = isDigit, true
	}
	partA, partB := takePart(a, of), takePart(b, of)
	if numeric {
		partA, partB = strings.TrimLeft(partA, "0"), strings.TrimLeft(partB, "0")
		if c := cmp.Compare(len(partA), len(partB)); c != 0 {
			return c
		}
	}
	return cmp.Compare(partA, partB)
}

// takePart takes the characters of a kind off the beginning of s.
func takePart(s *string, of func(rune) bool) string {
	rest := strings.TrimLeftFunc(*s, of)
	part := (*s)[:len(*s)-len(rest)]
	*s = rest
	return part
}
