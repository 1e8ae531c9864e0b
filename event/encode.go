package event

// This file is the encoder. It appends the wire form of an Event or a comment to a byte
// slice, and refuses whatever a client could not read back. The checks are in
// validate.go.

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// AppendText appends the event's wire form, including the blank line that ends it, to
// dst and returns the extended slice. Lines end with LF. Fields are written in the order
// event, data, id, retry, comment.
//
// If a field cannot be encoded, AppendText returns dst unchanged and a [*FieldError]. It
// implements [encoding.TextAppender].
func (e Event) AppendText(dst []byte) ([]byte, error) {
	return e.appendTo(dst, nil)
}

// AppendWith appends e as [Event.AppendText] does, but takes the data from appendData
// instead of e.Data. Use it with a serializer that can append to a slice: the payload is
// then written directly into the frame. AppendWith always writes a data line, even if e is
// otherwise silent.
//
// appendData receives the frame so far. It must only append to the frame, and returns
// the extended slice. If it returns an error, AppendWith returns dst unchanged and that
// same error. If a field or the data cannot be encoded, AppendWith returns dst unchanged
// and a [*FieldError]. It panics if appendData is nil.
func AppendWith(dst []byte, e Event, appendData func(frame []byte) ([]byte, error)) ([]byte, error) {
	if appendData == nil {
		panic("event: AppendWith: appendData must not be nil") // appendTo would write e.Data instead
	}
	return e.appendTo(dst, appendData)
}

// AppendComment appends a block that consists of a comment alone, such as a keep-alive,
// to dst and returns the extended slice. Unlike an [Event]'s Comment, text may be empty.
// If text cannot be encoded, AppendComment returns dst unchanged and a [*FieldError].
func AppendComment(dst []byte, text string) ([]byte, error) {
	out, err := appendComment(dst, text)
	if err != nil {
		return dst, err
	}
	return append(out, "\n\n"...), nil
}

// MarshalText returns the event's wire form in a new slice. [Event.AppendText] describes
// the form and the error. MarshalText implements [encoding.TextMarshaler].
func (e Event) MarshalText() ([]byte, error) {
	return e.AppendText(nil)
}

// WriteTo writes the event's wire form to w with a single call of Write, and returns
// what Write returned. If a field cannot be encoded, WriteTo writes nothing and returns a
// [*FieldError]. It implements [io.WriterTo].
func (e Event) WriteTo(w io.Writer) (int64, error) {
	frame, err := e.AppendText(nil)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(frame)
	return int64(n), err
}

// appendTo implements AppendText, and AppendWith if appendData is not nil. Nearly all
// events have only a name, plain data and an id. This one function appends all three, and
// appends the end of a line together with the beginning of the next. That makes these
// events a tenth faster to encode.
func (e *Event) appendTo(dst []byte, appendData func(frame []byte) ([]byte, error)) ([]byte, error) {
	out, open := dst, true // open: the last line has no LF yet
	var err error
	switch {
	case e.Name != "":
		if !printable(e.Name) {
			if err := checkName(e.Name); err != nil {
				return dst, err
			}
		}
		out = append(out, "event: "...)
		out = append(out, e.Name...)
		out = append(out, "\ndata: "...)
	case e.Data != "" || appendData != nil || !e.silent():
		out = append(out, "data: "...)
	default:
		open = false
	}
	if appendData != nil {
		if out, err = appendDataWith(out, appendData); err != nil {
			return dst, err
		}
	} else if n := plainLen(e.Data); n == len(e.Data) {
		out = append(out, e.Data...)
	} else if out, err = appendLines(out, "Data", "data: ", e.Data, n); err != nil {
		return dst, err
	}
	if e.ID != "" {
		if last := len(e.ID) - 1; e.ResetID || !printable(e.ID) || e.ID[0] == ' ' || e.ID[last] == ' ' {
			if err := checkID(e.ID, e.ResetID); err != nil {
				return dst, err
			}
		}
		if open {
			out = append(out, "\nid: "...)
		} else {
			out = append(out, "id: "...)
		}
		out = append(out, e.ID...)
		open = true
	}
	if !e.ResetID && e.Retry == 0 && e.Comment == "" {
		return append(out, "\n\n"...), nil
	}
	if out, err = e.appendRest(out, open); err != nil {
		return dst, err
	}
	return out, nil
}

// silent reports whether e sets a field that does not make clients dispatch an event: ID,
// ResetID, Retry or Comment. It does not look at Name and Data.
func (e *Event) silent() bool {
	return e.ID != "" || e.ResetID || e.Retry != 0 || e.Comment != ""
}

// appendDataWith calls appendData to append the data. If the data contains line breaks, each
// further line gets its "data: " prefix.
func appendDataWith(dst []byte, appendData func(frame []byte) ([]byte, error)) ([]byte, error) {
	start := len(dst)
	out, err := appendData(dst)
	if err != nil {
		return dst, err
	}
	data := out[start:]
	n := plainLen(data)
	if n == len(data) {
		return out, nil
	}
	if !utf8.Valid(data[n:]) { // what is plain ends no character halfway
		return dst, checkText("Data", string(data))
	}
	return splitLines(out, start+n), nil
}

// splitLines puts "data: " before each line but the first of the text that begins at start in
// buf. A line break becomes LF. The text is moved to its end in the grown buffer, and from there
// it comes back line by line: where it is written is never beyond where it is read.
func splitLines(buf []byte, start int) []byte {
	text := buf[start:]
	const prefix = "\ndata: "
	breaks := bytes.Count(text, []byte{'\n'}) + bytes.Count(text, []byte{'\r'}) // or fewer: a CRLF is one
	if breaks == 0 {
		return buf
	}
	grow := breaks * (len(prefix) - 1)
	buf = slices.Grow(buf, grow)[:len(buf)+grow]
	text = buf[start+grow:]
	copy(text, buf[start:])
	nextLF, nextCR := -1, -1 // where they are in text, from i on; each is searched for again only when it has been passed
	for at, i := start, 0; ; {
		if nextLF < i {
			nextLF = indexBytesFrom(text, '\n', i)
		}
		if nextCR < i {
			nextCR = indexBytesFrom(text, '\r', i)
		}
		end := min(nextLF, nextCR)
		at += copy(buf[at:], text[i:end])
		if end == len(text) {
			return buf[:at]
		}
		i = end + breakLen(text[end:])
		at += copy(buf[at:], prefix)
	}
}

// appendRest appends the fields that few events have (an id reset, Retry and Comment)
// and the blank line. If open is set, the last line has no LF yet.
func (e *Event) appendRest(dst []byte, open bool) ([]byte, error) {
	if open {
		dst = append(dst, '\n')
	}
	if e.ResetID {
		dst = append(dst, "id:\n"...)
	}
	if e.Retry != 0 {
		if err := checkRetry(e.Retry); err != nil {
			return dst, err
		}
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, max(0, e.Retry.Milliseconds()), 10)
		dst = append(dst, '\n')
	}
	if e.Comment != "" {
		var err error
		if dst, err = appendComment(dst, e.Comment); err != nil {
			return dst, err
		}
		dst = append(dst, '\n')
	}
	return append(dst, '\n'), nil
}

// appendComment appends the lines of a comment, without the LF of the last line.
func appendComment(dst []byte, text string) ([]byte, error) {
	return appendLines(append(dst, ": "...), "Comment", ": ", text, plainLen(text))
}

// appendLines appends the lines of text. It puts prefix before each line except the
// first, and appends no LF after the last. The first n bytes of text are known to be
// plain (see plainLen). If text is not valid UTF-8, appendLines returns a FieldError for
// the given field, and part of text may already have been appended.
func appendLines(dst []byte, field, prefix, text string, n int) ([]byte, error) {
	rest := text
	for {
		dst = append(dst, rest[:n]...)
		if n == len(rest) {
			return dst, nil
		}
		rest = rest[n:]
		if rest[0] != '\n' && rest[0] != '\r' {
			break
		}
		dst = append(dst, '\n')
		dst = append(dst, prefix...)
		rest = rest[breakLen(rest):]
		n = plainLen(rest)
	}
	// The text is not plain from here on. Validate all of it once, then search for line
	// ends. The text may have no LF or no CR at all, so each is searched for again only
	// after the last one found has been passed.
	if err := checkText(field, text); err != nil {
		return dst, err
	}
	lf, cr := -1, -1 // where the next LF and CR of rest are
	for i := 0; ; {
		if lf < i {
			lf = indexFrom(rest, '\n', i)
		}
		if cr < i {
			cr = indexFrom(rest, '\r', i)
		}
		end := min(lf, cr)
		dst = append(dst, rest[i:end]...)
		if end == len(rest) {
			return dst, nil
		}
		dst = append(dst, '\n')
		dst = append(dst, prefix...)
		i = end + breakLen(rest[end:])
	}
}

// breakLen returns the length of the line break at the start of s: 2 for CRLF, else 1.
func breakLen[T string | []byte](s T) int {
	if s[0] == '\r' && len(s) > 1 && s[1] == '\n' {
		return 2
	}
	return 1
}

// indexFrom returns the index of the first c in s at or after i, or len(s) if there is
// none.
func indexFrom(s string, c byte, i int) int {
	if n := strings.IndexByte(s[i:], c); n >= 0 {
		return i + n
	}
	return len(s)
}

// indexBytesFrom is indexFrom for bytes.
func indexBytesFrom(b []byte, c byte, i int) int {
	if n := bytes.IndexByte(b[i:], c); n >= 0 {
		return i + n
	}
	return len(b)
}
