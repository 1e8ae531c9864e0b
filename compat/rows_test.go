package compat

// This file defines the rows of the matrix: the middleware and the server settings that a
// stream must work with.

import (
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/CAFxX/httpcompression"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/cors"
	"github.com/go-chi/httplog/v3"
	"github.com/klauspost/compress/gzhttp"

	"github.com/chi-sse/sse"
	ssemiddleware "github.com/chi-sse/sse/middleware"
)

// row represents middleware or a server setting that a stream must work with.
type row struct {
	name string
	use  chain

	wraps    bool        // the middleware wraps the ResponseWriter
	opaque   bool        // the plugin cannot know whether its writer compresses
	header   http.Header // the header that the middleware adds to every response
	slash    bool        // the middleware removes the slash at the end of a path
	head     bool        // the middleware answers HEAD on routes that have only GET
	ordinary string      // the Content-Type of the ordinary response; default: JSON
	encoding string      // the Content-Encoding that the ordinary response gets

	// These are for rows with a timeout. The stream pauses for longer than the timeout.
	pause time.Duration
	late  string // part of what http.Server logs if the middleware is outside of the plugin

	server func(*http.Server)
	config func(*sse.Config)
	places []place // default: all
}

// in returns the places of the row.
func (r row) in() []place {
	if r.places != nil {
		return r.places
	}
	return places
}

// timeout is the timeout of the rows that have one, and pause is how long their streams
// pause. Even a busy machine must serve an ordinary request within timeout.
const (
	timeout = 500 * time.Millisecond
	pause   = 750 * time.Millisecond
)

var (
	compressDefaults = middleware.Compress(5)
	compressText     = middleware.Compress(5, "text/*")
	compressStream   = middleware.Compress(5, "text/event-stream")
	gzhttpDefaults   = wrapper(must(gzhttp.NewWrapper()))
	gzhttpAll        = wrapper(must(gzhttp.NewWrapper(gzhttp.MinSize(0), gzhttp.ContentTypes([]string{"text/event-stream", "application/json"}))))
	httpcompressAll  = must(httpcompression.DefaultAdapter())
	httpcompressZero = must(httpcompression.DefaultAdapter(httpcompression.MinSize(0)))
	corsAll          = cors.Handler(cors.Options{AllowedOrigins: []string{"https://*"}, AllowCredentials: true})
	throttle         = middleware.Throttle(1000) // all cells share it
	realIP           = middleware.RealIP         //nolint:staticcheck // deprecated, because it trusts headers of the client, but still in use

	bodyLog = httplog.RequestLogger(
		slog.New(slog.NewJSONHandler(io.Discard, nil)), //nolint:sloglint // with a disabled handler, httplog would do nothing
		bodyLogOptions(),
	)
)

func bodyLogOptions() *httplog.Options {
	all := func(*http.Request) bool { return true }
	return &httplog.Options{
		RecoverPanics:       true,
		LogRequestBody:      all,
		LogResponseBody:     all,
		LogBodyContentTypes: []string{"text/event-stream", "application/json", ""},
		LogBodyMaxLen:       -1,
	}
}

func rows() []row {
	varyEncoding := http.Header{"Vary": {"Accept-Encoding"}}
	rows := []row{
		{name: "nothing"},
		{name: "Logger", use: chain{middleware.Logger}, wraps: true},
		{name: "Recoverer", use: chain{middleware.Recoverer}},
		{name: "RequestID", use: chain{middleware.RequestID}},
		{name: "RealIP", use: chain{realIP}},
		{name: "NoCache", use: chain{middleware.NoCache}, header: http.Header{"X-Accel-Expires": {"0"}}},
		{name: "StripSlashes", use: chain{middleware.StripSlashes}, slash: true},
		{name: "GetHead", use: chain{middleware.GetHead}, head: true},
		{name: "Timeout", use: chain{middleware.Timeout(timeout)}, pause: pause, late: lateTimeout},
		{name: "Throttle", use: chain{throttle}},
		{name: "httplog", use: chain{bodyLog}, wraps: true},
		{name: "cors", use: chain{corsAll}, header: corsHeader()},

		{name: "Compress", use: chain{compressDefaults}, wraps: true, encoding: "gzip"},
		{name: "Compress-text", use: chain{compressText}, wraps: true, encoding: "gzip", ordinary: "text/html"},
		{name: "Compress-event-stream", use: chain{compressStream}, wraps: true, encoding: "gzip", ordinary: "text/event-stream"},
		{name: "gzhttp", use: chain{gzhttpDefaults}, wraps: true, encoding: "zstd", header: varyEncoding},
		{name: "gzhttp-all", use: chain{gzhttpAll}, wraps: true, encoding: "zstd", header: varyEncoding},
		{name: "httpcompression", use: chain{httpcompressAll}, wraps: true, encoding: "zstd", header: varyEncoding},
		{name: "httpcompression-all", use: chain{httpcompressZero}, wraps: true, encoding: "zstd", header: varyEncoding},

		{
			// The routes are looked up twice. The plugin looks in vain, because the path has
			// a slash at its end. Except looks again, after the compressors have engaged and
			// the path has been corrected.
			name:  "Compress-StripSlashes-Except",
			use:   chain{gzhttpAll, compressText, compressDefaults, middleware.StripSlashes, ssemiddleware.Except(throttle)},
			wraps: true, slash: true, encoding: "gzip", header: varyEncoding, places: []place{after, nested, before, mounted, around},
		},

		{
			// If this middleware were outside of the plugin, the plugin could not stop it.
			name: "last-word", use: chain{lastWord}, places: []place{after, with, nested},
		},
		{name: "writer-without-Unwrap", use: chain{wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &loggingWriter{ResponseWriter: w} })}, wraps: true, opaque: true},
		{name: "writer-without-Flush", use: chain{wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &unwrapWriter{w} })}, wraps: true},
		{name: "writer-with-FlushError", use: chain{wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &flushErrorWriter{w} })}, wraps: true, opaque: true},
	}
	rows = append(rows, stacks()...)
	return append(rows, servers()...)
}

// lateTimeout is part of what http.Server logs when chi's Timeout calls WriteHeader after a
// long response.
const lateTimeout = "(timeout.go:"

func corsHeader() http.Header {
	return http.Header{
		"Access-Control-Allow-Origin":      {"https://example.com"},
		"Access-Control-Allow-Credentials": {"true"},
		"Vary":                             {"Origin"},
	}
}

// stacks returns rows that use all middleware at once, in a sensible order and in reverse.
func stacks() []row {
	header := corsHeader()
	header["X-Accel-Expires"] = []string{"0"}
	header["Vary"] = []string{"Accept-Encoding", "Origin"}
	stack := row{
		name: "stack",
		use: chain{
			middleware.RequestID, realIP, middleware.Logger, bodyLog, middleware.Recoverer, middleware.NoCache,
			middleware.StripSlashes, middleware.GetHead, corsAll, middleware.Timeout(timeout), throttle,
			compressDefaults, compressText, compressStream, gzhttpDefaults, httpcompressAll,
		},
		wraps: true, header: header, slash: true, head: true, pause: pause, late: lateTimeout,
		encoding: "zstd",
	}
	upsideDown := stack
	upsideDown.name = "stack-upside-down"
	upsideDown.use = slices.Clone(stack.use)
	slices.Reverse(upsideDown.use)
	upsideDown.encoding = "gzip"
	return []row{stack, upsideDown}
}

// servers returns the rows whose timeout is not that of a middleware.
func servers() []row {
	const timeout, pause = time.Second, 1300 * time.Millisecond // long enough for a TLS handshake too
	only := []place{after}
	return []row{
		{name: "Server.WriteTimeout", pause: pause, places: only, server: func(s *http.Server) { s.WriteTimeout = timeout }},
		{name: "Server.ReadTimeout", pause: pause, places: only, server: func(s *http.Server) { s.ReadTimeout = timeout }},
		{name: "Server.IdleTimeout", pause: pause, places: only, server: func(s *http.Server) { s.IdleTimeout = timeout }},
		{name: "Server.all-timeouts", pause: pause, places: only, server: func(s *http.Server) {
			s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout = timeout, timeout, timeout, timeout
		}},
		{
			// The writer is inside of the plugin, so the guard reaches the connection.
			name: "Server.WriteTimeout-and-writer-without-Unwrap", pause: pause, places: []place{after, with, nested},
			use:    chain{wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &loggingWriter{ResponseWriter: w} })},
			wraps:  true,
			server: func(s *http.Server) { s.WriteTimeout = timeout },
		},
		{
			// This timeout limits each write, not the time between two writes.
			name: "Config.WriteTimeout", pause: pause, places: []place{after, around},
			config: func(c *sse.Config) { c.WriteTimeout = timeout },
		},
	}
}

// wrapper converts the type of gzhttp's middleware.
func wrapper(w func(http.Handler) http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler { return w(next) }
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
