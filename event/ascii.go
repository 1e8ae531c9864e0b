package event

import (
	"math/bits"
	"strings"
	"unicode/utf8"
)

// plainLen returns how many leading bytes of s are ASCII and no control
// character but DEL: text that is valid in every field but an ID, and ends no
// line. Nearly all text is plain from end to end, and this one pass is then the
// only look it needs, in place of a search for CR, one for LF and a UTF-8 check.
func plainLen[T string | []byte](s T) int {
	p := s
	for len(p) > 32 {
		if (notPlain(word(p))|notPlain(word(p[8:]))|notPlain(word(p[16:]))|notPlain(word(p[24:])))&highBits != 0 {
			break
		}
		p = p[32:]
	}
	if len(s) >= 32 && len(p) <= 32 { // the rest, with bytes before it that are plain
		q := s[len(s)-32:]
		if (notPlain(word(q))|notPlain(word(q[8:]))|notPlain(word(q[16:]))|notPlain(word(q[24:])))&highBits == 0 {
			return len(s)
		}
	}
	for len(p) > 8 {
		if bad := notPlain(word(p)) & highBits; bad != 0 {
			return len(s) - len(p) + bits.TrailingZeros64(bad)/8
		}
		p = p[8:]
	}
	if len(s) >= 8 { // likewise
		if notPlain(word(s[len(s)-8:]))&highBits == 0 {
			return len(s)
		}
	}
	for i := range len(p) {
		if p[i]-' ' >= utf8.RuneSelf-' ' {
			return len(s) - len(p) + i
		}
	}
	return len(s)
}

// printable reports whether s is printable ASCII, looking at short strings, which
// ids and names are, in one go.
func printable(s string) bool {
	n := len(s)
	switch {
	case n > 8:
		return plainLen(s) == n && strings.IndexByte(s, 0x7f) < 0
	case n == 8:
		return notPrintable(word(s))&highBits == 0
	case n >= 4:
		return notPrintable(uint64(half(s))|uint64(half(s[n-4:]))<<32)&highBits == 0
	}
	for i := range n {
		if s[i]-' ' >= 0x7f-' ' {
			return false
		}
	}
	return true
}

// asciiLen returns how many leading bytes of b are ASCII.
func asciiLen(b []byte) int {
	p := b
	for len(p) > 32 && (word(p)|word(p[8:])|word(p[16:])|word(p[24:]))&highBits == 0 {
		p = p[32:]
	}
	for i := range p {
		if p[i] >= utf8.RuneSelf {
			return len(b) - len(p) + i
		}
	}
	return len(b)
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x80 * lowBits
)

// notPlain has the high bit of a byte set where w's byte is not plain: in w
// itself above ASCII, by the subtraction below ' '. A borrow starts only at a
// byte that is not plain, so bytes may be blamed wrongly, but never words.
func notPlain(w uint64) uint64 { return w | (w - ' '*lowBits) }

// notPrintable is notPlain that takes DEL in, by the addition.
func notPrintable(w uint64) uint64 { return notPlain(w) | (w + lowBits) }

func half(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func word[T string | []byte](s T) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
