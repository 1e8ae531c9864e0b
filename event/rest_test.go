// Decoder.Rest: the bytes that the decoder has read after the last block that it returned.

package event_test

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

func TestRest(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for name, tt := range map[string]struct{ stream, rest string }{
		"nothing":                           {"data: a\n\n", ""},
		"CRLF":                              {"data: a\r\n\r\n", ""},
		"CR":                                {"data: a\r\r", ""},
		"byte order mark":                   {"\ufeffdata: a\n\n", ""},
		"no event stream":                   {`{"error":"quota"}`, `{"error":"quota"}`},
		"no event stream, then blank lines": {"{\"error\":\n\n\"quota\"}\n\n", "{\"error\":\n\n\"quota\"}\n\n"},
		"event cut off":                     {"data: a\n\nid: 2\ndata: b\nda", "id: 2\ndata: b\nda"},
		"blank line missing":                {"data: a\n\ndata: [DONE]\n", "data: [DONE]\n"},
		"comments and fields":               {"data: a\n\n: c\n\nid: 3\n\nretry: 5\n\nevent: e\n\n:\n\n", ""},
		"comment cut off":                   {"data: a\n\n: c\n\n: d", ": d"},
		"comments without blank lines":      {"data: a\n\n: c\n:\n: d\n", ""},
		"comment before an event cut off":   {"data: a\n\n: c\ndata: b\n: d\n", "data: b\n: d\n"},
		"text after an event":               {"data: a\n\nerror\n\n: c\n\n", "error\n\n: c\n\n"},
		"text before an event":              {"error\n\ndata: a\n\n", ""},
		"text within an event":              {"error\ndata: a\n\n: c\n\n", ""},
		"unknown field":                     {"datum: a\n\n", "datum: a\n\n"},
		"long":                              {"data: a\n\ndata: " + long, ("data: " + long)[:event.MaxRest]},
		"many lines":                        {strings.Repeat("0123456789\n", 10_000), strings.Repeat("0123456789\n", 10_000)[:event.MaxRest]},
	} {
		for readers, wrap := range map[string]func(io.Reader) io.Reader{
			"whole":      func(r io.Reader) io.Reader { return r },
			"bytes":      iotest.OneByteReader,
			"halves":     iotest.HalfReader,
			"with error": iotest.DataErrReader,
		} {
			t.Run(name+", "+readers, func(t *testing.T) {
				d := event.NewDecoder(wrap(strings.NewReader(tt.stream)))
				d.KeepRest = true
				for {
					if _, err := d.Decode(); err != nil {
						require.Equal(t, io.EOF, err)
						break
					}
				}
				require.Equal(t, tt.rest, string(d.Rest()))
				d.Reset(strings.NewReader("da"), "")
				_, err := d.Decode()
				require.Equal(t, io.EOF, err)
				require.Equal(t, "da", string(d.Rest()), "after a Reset")
			})
		}
	}
}

// restModel returns what Rest should return after the whole stream, which it takes line by
// line, and how many events the stream has.
func restModel(stream string) (rest string, events int) {
	stream = strings.TrimPrefix(stream, "\ufeff")
	from := 0                // where the rest begins
	var junk, data, set bool // in the rest; in the block
	for at := 0; ; {
		n := strings.IndexAny(stream[at:], "\r\n")
		if n < 0 {
			return stream[from:], events
		}
		line := stream[at : at+n]
		at += n + 1
		if stream[at-1] == '\r' && strings.HasPrefix(stream[at:], "\n") {
			at++
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data:
			junk, from = false, at
			events++
		case line == "" && !junk, name == "" && line != "" && !junk && !set:
			from = at
		case line == "" || name == "":
		case name == "data":
			data, set = true, true
		case name == "event":
			set = true
		case name == "id":
			set = set || !strings.Contains(value, "\x00")
		case name == "retry":
			_, err := strconv.ParseUint(strings.TrimLeft(value, "0")+"0", 10, 64)
			set = set || value != "" && strings.Trim(value, "0123456789") == "" && (err == nil || len(value) > 15)
		default:
			junk = true
		}
		if line == "" {
			data, set = false, false
		}
	}
}

// FuzzRest compares Rest with restModel, after each prefix of a short stream.
func FuzzRest(f *testing.F) {
	for _, stream := range []string{
		"data: a\n\n: c\n\nid: 2\ndata: b\n: c\nda",
		"data: a\r\n\r\nerror\r\n\r\n: c\r\n\r\nretry: 5\r\n\r\n",
		"{\"error\":\r\n\"quota\"}", ":\r:\r\r:\rid\r:\r\rdata\r\r",
		"\ufeff: c\n\nid: a\x00\n:\nretry: x\n:\n\ndatum\n:\n", "event: e\n\n\n\ndata:\n\nevent\n",
	} {
		f.Add(stream, uint8(1))
	}
	f.Fuzz(func(t *testing.T, stream string, size uint8) {
		shortest := len(stream)
		if len(stream) < 200 {
			shortest = 0
		}
		for cut := shortest; cut <= len(stream); cut++ {
			text := stream[:cut]
			want, events := restModel(text)
			d := event.NewDecoder(&pieces{text, int(size)})
			d.KeepRest = true
			n := 0
			for _, err := range d.All() {
				require.NoError(t, err)
				n++
			}
			require.Equal(t, events, n)
			require.Equal(t, want[:min(len(want), event.MaxRest)], string(d.Rest()), "after %q", text)
		}
	})
}

// pieces reads text in pieces of at most size bytes.
type pieces struct {
	text string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), max(1, p.size))], p.text)
	p.text = p.text[n:]
	return n, nil
}

// Heartbeats do not make an idle stream's decoder grow, whether a blank line follows them
// or not.
func TestRestOfHeartbeatsStaysEmpty(t *testing.T) {
	for _, beat := range []string{":\n\n", ": ping\r\n\r\n", ":\n", "\n", "event: ping\n\n", "id: 7\n\n", "retry: 5\n\n"} {
		d := event.NewDecoder(&pieces{strings.Repeat(beat, 100_000), len(beat)})
		d.KeepRest = true
		_, err := d.Decode()
		require.Equal(t, io.EOF, err)
		require.Less(t, cap(d.Rest()), 2<<10, "after %q", beat)
	}
}
