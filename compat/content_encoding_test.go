package compat

// This file proves that a compressed stream is never labeled as uncompressed.

import (
	"compress/gzip"
	"io"
	"net/http"
	"testing"

	"github.com/gorilla/handlers"
	"github.com/stretchr/testify/require"
)

// TestLabel has a compressor that nothing can switch off: gorilla's sets Content-Encoding
// as soon as a request arrives, and compresses every response. Where it engages, the stream
// cannot be sent uncompressed. The plugin may send it with the right label, or refuse it.
// It must not send compressed bytes that are labeled as uncompressed.
func TestLabel(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		for _, transport := range transports {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				for _, k := range kinds {
					t.Run(k.name, func(t *testing.T) {
						c := newCell(t, row{use: chain{handlers.CompressHandler}, wraps: true, encoding: "gzip", header: http.Header{"Vary": {"Accept-Encoding"}}}, place, transport)
						call := c.do(t, k.method, c.at(k.path), k.body)
						if !place.outside && k.name != "function" {
							c.isStream(t, call) // the compressor saw no Accept-Encoding
						}
						body := io.Reader(call.Body)
						if encoding := call.Header.Get("Content-Encoding"); encoding == "gzip" {
							var err error
							body, err = gzip.NewReader(call.Body)
							require.NoError(t, err)
						} else {
							require.Contains(t, []string{"", "identity"}, encoding)
						}
						if call.StatusCode != http.StatusOK {
							require.Equal(t, http.StatusInternalServerError, call.StatusCode)
							reason, err := io.ReadAll(body)
							require.NoError(t, err)
							require.Contains(t, string(reason), "the response cannot be streamed")
							c.log.expect("level=ERROR")
							return
						}
						c.steps.receive(t, body, nil)
						c.ends.next(t)
						c.ordinary(t)
					})
				}
			})
		}
	}
}
