package library

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// Encoding and decoding without a library. The encoder appends and checks nothing. The
// decoder searches for the blank lines that end events.
func init() {
	Register(Library{
		Name: "unchecked append",
		Kind: Limit,
		Note: "splits data into lines at LF and checks nothing",
		NewEncode: func() Encode {
			var buf []byte
			return func(m Message) ([]byte, error) {
				buf = appendFrame(buf[:0], m)
				return buf, nil
			}
		},
	})
	Register(Library{
		Name:   "blank line search",
		Kind:   Limit,
		Note:   "only finds where each event ends; its fields are read only in the check before timing",
		Decode: splitFrames,
	})
}

// appendFrame appends m in the wire format to dst and returns the extended slice.
func appendFrame(dst []byte, m Message) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, m.Name...)
	for rest, more := m.Data, true; more; {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		dst = append(dst, "\ndata: "...)
		dst = append(dst, line...)
	}
	dst = append(dst, "\nid: "...)
	dst = append(dst, m.ID...)
	return append(dst, "\n\n"...)
}

// splitFrames reads the events of r and passes each to sink as data: the whole event,
// with its field names. It returns when sink wants no more, at the end of r, or with the
// error of reading r.
func splitFrames(r io.Reader, sink Sink) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), 1<<20)
	in.Split(func(data []byte, _ bool) (advance int, token []byte, err error) {
		i := bytes.Index(data, []byte("\n\n"))
		if i < 0 {
			return 0, nil, nil
		}
		return i + 2, data[:i], nil
	})
	for in.Scan() {
		if !sink.RawEvent(nil, nil, in.Bytes()) {
			return nil
		}
	}
	return in.Err()
}
