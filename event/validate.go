package event

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
	"unicode/utf8"
)

// FieldError says which field of an [Event] cannot be encoded, and why. Written
// out regardless, such a field would let whoever controls it forge other fields
// and events, or wedge the client with an id it cannot send back.
type FieldError struct {
	Field  string // the name of the struct field: "ID", "Name", "Data", "Comment", "Retry"
	Offset int    // the byte in the field at fault, or -1 if it is the field as a whole
	Reason string // "holds a line feed", …
}

func (e *FieldError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("event: %s %s", e.Field, e.Reason)
	}
	return fmt.Sprintf("event: %s %s at byte %d", e.Field, e.Reason, e.Offset)
}

// checkID accepts what is valid on the wire here and, unaltered, as an HTTP
// field value there (RFC 9110 §5.5), since that is how an id comes back.
func checkID(id string, reset bool) error {
	if reset {
		return &FieldError{"ID", -1, "is set together with ResetID"}
	}
	for i := range len(id) {
		if c := id[i]; c < ' ' && c != '\t' || c == 0x7f {
			return &FieldError{"ID", i, "holds " + controlName(c)}
		}
	}
	for _, i := range [...]int{0, len(id) - 1} {
		if isSpace(id[i]) {
			return &FieldError{"ID", i, "has a space or tab, which HTTP drops at either end,"}
		}
	}
	return checkText("ID", id)
}

func checkName(name string) error {
	if i := strings.IndexAny(name, "\r\n\x00"); i >= 0 {
		return &FieldError{"Name", i, "holds " + controlName(name[i])}
	}
	return checkText("Name", name)
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

func checkText(field, s string) error {
	if utf8.ValidString(s) {
		return nil
	}
	for i := 0; ; {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 {
			return &FieldError{field, i, "is not valid UTF-8"}
		}
		i += n
	}
}

func checkRetry(d time.Duration) error {
	switch {
	case d >= time.Millisecond, d == RetryImmediately:
		return nil
	case d < 0:
		return &FieldError{"Retry", -1, "is negative"}
	}
	return &FieldError{"Retry", -1, "is below a millisecond"}
}

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

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func controlName(c byte) string {
	switch c {
	case '\n':
		return "a line feed"
	case '\r':
		return "a carriage return"
	case 0:
		return "a NUL"
	}
	return fmt.Sprintf("the control character 0x%02X", c)
}
