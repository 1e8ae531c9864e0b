package event

// This file replaces ill-formed UTF-8 in values, as the WHATWG Encoding standard says.

import (
	"slices"
	"unicode/utf8"
)

// replaceInvalid makes v valid UTF-8. V must be a view that is not ASCII. It becomes a
// copy if something had to be replaced.
func (d *Decoder) replaceInvalid(v *value) {
	if text, valid := d.validText(v.from, v.to); !valid {
		d.block.valueBytes += len(text)
		v.setCopy(text)
	}
}

// validText returns buf[from:to] as the UTF-8 decode algorithm would decode it (WHATWG
// Encoding §8.1.1): each maximal subpart of an ill-formed sequence becomes one U+FFFD. It
// also reports whether the bytes were valid as they are. If not, the result is valid until
// the next call.
func (d *Decoder) validText(from, to int) (text []byte, valid bool) {
	text = d.buf[from:to]
	if utf8.Valid(text) {
		return text, true
	}
	d.repaired = slices.Grow(d.repaired[:0], len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 {
			n = illFormedLen(text)
		}
		d.repaired = utf8.AppendRune(d.repaired, r)
		text = text[n:]
	}
	return d.repaired, false
}

// illFormedLen returns the length of the maximal subpart of the ill-formed UTF-8 sequence
// at the start of p (Unicode, section 3.9, table 3-7). It consists of as many bytes as
// could have begun a well-formed sequence, and of at least one.
func illFormedLen(p []byte) int {
	lo, hi, need := byte(0x80), byte(0xBF), 0
	switch c := p[0]; {
	case c >= 0xC2 && c <= 0xDF:
		need = 1
	case c >= 0xE0 && c <= 0xEF:
		need = 2
		if c == 0xE0 {
			lo = 0xA0 // below: overlong
		} else if c == 0xED {
			hi = 0x9F // above: surrogates
		}
	case c >= 0xF0 && c <= 0xF4:
		need = 3
		if c == 0xF0 {
			lo = 0x90 // below: overlong
		} else if c == 0xF4 {
			hi = 0x8F // above: beyond U+10FFFF
		}
	}
	n := 1
	for n <= need && n < len(p) && p[n] >= lo && p[n] <= hi {
		n, lo, hi = n+1, 0x80, 0xBF
	}
	return n
}
