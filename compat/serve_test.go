package compat

// This file proves that sse.Serve streams from the handlers of other routers, behind their own
// middleware.

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	gingzip "github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// plainHandlers are handlers that call sse.Serve, by path.
type plainHandlers map[string]http.HandlerFunc

// framework represents a router that is not the plugin's, with middleware of its own.
type framework struct {
	name  string
	build func(plainHandlers) http.Handler

	compressor string // what its compressor does to a stream at "/compressed": "passes", "compresses" or "refused"
	late       string // part of what http.Server logs when a middleware has recovered from a broken stream
}

func frameworks() []framework {
	gin.SetMode(gin.ReleaseMode)
	// As in an application, the paths of streams are kept from the compressors that would not pass them
	// on, except for one.
	compresses := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/compressed") }
	return []framework{
		{name: "ServeMux", compressor: "passes", build: func(all plainHandlers) http.Handler {
			mux := http.NewServeMux()
			for path, h := range all {
				mux.HandleFunc(path, h)
			}
			return mux
		}},
		{name: "gin", compressor: "refused", build: func(all plainHandlers) http.Handler {
			engine := gin.New()
			engine.Use(gin.LoggerWithWriter(io.Discard), gin.RecoveryWithWriter(io.Discard))
			engine.Use(gingzip.Gzip(gingzip.DefaultCompression, gingzip.WithCustomShouldCompressFn(func(c *gin.Context) bool { return compresses(c.Request) })))
			for path, h := range all {
				engine.Any(path, func(c *gin.Context) { h(c.Writer, c.Request) })
			}
			return engine
		}},
		{name: "echo", compressor: "compresses", build: func(all plainHandlers) http.Handler {
			e := echo.New()
			e.Use(echomiddleware.RequestLoggerWithConfig(echomiddleware.RequestLoggerConfig{
				LogValuesFunc: func(echo.Context, echomiddleware.RequestLoggerValues) error { return nil },
			}), echomiddleware.Recover())
			e.Use(echomiddleware.GzipWithConfig(echomiddleware.GzipConfig{Skipper: func(c echo.Context) bool { return !compresses(c.Request()) }}))
			e.Logger.SetOutput(io.Discard)
			for path, h := range all {
				e.Any(path, func(c echo.Context) error {
					h(c.Response(), c.Request())
					return nil
				})
			}
			return e
		}},
		{name: "chi", compressor: "passes", late: "superfluous", build: func(all plainHandlers) http.Handler {
			r := chi.NewRouter()
			r.Use(middleware.RequestID, realIP, quietLogger, quietRecoverer, middleware.Compress(5, "text/*"), middleware.Timeout(50*time.Millisecond))
			for path, h := range all {
				r.HandleFunc(path, h)
			}
			return r
		}},
	}
}

func quietLogger(next http.Handler) http.Handler {
	return middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: discardPrinter{}, NoColor: true})(next)
}

// quietRecoverer recovers from every panic, also from those that chi's Recoverer passes on.
func quietRecoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { _ = recover() }()
		next.ServeHTTP(w, r)
	})
}

type discardPrinter struct{}

func (discardPrinter) Print(...any) {}

// TestServe streams from plain handlers, with a WriteTimeout that is shorter than the streams. The
// server is attached to a plugin, or not, or the whole framework is inside a router with the plugin.
func TestServe(t *testing.T) {
	t.Parallel()
	for _, f := range frameworks() {
		for _, around := range []string{"nothing", "server", "router"} {
			for _, transport := range append([]transport{http10}, transports...) {
				t.Run(f.name+"/"+around+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					newServed(t, f, around, transport).run(t)
				})
			}
		}
	}
}

// served is a server of a framework whose handlers call sse.Serve.
type served struct {
	framework
	*testServer
	steps *lockstep // with a pause that is longer than the WriteTimeout
	fast  *lockstep
	gone  chan error
	hub   *hub.Hub
}

func newServed(t *testing.T, f framework, around string, transport transport) *served {
	t.Helper()
	c := &served{framework: f, steps: newLockstep(3500 * time.Millisecond), fast: newLockstep(0), gone: make(chan error, 1)}
	var err error
	c.hub, err = hub.New(hub.Config{Detached: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	// If the deadline of a middleware has passed before, only a write tells that the client has left.
	beat := sse.WithHeartbeat(sse.Heartbeat{Period: 200 * time.Millisecond})
	stream := func(h sse.Handler, opts ...sse.RouteOption) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Own", "kept")
			sse.Serve(w, r, h, opts...)
		}
	}
	h := f.build(plainHandlers{
		"/events":     stream(c.steps.send),
		"/compressed": stream(c.fast.send),
		"/compressed/hub": stream(func(s *sse.ServerSession) error {
			return c.hub.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
		}),
		"/gone": stream(func(s *sse.ServerSession) error {
			err := errors.Join(s.Send(sse.Event{Data: "first"}), untilDone(s))
			c.gone <- context.Cause(s.Context())
			return err
		}, beat),
		"/status": stream(func(*sse.ServerSession) error { return sse.Error(http.StatusPaymentRequired, errors.New("pay first")) }),
		"/broken": stream(func(s *sse.ServerSession) error {
			return errors.Join(s.Send(sse.Event{Data: "first"}), errors.New("in the middle"))
		}),
		"/hub": stream(func(s *sse.ServerSession) error {
			return c.hub.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
		}),
		"/choice": func(w http.ResponseWriter, r *http.Request) {
			question, err := io.ReadAll(r.Body)
			if err != nil || string(question) != "stream" {
				http.Error(w, "ask for a stream", http.StatusBadRequest)
				return
			}
			sse.Serve(w, r, func(s *sse.ServerSession) error { return s.Send(sse.Event{Data: "first"}) })
		},
	})
	r := sse.Install(chi.NewRouter(), sse.Config{Logger: slog.New(slog.DiscardHandler)})
	set := func(srv *http.Server) { srv.WriteTimeout = 3 * time.Second }
	switch around {
	case "server":
		unattached := set
		set = func(srv *http.Server) {
			unattached(srv)
			r.Plugin().Attach(srv)
		}
	case "router":
		r.Handle("/*", h)
		h = r
	}
	c.testServer = transport.start(t, h, set)
	c.errorLog.expect(f.late)
	return c
}

func (c *served) run(t *testing.T) {
	t.Helper()
	open := func(path string) *call {
		if !c.keepsAlive() {
			c.dial(t)
		}
		return c.do(t, http.MethodGet, path, "")
	}
	call := open("/events")
	require.Equal(t, http.StatusOK, call.StatusCode)
	require.Equal(t, "text/event-stream", call.Header.Get("Content-Type"))
	require.Equal(t, "kept", call.Header.Get("Own"))
	require.Contains(t, []string{"", "identity"}, call.Header.Get("Content-Encoding"))
	c.steps.receive(t, call.Body, nil)

	call = open("/status")
	require.Equal(t, http.StatusPaymentRequired, call.StatusCode)
	_, err := io.ReadAll(call.Body)
	require.NoError(t, err)

	for _, body := range []string{"", "stream"} {
		if !c.keepsAlive() {
			c.dial(t)
		}
		call = c.do(t, http.MethodPost, "/choice", body)
		text, err := io.ReadAll(call.Body)
		require.NoError(t, err)
		if body == "" {
			require.Equal(t, http.StatusBadRequest, call.StatusCode)
		} else {
			require.Equal(t, "data: first\n\n", string(text))
		}
	}

	call = open("/gone")
	requireFirst(t, call)
	call.leave()
	require.ErrorIs(t, <-c.gone, sse.ErrClientGone)
	c.dial(t)

	call = open("/broken")
	body, err := io.ReadAll(call.Body)
	require.Error(t, err, "the stream must look broken")
	require.False(t, isTimeout(err), "the response has not ended: %v", err)
	require.Contains(t, []string{"", "data: first\n\n"}, string(body)) // a reset may overtake it
	c.dial(t)

	_, err = c.hub.Publish(t.Context(), "a", sse.Event{Data: "1"})
	require.NoError(t, err)
	call = open("/hub")
	c.readUntil(t, call.Body, "data: 1\n")
	_, err = c.hub.Publish(t.Context(), "a", sse.Event{Data: "2"})
	require.NoError(t, err)
	c.readUntil(t, call.Body, "data: 2\n")
	call.leave()

	c.compresses(t)
	require.NoError(t, c.hub.Shutdown(t.Context()))
}

func (c *served) readUntil(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got, buf := "", make([]byte, 1024)
	for !strings.Contains(got, want) {
		n, err := r.Read(buf)
		got += string(buf[:n])
		require.NoError(t, err)
	}
}

// compresses: the stream gets through the compressor, event by event, or the client gets a status.
func (c *served) compresses(t *testing.T) {
	t.Helper()
	c.dial(t)
	call := c.do(t, http.MethodGet, "/compressed", "")
	switch c.compressor {
	case "passes":
		require.Equal(t, http.StatusOK, call.StatusCode)
		require.NotContains(t, call.Header.Get("Content-Encoding"), "gzip")
		c.fast.receive(t, call.Body, nil)
	case "compresses": // also where a hub would detach the session
		require.Equal(t, http.StatusOK, call.StatusCode)
		require.Equal(t, "gzip", call.Header.Get("Content-Encoding"))
		body, err := gzip.NewReader(call.Body)
		require.NoError(t, err)
		c.fast.receive(t, body, nil)
		if !c.keepsAlive() {
			c.dial(t)
		}
		call = c.do(t, http.MethodGet, "/compressed/hub", "")
		body, err = gzip.NewReader(call.Body)
		require.NoError(t, err)
		c.readUntil(t, body, "data: 2\n")
		_, err = c.hub.Publish(t.Context(), "a", sse.Event{Data: "3"})
		require.NoError(t, err)
		c.readUntil(t, body, "data: 3\n")
		call.leave()
	case "refused":
		require.Equal(t, http.StatusInternalServerError, call.StatusCode)
		body, err := io.ReadAll(call.Body)
		require.NoError(t, err)
		require.Contains(t, string(body), "keep it off the paths of streams")
	}
}
