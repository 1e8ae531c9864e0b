package main

import (
	"bytes"
	"unicode/utf8"
)

const (
	jsonWidth = 80 // columns that an object or array on one line may take
	jsonDepth = 40 // levels that are indented; without a limit, little data could fill the screen
)

// appendJSON appends compact in a layout for people, and returns the result. compact must
// be valid JSON without space between its tokens. An object or array is on one line if it
// fits, or has one line for each member. Only space is added: keys keep their order and
// their duplicates, and numbers keep their digits.
func appendJSON(dst, compact []byte, color bool) []byte {
	l := layout{dst: dst, rest: compact, color: color}
	l.value(0, 0, false)
	return l.dst
}

// layout is the state of appendJSON.
type layout struct {
	dst   []byte
	rest  []byte // the JSON that is not in dst yet
	color bool
}

// value appends one value, which starts at column. With oneLine, it gets no line breaks.
func (l *layout) value(depth, column int, oneLine bool) {
	open := l.rest[0]
	if open != '{' && open != '[' {
		l.scalar()
		return
	}
	oneLine = oneLine || depth >= jsonDepth || fits(l.rest, jsonWidth-column)
	l.take()
	for l.rest[0] != '}' && l.rest[0] != ']' {
		if l.rest[0] == ',' {
			l.take()
			if oneLine {
				l.dst = append(l.dst, ' ')
			}
		}
		column := 0
		if !oneLine {
			column = l.newLine(depth + 1)
		}
		if open == '{' {
			key := l.token()
			l.paint(jsonKey, key)
			l.take()
			l.dst = append(l.dst, ' ')
			column += utf8.RuneCount(key) + 2
		}
		l.value(depth+1, column, oneLine)
	}
	if !oneLine {
		l.newLine(depth)
	}
	l.take()
}

// scalar appends a string, a number, or a literal.
func (l *layout) scalar() {
	switch token := l.token(); token[0] {
	case '"':
		l.paint(jsonString, token)
	case 't', 'f', 'n':
		l.paint(jsonLiteral, token)
	default:
		l.paint(jsonNumber, token)
	}
}

// token removes a string, a number, or a literal from the rest and returns it.
func (l *layout) token() (token []byte) {
	n := bytes.IndexAny(l.rest, ",]}") // a token is always in an object or array
	if l.rest[0] == '"' {
		n = stringLen(l.rest)
	}
	token, l.rest = l.rest[:n], l.rest[n:]
	return token
}

// paint appends a token in a style.
func (l *layout) paint(style style, token []byte) {
	l.dst = paint(l.dst, l.color, style, string(appendVisible(nil, string(token), inJSON, l.color)))
}

// take moves one byte from the rest to dst.
func (l *layout) take() {
	l.dst, l.rest = append(l.dst, l.rest[0]), l.rest[1:]
}

// newLine starts a line, indents it, and returns its column.
func (l *layout) newLine(depth int) (column int) {
	l.dst = append(l.dst, '\n')
	for range depth {
		l.dst = append(l.dst, "  "...)
	}
	return 2 * depth
}

// fits reports whether the object or array at the start of text, and a comma after it, fit
// into this many columns. An empty object or array always fits.
func fits(text []byte, columns int) bool {
	if text[1] == '}' || text[1] == ']' {
		return true
	}
	for depth := 0; columns > 0; {
		n := 1
		switch text[0] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return columns > 1
			}
		case ',', ':':
			columns--
		case '"':
			n = stringLen(text)
		}
		columns -= utf8.RuneCount(text[:n])
		text = text[n:]
	}
	return false
}

// stringLen returns the length in bytes of the JSON string at the start of text, including
// its quotes.
func stringLen(text []byte) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}
