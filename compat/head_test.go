package compat

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHead asks for the heads of streams alone: they are those of the streams,
// and no stream runs.
func TestHead(t *testing.T) {
	t.Parallel()
	for _, row := range rows() {
		if row.server != nil || row.config != nil {
			continue // it is all about time
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
						c.headOf(t, "/live") // which has no HEAD but by GetHead
					}
					c.ordinary(t)
				})
			}
		}
	}
}

func (c *cell) headOf(t *testing.T, path string) {
	t.Helper()
	t.Log("HEAD", path)
	call := c.do(t, http.MethodHead, c.at(path), "")
	c.isStream(t, call)
	body, err := io.ReadAll(call.Body)
	require.NoError(t, err)
	require.Empty(t, body)
	require.Empty(t, c.ends, "the handler has run")
}
