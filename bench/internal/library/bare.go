package library

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// Encoding and decoding without a library: an append that checks nothing, and a search
// for the blank lines after which events end.
func init() {
	Register(Library{
		Name: "unchecked append",
		Kind: Limit,
		Note: "splits data into lines at LF, and checks nothing",
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
		Note:   "finds where an event ends, and looks at none of its fields until it is checked",
		Decode: splitFrames,
	})
}

// appendFrame appends m as it goes over the wire.
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

// splitFrames hands each event of r to sink as data, field names and all.
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
