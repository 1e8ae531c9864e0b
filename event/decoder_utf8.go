package event

import (
	"slices"
	"unicode/utf8"
)

// mend makes v, a view that is not ASCII, valid UTF-8.
func (d *Decoder) mend(v *value) {
	if text, valid := d.text(v.from, v.to); !valid {
		d.block.taken += len(text)
		v.setCopy(text)
	}
}

// text returns buf[from:to] as the UTF-8 decode algorithm would (WHATWG Encoding
// §4.10.1), and whether that is what it is: each maximal subpart of an ill-formed
// sequence becomes one U+FFFD.
func (d *Decoder) text(from, to int) (text []byte, valid bool) {
	text = d.buf[from:to]
	if utf8.Valid(text) {
		return text, true
	}
	d.mended = slices.Grow(d.mended[:0], len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 {
			n = illFormedLen(text)
		}
		d.mended = utf8.AppendRune(d.mended, r)
		text = text[n:]
	}
	return d.mended, false
}

// illFormedLen returns the length of the maximal subpart of the ill-formed UTF-8
// sequence that p begins with (Unicode, section 3.9, table 3-7): as many bytes as
// could have begun a well-formed one, and at least one.
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
