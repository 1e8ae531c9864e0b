package event

import (
	"strings"
	"testing"
)

// benchEvents are two typical events: a small message, and one of a KiB in three lines.
var benchEvents = []struct {
	name  string
	event Event
	lines []string // the lines of Data
}{
	{"100B", Event{ID: "1000", Name: "price", Data: strings.Repeat("x", 64)}, []string{strings.Repeat("x", 64)}},
	{
		"3x1KiB",
		Event{ID: "1000", Name: "price", Data: strings.Repeat("x", 340) + "\n" + strings.Repeat("y", 340) + "\n" + strings.Repeat("z", 340)},
		[]string{strings.Repeat("x", 340), strings.Repeat("y", 340), strings.Repeat("z", 340)},
	},
}

// BenchmarkEncode measures AppendText into a reused buffer. It compares it with two
// encoders that write the same bytes without checking anything. "split" is what one would
// write by hand for a given Event. "presplit" gets the data as lines, so it only copies.
func BenchmarkEncode(b *testing.B) {
	for _, bench := range benchEvents {
		frame, _ := bench.event.MarshalText()
		buf := make([]byte, 0, 2*len(frame))
		run := func(name string, encode func(dst []byte) []byte) {
			b.Run(bench.name+"/"+name, func(b *testing.B) {
				if got := string(encode(buf[:0])); got != string(frame) {
					b.Fatalf("encoded %q, want %q", got, frame)
				}
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
				for b.Loop() {
					buf = encode(buf[:0])
				}
			})
		}
		run("AppendText", func(dst []byte) []byte {
			dst, _ = bench.event.AppendText(dst)
			return dst
		})
		run("split", func(dst []byte) []byte {
			e := &bench.event
			dst = append(dst, "event: "...)
			dst = append(dst, e.Name...)
			rest, more := e.Data, true
			for more {
				var line string
				line, rest, more = strings.Cut(rest, "\n")
				dst = append(dst, "\ndata: "...)
				dst = append(dst, line...)
			}
			dst = append(dst, "\nid: "...)
			dst = append(dst, e.ID...)
			return append(dst, "\n\n"...)
		})
		run("presplit", func(dst []byte) []byte {
			e := &bench.event
			dst = append(dst, "event: "...)
			dst = append(dst, e.Name...)
			for _, line := range bench.lines {
				dst = append(dst, "\ndata: "...)
				dst = append(dst, line...)
			}
			dst = append(dst, "\nid: "...)
			dst = append(dst, e.ID...)
			return append(dst, "\n\n"...)
		})
	}
}
