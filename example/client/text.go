package main

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// style is how text looks: the parameters of an SGR sequence. The colors are of the
// 256 that do not change with a terminal's theme, and stand out against a white
// background as well as a black one.
type style string

const (
	plain   style = ""
	dim     style = "38;5;243"
	good    style = "38;5;28"
	warning style = "38;5;130"
	bad     style = "38;5;161"

	jsonKey     style = "38;5;31"
	jsonString  style = "38;5;28"
	jsonNumber  style = "38;5;130"
	jsonLiteral style = "38;5;133"
)

// nameStyles are those for the names of events.
var nameStyles = []style{
	"1;38;5;27", "1;38;5;28", "1;38;5;30", "1;38;5;64",
	"1;38;5;98", "1;38;5;130", "1;38;5;133", "1;38;5;161",
}

// paint appends text in a style.
func paint(dst []byte, color bool, style style, text string) []byte {
	if !color || style == plain {
		return append(dst, text...)
	}
	return fmt.Appendf(dst, "\x1b[%sm%s\x1b[m", style, text)
}

// place is where text stands, which says what may be in it and how the rest is
// written.
type place int

const (
	inLine place = iota // a line break is not welcome
	inText              // lines
	inJSON              // what is written otherwise must still be JSON
)

// visible returns text with all that could drive a terminal as an escape.
func visible(text string, where place) string {
	return string(appendVisible(nil, text, where, false))
}

// appendVisible appends text as visible returns it, with the escapes standing out if
// there is color.
func appendVisible(dst []byte, text string, where place, color bool) []byte {
	for len(text) > 0 {
		n := harmless(text, where)
		dst, text = append(dst, text[:n]...), text[n:]
		if text == "" {
			break
		}
		r, size := utf8.DecodeRuneInString(text)
		if color {
			dst = append(dst, "\x1b[7m"...)
		}
		switch {
		case r == utf8.RuneError && where != inJSON: // no UTF-8
			dst = fmt.Appendf(dst, `\x%02x`, text[0])
		case r == '\n':
			dst = append(dst, `\n`...)
		case r < utf8.RuneSelf && where != inJSON:
			dst = fmt.Appendf(dst, `\x%02x`, r)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		if color {
			dst = append(dst, "\x1b[27m"...)
		}
		text = text[size:]
	}
	return dst
}

// harmless returns how many bytes of text can be printed as they are.
func harmless(text string, where place) int {
	for i, r := range text {
		switch {
		case r == '\t' || r == '\n' && where == inText:
		case r == utf8.RuneError && !isReplacement(text[i:]), drives(r):
			return i
		}
	}
	return len(text)
}

// isReplacement reports whether text starts with U+FFFD itself.
func isReplacement(text string) bool {
	_, size := utf8.DecodeRuneInString(text)
	return size > 1
}

// drives reports whether r could do something to a terminal other than to take up
// space: control characters, C1 among them, and those that turn the direction of
// the text around them.
func drives(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}
