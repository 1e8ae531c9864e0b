package bench

import (
	"fmt"
	"io"
	"strings"
	"testing"

	gosse "github.com/tmaxmax/go-sse"

	"github.com/chi-sse/sse/event"
)

// stream is about a mebibyte of events of size bytes on the wire. The shapes are
// those that servers send most: a line of data, as LLM APIs do, or all of id, name
// and data.
func stream(full bool, size int) (text string, events int) {
	var b strings.Builder
	for i := 0; b.Len() < 1<<20; i++ {
		head := "data: {\"v\":\""
		if full {
			head = fmt.Sprintf("id: %d\nevent: price\n", i) + head
		}
		const tail = "\"}\n\n"
		b.WriteString(head)
		for n := size - len(head) - len(tail); n > 0; n-- {
			b.WriteByte(byte('a' + n%26))
		}
		b.WriteString(tail)
		events++
	}
	return b.String(), events
}

// BenchmarkDecode reads the same stream through an io.Reader with each decoder.
// Compare the MB/s of one shape and size.
func BenchmarkDecode(b *testing.B) {
	for _, shape := range []struct {
		name string
		full bool
		size int
	}{
		{"data/60B", false, 60},
		{"data/130B", false, 130},
		{"data/1KiB", false, 1 << 10},
		{"data/64KiB", false, 64 << 10},
		{"full/60B", true, 60},
		{"full/130B", true, 130},
		{"full/1KiB", true, 1 << 10},
		{"full/64KiB", true, 64 << 10},
	} {
		text, events := stream(shape.full, shape.size)
		run := func(name string, decode func(r io.Reader) (n int, bytes int)) {
			b.Run(shape.name+"/"+name, func(b *testing.B) {
				wantBytes := 0
				for ev, err := range event.NewDecoder(strings.NewReader(text)).All() {
					if err != nil {
						b.Fatal(err)
					}
					wantBytes += len(ev.Data) + len(ev.ID) + len(ev.Name)
				}
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					n, bytes := decode(strings.NewReader(text))
					if n != events || bytes != wantBytes {
						b.Fatalf("%d events of %d bytes, want %d of %d", n, bytes, events, wantBytes)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
			})
		}
		run("sse", func(r io.Reader) (n, bytes int) {
			for ev, err := range event.NewDecoder(r).All() {
				if err != nil {
					b.Fatal(err)
				}
				n++
				bytes += len(ev.Data) + len(ev.ID) + len(ev.Name)
			}
			return n, bytes
		})
		run("sse-raw", func(r io.Reader) (n, bytes int) {
			d := event.NewDecoder(r)
			for {
				ev, err := d.DecodeRaw()
				if err == io.EOF {
					return n, bytes
				}
				if err != nil {
					b.Fatal(err)
				}
				n++
				bytes += len(ev.Data) + len(ev.ID) + len(ev.Name)
			}
		})
		run("tmaxmax", func(r io.Reader) (n, bytes int) {
			for ev, err := range gosse.Read(r, &gosse.ReadConfig{MaxEventSize: 1 << 20}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
				bytes += len(ev.Data) + len(ev.LastEventID) + len(ev.Type)
			}
			return n, bytes
		})
	}
}
