// Decoder.Rest: the bytes that the decoder has read after the last block that it returned.

package event_test

import (
	"io"
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
				require.Equal(t, tt.rest, strings.ReplaceAll(string(d.Rest()), "\r", ""))
				d.Reset(strings.NewReader("da"), "")
				_, err := d.Decode()
				require.Equal(t, io.EOF, err)
				require.Equal(t, "da", string(d.Rest()), "after a Reset")
			})
		}
	}
}
