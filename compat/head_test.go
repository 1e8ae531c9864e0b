package compat

// This file proves that a HEAD request for a stream gets the stream's header, and that no
// handler runs.

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHead sends HEAD requests for streams.
func TestHead(t *testing.T) {
	t.Parallel()
	for _, row := range rows() {
		if row.server != nil || row.config != nil {
			continue // this row is only about time
		}
		for _, place := range row.in() {
			if row.head && place.name == around.name {
				continue // chi's GetHead needs chi around it
			}
			for _, transport := range []transport{http1, http2} {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					c := newCell(t, row, place, transport)
					c.headOf(t, "/events")
					if row.head && place.routed {
						c.headOf(t, "/live") // only GetHead answers HEAD here
					}
					c.ordinary(t)
				})
			}
		}
	}
}

// headOf sends a HEAD request for path, and requires the header of a stream and no body.
func (c *cell) headOf(t *testing.T, path string) {
	t.Helper()
	t.Log("HEAD", path)
	call := c.do(t, http.MethodHead, c.at(path), "")
	c.isStream(t, call)
	body, err := io.ReadAll(call.Body)
	require.NoError(t, err)
	require.Empty(t, body)
	require.Empty(t, c.ends, "the handler must not run")
}
