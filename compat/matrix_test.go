package compat

// This file proves that a stream arrives whole, uncompressed and at once in every cell of
// the matrix, and that ordinary responses on the same connection are not affected.

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestMatrix runs the script in each row, at each place, over each transport and on each
// kind of route. It also sends ordinary requests on the same connection, during a stream (over
// HTTP/2) and after it.
func TestMatrix(t *testing.T) {
	t.Parallel()
	for _, row := range rows() {
		for _, place := range row.in() {
			for _, transport := range transports {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					newCell(t, row, place, transport).allKinds(t)
				})
			}
		}
	}
}

// kind represents a way to register a stream on a route.
type kind struct {
	name, method, path, body string
}

var kinds = []kind{
	{"SSE", http.MethodGet, "/events", ""},
	{"Method", http.MethodPost, "/chat", `{"say":"hello"}`},
	{"function", http.MethodPost, "/chat2", `{"say":"hello"}`},
}

// cell represents one cell of the matrix, with a running server.
type cell struct {
	row
	place
	*testServer
	steps *lockstep
	log   *logBuffer // what the plugin logs
	ends  ends       // the ends of its sessions
}

func newCell(t *testing.T, row row, place place, transport transport) *cell {
	t.Helper()
	c := &cell{
		row:   row,
		place: place,
		steps: newLockstep(row.pause),
		log:   new(logBuffer),
		ends:  make(ends, 16),
	}
	cfg := sse.Config{
		Logger:  slog.New(slog.NewTextHandler(c.log, nil)),
		OnClose: func(_ *sse.ServerSession, end sse.End) { c.ends <- end },
	}
	if row.config != nil {
		row.config(&cfg)
	}
	c.testServer = transport.start(t, place.build(row.use, cfg, c.routes), row.server)
	if place.outside && row.late != "" {
		c.errorLog.expect(row.late)
	}
	t.Cleanup(func() { assert.Empty(t, c.log.lines(), "the plugin logged something") })
	return c
}

// routes registers the routes of a cell.
func (c *cell) routes(r *sse.Router) {
	play := func(s *sse.ServerSession) error {
		body, err := io.ReadAll(s.Call().Body)
		if err != nil {
			return fmt.Errorf("request body: %w", err)
		}
		if s.Call().Method == http.MethodPost && string(body) != `{"say":"hello"}` {
			return fmt.Errorf("request body %q", body)
		}
		return c.steps.send(s)
	}
	r.SSE("/events", play)
	r.Method(http.MethodPost, "/chat", r.SSEHandler(play))
	r.Post("/chat2", inFunction(r.SSEHandler(play)))
	r.Get("/live", r.SSEHandler(play).ServeHTTP) // for HEAD requests by GetHead
	r.Get("/ordinary", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", c.ordinaryType())
		io.WriteString(w, ordinaryBody)
	})
}

// at returns path in the form that the row and the place need.
func (c *cell) at(path string) string {
	if c.slash && c.beforeRouting {
		path += "/"
	}
	return c.prefix + path
}

// allKinds runs the script on each kind of route, and sends an ordinary request after each.
func (c *cell) allKinds(t *testing.T) {
	t.Helper()
	for _, kind := range kinds {
		c.stream(t, kind)
		c.ordinary(t)
	}
}

// stream runs the script on a route. Over HTTP/2 it also sends an ordinary request during
// the stream.
func (c *cell) stream(t *testing.T, k kind) {
	t.Helper()
	t.Log("a stream on a route by", k.name)
	call := c.do(t, k.method, c.at(k.path), k.body)
	c.isStream(t, call)
	var meanwhile func()
	if c.isHTTP2() {
		meanwhile = func() { c.ordinary(t) }
	}
	c.steps.receive(t, call.Body, meanwhile)
	require.Empty(t, call.Trailer)

	end := c.ends.next(t)
	require.Equal(t, sse.EndReturned, end.Reason, "%v: %v", end.Reason, end.Err)
	require.NoError(t, end.Err)
	require.EqualValues(t, len(script), end.Events)
	require.Equal(t, scriptBytes(), end.Bytes)
}

// isStream requires the status and the header of a stream.
func (c *cell) isStream(t *testing.T, call *call) {
	t.Helper()
	require.Equal(t, http.StatusOK, call.StatusCode)
	require.False(t, call.Uncompressed, "the client decompressed the stream")
	want := http.Header{
		"Content-Type":      {"text/event-stream"},
		"Cache-Control":     {"no-store, no-transform"},
		"X-Accel-Buffering": {"no"},
	}
	if !c.isHTTP2() {
		want["Connection"] = []string{"keep-alive"}
	}
	maps.Copy(want, c.header)
	if c.outside && (c.encoding != "" || c.opaque) {
		want["Content-Encoding"] = []string{"identity"} // which keeps a compressor away; otherwise it may not be there
	}
	got := call.Header.Clone()
	slices.Sort(got["Vary"])
	got["Vary"] = slices.Compact(got["Vary"]) // the plugin does not set Vary, and several middlewares may
	if len(got["Vary"]) == 0 {
		delete(got, "Vary")
	}
	if call.Request.Method == http.MethodHead && got["Content-Encoding"] == nil {
		delete(want, "Content-Encoding") // gzhttp does not compress an answer to HEAD
	}
	require.Len(t, got["Date"], 1)
	delete(got, "Date")
	require.Equal(t, want, got)
}

// ordinaryBody is larger than the threshold of any compressor.
var ordinaryBody = `["` + strings.Repeat("an ordinary response ", 400) + `"]`

// ordinaryType returns the Content-Type of the ordinary response.
func (c *cell) ordinaryType() string {
	if c.row.ordinary != "" {
		return c.row.ordinary
	}
	return "application/json"
}

// ordinary sends an ordinary request on the same connection. The response must arrive at
// once, and must be compressed if the row compresses.
func (c *cell) ordinary(t *testing.T) {
	t.Helper()
	call := c.do(t, http.MethodGet, c.at("/ordinary"), "")
	require.Equal(t, http.StatusOK, call.StatusCode)
	require.Equal(t, c.ordinaryType(), call.Header.Get("Content-Type"))
	require.Equal(t, c.encoding, call.Header.Get("Content-Encoding"))
	for name := range c.header {
		require.Contains(t, call.Header, name)
	}
	body, err := io.ReadAll(call.Body)
	require.NoError(t, err)
	require.Equal(t, ordinaryBody, decoded(t, c.encoding, body))
}

var unzstd = must(zstd.NewReader(nil))

// decoded returns body without the given Content-Encoding.
func decoded(t *testing.T, encoding string, body []byte) string {
	t.Helper()
	switch encoding {
	case "gzip":
		r, err := gzip.NewReader(bytes.NewReader(body))
		require.NoError(t, err)
		body, err = io.ReadAll(r)
		require.NoError(t, err)
	case "zstd":
		var err error
		body, err = unzstd.DecodeAll(body, nil)
		require.NoError(t, err)
	default:
		require.Empty(t, encoding)
	}
	return string(body)
}
