package event

// This file finds out how much of a text is plain, printable or ASCII, eight bytes at a
// time. Nearly all text is, from end to end, so one fast pass replaces several searches.

import (
	"math/bits"
	"strings"
	"unicode/utf8"
)

// plainLen returns how many leading bytes of s are plain. A plain byte is ASCII and not a
// control character, except that DEL is plain. Plain text is valid in every field except
// an ID, and contains no line end. Nearly all text is plain from end to end. This one
// pass then replaces a search for CR, a search for LF and a UTF-8 check.
func plainLen[T string | []byte](s T) int {
	p := s
	for len(p) > 32 {
		if (notPlain(word(p))|notPlain(word(p[8:]))|notPlain(word(p[16:]))|notPlain(word(p[24:])))&highBits != 0 {
			break
		}
		p = p[32:]
	}
	if len(s) >= 32 && len(p) <= 32 { // look at the last 32 bytes: the rest, and before it bytes known to be plain
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
	if len(s) >= 8 { // likewise with the last 8 bytes
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

// printable reports whether s is printable ASCII. It looks at all bytes of a string of 4
// to 8 bytes at once, because ids and names are often that short.
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

// notPlain returns a word in which the high bit of each byte is set if that byte of w is
// not plain. For a byte above ASCII the bit is already set in w. For a byte below ' ' the
// subtraction sets it. A borrow can also set the bit of a plain byte, but only if a byte
// before it is not plain. So the lowest bit that is set, and the answer for the word as a
// whole, are always right.
func notPlain(w uint64) uint64 { return w | (w - ' '*lowBits) }

// notPrintable is like notPlain, but the addition also sets the bit of a DEL.
func notPrintable(w uint64) uint64 { return notPlain(w) | (w + lowBits) }

// half returns the first 4 bytes of s in little-endian order.
func half(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

// word returns the first 8 bytes of s in little-endian order.
func word[T string | []byte](s T) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
