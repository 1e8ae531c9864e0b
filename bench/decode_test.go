package bench

import (
	"fmt"
	"io"
	"strings"
	"testing"

	gosse "github.com/tmaxmax/go-sse"

	"github.com/chi-sse/sse/event"
)

// stream is about a mebibyte of events of size bytes on the wire, as servers
// send them: an id, a name, a line of JSON.
func stream(size int) (text string, events int) {
	var b strings.Builder
	for i := 0; b.Len() < 1<<20; i++ {
		head := fmt.Sprintf("id: %d\nevent: price\ndata: {\"v\":\"", i)
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
// Compare the MB/s of one size.
func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{60, 130, 1 << 10, 64 << 10} {
		text, events := stream(size)
		run := func(name string, decode func(r io.Reader) (n int, bytes int)) {
			b.Run(fmt.Sprintf("%dB/%s", size, name), func(b *testing.B) {
				wantBytes := 0
				for ev := range event.NewDecoder(strings.NewReader(text)).All() {
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
