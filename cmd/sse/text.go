package main

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// style is how text looks: the parameters of an SGR escape sequence. The colors are among
// the 240 of 256 that no theme of a terminal changes, and can be read on white and on black.
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

// nameStyles are the styles for the names of events.
var nameStyles = []style{
	"1;38;5;27", "1;38;5;28", "1;38;5;30", "1;38;5;64",
	"1;38;5;98", "1;38;5;130", "1;38;5;133", "1;38;5;161",
}

// paint appends text in a style to dst, or as it is if color is false.
func paint(dst []byte, color bool, style style, text string) []byte {
	if !color || style == plain {
		return append(dst, text...)
	}
	return fmt.Appendf(dst, "\x1b[%sm%s\x1b[m", style, text)
}

// place is where text is printed. It decides which characters are escaped, and how.
type place int

const (
	inLine place = iota // line breaks are escaped too
	inText              // line breaks stay
	inJSON              // line breaks are escaped too, and the escapes are those of JSON
)

// visible returns text with escapes for all characters that could affect a terminal.
func visible(text string, where place) string {
	return string(appendVisible(nil, text, where, false))
}

// appendVisible appends the result of visible to dst, with the escapes in reverse video if
// color is true.
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
		case r == utf8.RuneError && where != inJSON: // invalid UTF-8
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

// harmless returns how many bytes at the start of text can be printed as they are.
func harmless(text string, where place) int {
	for i, r := range text {
		switch {
		case r == '\t' || r == '\n' && where == inText:
		case r == utf8.RuneError && !isReplacement(text[i:]), affectsTerminal(r):
			return i
		}
	}
	return len(text)
}

// isReplacement reports whether text starts with an encoded U+FFFD, rather than with
// invalid UTF-8.
func isReplacement(text string) bool {
	_, size := utf8.DecodeRuneInString(text)
	return size > 1
}

// affectsTerminal reports whether r could do more to a terminal than take up space. Such
// characters are the control characters, including C1, the line and paragraph separators,
// and those that change the direction of the text around them.
func affectsTerminal(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}
