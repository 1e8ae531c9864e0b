package main

import (
	"bytes"
	"unicode/utf8"
)

const (
	jsonWidth = 80 // columns of a line that holds an object or array as a whole
	jsonDepth = 40 // levels that are indented; else little data could fill the screen
)

// appendJSON appends compact, which is valid JSON without space between its tokens,
// laid out for people: an object or array stands on one line if it fits, and else
// has a line for each member. Nothing of it is changed, be it the order of keys, a
// key that is there twice, or the digits of a number.
func appendJSON(dst, compact []byte, color bool) []byte {
	l := layout{dst: dst, rest: compact, color: color}
	l.value(0, 0, false)
	return l.dst
}

type layout struct {
	dst   []byte
	rest  []byte // of the JSON
	color bool
}

// value appends one value, which starts at the given column.
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

// token takes a string, a number or a literal from the rest.
func (l *layout) token() (token []byte) {
	n := bytes.IndexAny(l.rest, ",]}") // a token stands in an object or array
	if l.rest[0] == '"' {
		n = stringLen(l.rest)
	}
	token, l.rest = l.rest[:n], l.rest[n:]
	return token
}

func (l *layout) paint(style style, token []byte) {
	l.dst = paint(l.dst, l.color, style, string(appendVisible(nil, string(token), inJSON, l.color)))
}

// take appends a byte of the rest.
func (l *layout) take() {
	l.dst, l.rest = append(l.dst, l.rest[0]), l.rest[1:]
}

func (l *layout) newLine(depth int) (column int) {
	l.dst = append(l.dst, '\n')
	for range depth {
		l.dst = append(l.dst, "  "...)
	}
	return 2 * depth
}

// fits reports whether the object or array that text starts with, and a comma after
// it, take no more columns than there are.
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

// stringLen returns the length of the JSON string that text starts with, with its
// quotes.
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
