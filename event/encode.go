package event

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// AppendText appends the event's wire form, with its closing blank line, to dst
// and returns the extended slice. Lines end with LF; fields stand in the order
// event, data, id, retry, comment.
//
// The error is a [*FieldError], and dst is then returned as it was. AppendText
// implements [encoding.TextAppender].
func (e Event) AppendText(dst []byte) ([]byte, error) {
	return e.appendTo(dst, nil)
}

// AppendWith appends e as [Event.AppendText] does, with data appended by
// appendData straight into the frame in place of e.Data. It is for encoders that
// write rather than return: no copy of the payload is made unless it holds line
// breaks. A data line is always written.
//
// appendData gets the frame so far, must append to it only, and returns the
// result. An error of it is returned as it is, with dst as it was. AppendWith panics if
// appendData is nil.
func AppendWith(dst []byte, e Event, appendData func(frame []byte) ([]byte, error)) ([]byte, error) {
	if appendData == nil {
		panic("event: AppendWith without appendData") // to appendTo it would mean e.Data
	}
	return e.appendTo(dst, appendData)
}

// AppendComment appends a block that holds only a comment, as a keep-alive does.
// Unlike an [Event]'s Comment the text may be empty. The error is a
// [*FieldError], and dst is then returned as it was.
func AppendComment(dst []byte, text string) ([]byte, error) {
	out, err := appendComment(dst, text)
	if err != nil {
		return dst, err
	}
	return append(out, "\n\n"...), nil
}

// MarshalText returns the event's wire form. It implements
// [encoding.TextMarshaler]; see [Event.AppendText] for the form and the error.
func (e Event) MarshalText() ([]byte, error) {
	return e.AppendText(nil)
}

// WriteTo writes the event's wire form to w in one Write. It implements
// [io.WriterTo]. If the event is refused (see [Event.AppendText]), nothing is
// written.
func (e Event) WriteTo(w io.Writer) (int64, error) {
	frame, err := e.AppendText(nil)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(frame)
	return int64(n), err
}

// appendTo is AppendText, or AppendWith if there is an appendData. Nearly all events
// are no more than a name, plain data and an id: they pass through this one function, and
// the end of a line is appended with what begins the next. It saves them a tenth.
func (e *Event) appendTo(dst []byte, appendData func(frame []byte) ([]byte, error)) ([]byte, error) {
	out, open := dst, true // open: the last line is still to be ended
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

// silent reports whether a field is set that dispatches nothing.
func (e *Event) silent() bool {
	return e.ID != "" || e.ResetID || e.Retry != 0 || e.Comment != ""
}

// appendDataWith lets appendData append the data, and puts prefixes into it where it has
// line breaks.
func appendDataWith(dst []byte, appendData func(frame []byte) ([]byte, error)) ([]byte, error) {
	start := len(dst)
	out, err := appendData(dst)
	if err != nil {
		return dst, err
	}
	data := out[start:]
	n := plainLen(data)
	switch {
	case bytes.ContainsAny(data[n:], "\r\n"):
		return appendLines(out[:start], "Data", "data: ", string(data), n)
	case n < len(data) && !utf8.Valid(data):
		return dst, checkText("Data", string(data))
	}
	return out, nil
}

// appendRest appends the fields that few events have, and the blank line.
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

// appendComment appends the lines of a comment, the last without its end.
func appendComment(dst []byte, text string) ([]byte, error) {
	return appendLines(append(dst, ": "...), "Comment", ": ", text, plainLen(text))
}

// appendLines appends text, of which the first n bytes are plain. Before each line but
// the first stands prefix, and the last is left without its end. On an error dst is left
// with half of it.
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
	// Past plain text: one look at the whole, then a search for the ends of lines. There
	// may be none of one kind, which is therefore looked for only when one is passed.
	if err := checkText(field, text); err != nil {
		return dst, err
	}
	lf, cr := -1, -1 // the next ones
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

// breakLen is the length of the line break that s begins with.
func breakLen(s string) int {
	if s[0] == '\r' && len(s) > 1 && s[1] == '\n' {
		return 2
	}
	return 1
}

// indexFrom returns where c stands in s, from i on, or else the length of s.
func indexFrom(s string, c byte, i int) int {
	if n := strings.IndexByte(s[i:], c); n >= 0 {
		return i + n
	}
	return len(s)
}
