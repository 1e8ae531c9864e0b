package compat

// This file proves, for each library by name, what docs/MIDDLEWARE.md says of it: inside the
// plugin and around the router, over HTTP/1.0, HTTP/1.1 and HTTP/2.

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// wrapped is a server whose router is in a library, or has it inside.
type wrapped struct {
	library
	place
	*testServer
	steps    *lockstep
	log      *logBuffer
	ends     ends
	hub      *hub.Hub
	detached *hub.Hub
	returned chan error // what the Serve of detached returns
	stop     chan struct{}
}

func newWrapped(t *testing.T, lib library, place place, transport transport) *wrapped {
	t.Helper()
	c := &wrapped{
		library: lib, place: place, steps: newLockstep(0), log: new(logBuffer),
		ends: make(ends, 16), returned: make(chan error, 16), stop: make(chan struct{}),
	}
	cfg := sse.Config{
		WriteTimeout: time.Second, // a second and no less: the machine may be busy
		Logger:       slog.New(slog.NewTextHandler(c.log, nil)),
		OnClose:      func(_ *sse.ServerSession, end sse.End) { c.ends <- end },
	}
	for _, h := range []struct {
		hub      **hub.Hub
		detached bool
	}{{&c.hub, false}, {&c.detached, true}} {
		made, err := hub.New(hub.Config{Detached: h.detached, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		*h.hub = made
	}
	h := place.build(chain{lib.use}, cfg, func(r *sse.Router) {
		serve := func(h *hub.Hub) func(*sse.ServerSession) error {
			return func(s *sse.ServerSession) error {
				return h.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
			}
		}
		r.SSE("/events", c.steps.send)
		r.Method(http.MethodPost, "/chat", r.SSEHandler(c.steps.send))
		r.Post("/chat2", inFunction(r.SSEHandler(c.steps.send)))
		r.SSE("/hub", serve(c.hub))
		r.SSE("/detached", func(s *sse.ServerSession) error {
			err := serve(c.detached)(s)
			c.returned <- err
			return err
		})
		r.SSE("/flood", func(s *sse.ServerSession) error {
			for {
				if err := s.Send(sse.Event{Data: strings.Repeat("x", 8_000)}); err != nil {
					return err
				}
			}
		})
		r.SSE("/broken", func(s *sse.ServerSession) error {
			_ = s.Send(sse.Event{Data: "first"}) // the client finds out
			return fmt.Errorf("in the middle")
		})
		ordinaryRoutes(r)
		t.Cleanup(func() { _ = r.Plugin().Shutdown(t.Context()) }) // detached sessions, which have left by then
	})
	c.testServer = transport.start(t, h)
	if place.outside && lib.late != "" {
		c.errorLog.expect(lib.late)
	}
	return c
}

// ordinaryRoutes are for the comparison with a router without the plugin.
func ordinaryRoutes(r chi.Router) {
	r.Get("/ordinary", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Abilities", strings.Join(abilitiesOf(w, r), ", "))
		io.WriteString(w, ordinaryBody)
	})
	r.Post("/ordinary", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.Copy(w, r.Body) // the test compares it
	})
	r.Get("/status", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "a teapot", http.StatusTeapot) })
}

// TestLibraries runs each library at both places over three transports.
func TestLibraries(t *testing.T) {
	t.Parallel()
	for _, lib := range libraries() {
		for _, place := range []place{after, around} {
			for _, transport := range []transport{http10, http1, http2} {
				t.Run(lib.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					c := newWrapped(t, lib, place, transport)
					c.eventsArriveAtOnce(t)
					c.resumes(t)
					c.endIsTold(t)
					c.detaches(t)
					c.ordinaryIsUnchanged(t)
					c.slowClientIsCutOff(t)
				})
			}
		}
	}
}

// open requests a stream, and requires its head.
func (c *wrapped) open(t *testing.T, method, path, body string, header ...string) *call {
	t.Helper()
	if !c.keepsAlive() {
		c.dial(t)
	}
	h := requestHeader.Clone()
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	call, err := c.tryHeader(t, method, path, reader, h)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, call.StatusCode)
	require.Equal(t, "text/event-stream", call.Header.Get("Content-Type"))
	require.Equal(t, "no-store, no-transform", call.Header["Cache-Control"][0])
	require.Equal(t, "no", call.Header.Get("X-Accel-Buffering"))
	require.NotContains(t, call.Header, "Content-Encoding")
	require.False(t, call.Uncompressed)
	return call
}

// eventsArriveAtOnce: the handler sends an event only when the client has read the one before.
func (c *wrapped) eventsArriveAtOnce(t *testing.T) {
	t.Helper()
	for _, k := range kinds {
		call := c.open(t, k.method, k.path, k.body)
		c.steps.receive(t, call.Body, nil)
		require.Equal(t, sse.EndReturned, c.ends.next(t).Reason)
	}
}

// resumes: a client that comes back gets what it has missed, and nothing twice.
func (c *wrapped) resumes(t *testing.T) {
	t.Helper()
	var first hub.Position
	for i := range 3 {
		pos, err := c.hub.Publish(t.Context(), "a", sse.Event{Data: fmt.Sprint(i)})
		require.NoError(t, err)
		if i == 0 {
			first = pos
		}
	}
	call := c.open(t, http.MethodGet, "/hub", "", "Last-Event-ID", first.String())
	got := make([]byte, 0, 1024)
	buf := make([]byte, 1024)
	for !strings.Contains(string(got), "data: 2\n") {
		n, err := call.Body.Read(buf)
		got = append(got, buf[:n]...)
		require.NoError(t, err)
	}
	require.NotContains(t, string(got), "data: 0\n")
	require.Equal(t, 1, strings.Count(string(got), "data: 1\n"))
	call.leave()
	require.Equal(t, sse.EndClientGone, c.ends.next(t).Reason)
	c.dial(t)
}

// endIsTold: an error in mid-stream looks broken.
func (c *wrapped) endIsTold(t *testing.T) {
	t.Helper()
	call := c.open(t, http.MethodGet, "/broken", "")
	body, err := io.ReadAll(call.Body)
	require.Error(t, err, "the stream must look broken")
	require.False(t, isTimeout(err), "the response has not ended: %v", err)
	require.Contains(t, []string{"", "data: first\n\n"}, string(body)) // a reset may overtake it
	require.Equal(t, sse.EndHandlerError, c.ends.next(t).Reason)
	c.redial(t)
}

// detaches: a hub takes the connection over, or serves the session without that.
func (c *wrapped) detaches(t *testing.T) {
	t.Helper()
	_, err := c.detached.Publish(t.Context(), "a", sse.Event{Data: "0"})
	require.NoError(t, err)
	call := c.open(t, http.MethodGet, "/detached", "")
	read := func(want string) {
		t.Helper()
		got, buf := "", make([]byte, 1024)
		for !strings.Contains(got, want) {
			n, err := call.Body.Read(buf)
			got += string(buf[:n])
			require.NoError(t, err)
		}
	}
	read("data: 0\n")
	detaches := !c.isHTTP2()
	if detaches {
		require.NoError(t, testkit.Receive(t, c.returned))
	}
	_, err = c.detached.Publish(t.Context(), "a", sse.Event{Data: "1"})
	require.NoError(t, err)
	read("data: 1\n")
	require.Empty(t, c.returned, "Serve returns only where the session is detached")
	call.leave()
	require.Equal(t, sse.EndClientGone, c.ends.next(t).Reason)
	if !detaches {
		require.ErrorIs(t, testkit.Receive(t, c.returned), sse.ErrClientGone)
	}
	c.dial(t)
}

// ordinaryIsUnchanged compares ordinary responses with those of a router without the plugin.
func (c *wrapped) ordinaryIsUnchanged(t *testing.T) {
	t.Helper()
	plain := chi.NewRouter()
	var h http.Handler = plain
	if c.outside {
		h = c.use(plain)
	} else {
		plain.Use(c.use)
	}
	ordinaryRoutes(plain)
	without := c.transport.start(t, h)
	for _, request := range []struct{ method, path, body string }{
		{http.MethodGet, "/ordinary", ""},
		{http.MethodHead, "/ordinary", ""},
		{http.MethodPost, "/ordinary", "said"},
		{http.MethodGet, "/status", ""},
		{http.MethodGet, "/none", ""},
	} {
		answer := func(s *testServer) (status int, header http.Header, body string) {
			if !s.keepsAlive() {
				s.dial(t)
			}
			call := s.do(t, request.method, request.path, request.body)
			for _, name := range append(c.volatile, "Date") {
				call.Header.Del(name)
			}
			slices.Sort(call.Header["Allow"]) // chi's order is that of a map
			if request.method == http.MethodHead {
				return call.StatusCode, call.Header, ""
			}
			b, err := io.ReadAll(call.Body)
			require.NoError(t, err)
			return call.StatusCode, call.Header, string(b)
		}
		status, header, body := answer(without)
		gotStatus, gotHeader, gotBody := answer(c.testServer)
		require.Equal(t, status, gotStatus, request.path)
		require.Equal(t, header, gotHeader, request.path)
		require.Equal(t, body, gotBody, request.path)
	}
}

// slowClientIsCutOff: a client that reads nothing is gone after the WriteTimeout, and the end
// says why.
func (c *wrapped) slowClientIsCutOff(t *testing.T) {
	t.Helper()
	c.open(t, http.MethodGet, "/flood", "")
	end := c.ends.next(t)
	require.Equal(t, sse.EndWriteTimeout, end.Reason, "%v", end.Err)
}

// TestLibrariesAreDocumented compares the rows with the table in the documents.
func TestLibrariesAreDocumented(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	table.WriteString("| library | used as | inside | around the router |\n|---|---|---|---|\n")
	for _, lib := range libraries() {
		fmt.Fprintf(&table, "| %s | %s | all | all |\n", lib.name, lib.form)
	}
	doc, err := os.ReadFile("../docs/MIDDLEWARE.md")
	require.NoError(t, err)
	require.Contains(t, string(doc), table.String())
}
