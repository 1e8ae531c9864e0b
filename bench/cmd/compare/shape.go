//go:build linux

package main

import (
	"strconv"
	"strings"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/stream"
)

// shape is what events look like that are encoded, decoded and read by a client.
type shape struct {
	Name   string // about the bytes of a frame
	Title  string
	Fields bool // id and event, beside data
	Size   int  // of the data
	Lines  int
}

var (
	tokens = shape{"60", "60 bytes, a line of data alone as LLM APIs send it", false, 52, 1}
	small  = shape{"100", "about 100 bytes, with id and event", true, eventSize, 1}
	pages  = shape{"1024", "1 KiB, with id, event, and data of three lines", true, 980, 3}
	large  = shape{"65536", "64 KiB, a line of data alone", false, 64<<10 - 8, 1}
)

// message returns event seq.
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

// text returns count events as they go over the wire.
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

// mebibyte is how many events are about that long.
func (s shape) mebibyte() int { return 1 << 20 / len(s.text(1)) }
