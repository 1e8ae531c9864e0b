//go:build linux

package main

import (
	"strconv"
	"strings"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/stream"
)

// shape describes the events that are encoded, decoded, or read by a client.
type shape struct {
	Name   string // the approximate size of an encoded event, in bytes
	Title  string
	Fields bool // the event has id and event fields, not only data
	Size   int  // bytes of data
	Lines  int  // lines of data
}

var (
	tokens = shape{"60", "60 bytes, one line of data and no other field, as LLM APIs send them", false, 52, 1}
	tiny   = shape{"60-fields", "60 bytes, with id and event", true, 30, 1}
	small  = shape{"100", "about 100 bytes, with id and event", true, eventSize, 1}
	pages  = shape{"1024", "1 KiB, with id, event, and data of three lines", true, 980, 3}
	large  = shape{"65536", "64 KiB, one line of data and no other field", false, 64<<10 - 8, 1}
)

// message returns event seq in this shape.
func (s shape) message(seq int) (m library.Message) {
	m.Data = stream.Data(seq, s.Size)
	if s.Lines > 1 {
		data := []byte(m.Data)
		for i := 1; i < s.Lines; i++ {
			data[i*len(data)/s.Lines] = '\n'
		}
		m.Data = string(data)
	}
	if s.Fields {
		m.ID, m.Name = strconv.Itoa(seq), eventName
	}
	return m
}

// text returns count events in the wire format.
func (s shape) text(count int) string {
	var b strings.Builder
	for seq := range count {
		m := s.message(seq)
		if s.Fields {
			b.WriteString("id: " + m.ID + "\nevent: " + m.Name + "\n")
		}
		for line := range strings.SplitSeq(m.Data, "\n") {
			b.WriteString("data: " + line + "\n")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// mebibyte returns how many events make about one mebibyte.
func (s shape) mebibyte() int { return 1 << 20 / len(s.text(1)) }
