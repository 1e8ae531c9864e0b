package event_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/chi-sse/sse/event"
)

// BenchmarkDecodeLongLine decodes one event with a long line, in small reads. A byte must
// cost the same in a line that is ten times as long. So for a given way of reading, the
// MB/s of all sizes should agree. A decoder that repeats its search, or moves its buffer,
// at each read is slower by a factor of the number of reads in a line.
func BenchmarkDecodeLongLine(b *testing.B) {
	for _, text := range []struct{ name, unit, lineEnd string }{
		{"ASCII", "x", "\n"},
		{"UTF-8", "ü", "\n"},
		{"ill-formed", "\xFF", "\n"},
		{"CR", "x", "\r"},
	} {
		for _, chunk := range []int{16, 1460, 64 << 10} {
			for _, size := range []int{64 << 10, 512 << 10, 5 << 20} {
				line := "data: " + strings.Repeat(text.unit, size/len(text.unit)) + text.lineEnd
				stream := []byte("id: 1" + text.lineEnd + line + text.lineEnd)
				b.Run(fmt.Sprintf("%s/reads=%d/line=%dKiB", text.name, chunk, size>>10), func(b *testing.B) {
					b.SetBytes(int64(len(stream)))
					b.ReportAllocs()
					var r bytes.Reader
					for b.Loop() {
						r.Reset(stream)
						if _, err := event.NewDecoder(limitedReads{&r, chunk}).DecodeRaw(); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// limitedReads is a reader that returns at most max bytes at a time.
type limitedReads struct {
	r   io.Reader
	max int
}

func (l limitedReads) Read(p []byte) (int, error) { return l.r.Read(p[:min(len(p), l.max)]) }
