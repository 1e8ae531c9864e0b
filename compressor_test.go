package sse_test

import (
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// statusWriter is a recorder as many applications have one.
type statusWriter struct {
	http.ResponseWriter
	status, size int //nolint:unused // mayCompress looks at the types of fields
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// gzipWriter is a compressor as many applications have one. It leaves encoded responses alone.
type gzipWriter struct {
	http.ResponseWriter
	z    *gzip.Writer
	told bool
}

func (w *gzipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *gzipWriter) WriteHeader(status int) {
	if w.told = true; w.Header().Get("Content-Encoding") == "" {
		w.Header().Set("Content-Encoding", "gzip")
		w.z = gzip.NewWriter(w.ResponseWriter)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *gzipWriter) Write(p []byte) (int, error) {
	if !w.told {
		w.WriteHeader(http.StatusOK)
	}
	if w.z == nil {
		return w.ResponseWriter.Write(p)
	}
	return w.z.Write(p)
}

func (w *gzipWriter) Flush() {
	if w.z != nil {
		_ = w.z.Flush()
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// secretive wraps a writer and does not say which.
type secretive struct{ w http.ResponseWriter }

func (w secretive) Header() http.Header         { return w.w.Header() }
func (w secretive) WriteHeader(status int)      { w.w.WriteHeader(status) }
func (w secretive) Write(p []byte) (int, error) { return w.w.Write(p) }
func (w secretive) FlushError() error           { return http.NewResponseController(w.w).Flush() }

// twoFaced unwraps to another writer than it writes to.
type twoFaced struct {
	http.ResponseWriter
	inner http.ResponseWriter
}

func (w twoFaced) Unwrap() http.ResponseWriter { return w.inner }
func (w twoFaced) FlushError() error           { return http.NewResponseController(w.ResponseWriter).Flush() }

// Content-Encoding: identity is sent only where something outside the plugin may compress.
// Where something does, it keeps it from that.
func TestContentEncodingOnlyWhereSomethingMayCompress(t *testing.T) {
	t.Parallel()
	wrap := func(wrap func(w http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
		}
	}
	recorder := wrap(func(w http.ResponseWriter) http.ResponseWriter { return &statusWriter{ResponseWriter: w} })
	zip := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				w = &gzipWriter{ResponseWriter: w}
			}
			next.ServeHTTP(w, r)
		})
	}
	hello := func(s *sse.ServerSession) error { return s.SendData("hello") }
	type middlewares = []func(http.Handler) http.Handler
	for name, tt := range map[string]struct {
		outside  middlewares
		inside   middlewares
		identity bool
	}{
		"nothing":                            {nil, nil, false},
		"a recorder":                         {middlewares{recorder}, nil, false},
		"chi's recorder":                     {middlewares{middleware.Logger}, nil, false},
		"recorders":                          {middlewares{recorder, middleware.Logger, recorder}, nil, false},
		"a compressor":                       {middlewares{zip}, nil, true},
		"a compressor outside of a recorder": {middlewares{zip, recorder}, nil, true},
		"a compressor inside of a recorder":  {middlewares{recorder, zip}, nil, true},
		"chi's compressor":                   {middlewares{middleware.Compress(5, "text/*")}, nil, true},
		"a secretive one":                    {middlewares{zip, wrap(func(w http.ResponseWriter) http.ResponseWriter { return secretive{w} })}, nil, true},
		"a nameless one": {middlewares{zip, wrap(func(w http.ResponseWriter) http.ResponseWriter {
			return struct {
				http.ResponseWriter
				http.Flusher
			}{w, nopFlusher{}}
		})}, nil, true},
		"a two-faced one": {middlewares{zip, wrap(func(w http.ResponseWriter) http.ResponseWriter {
			if z, ok := w.(*gzipWriter); ok {
				return twoFaced{z, z.ResponseWriter}
			}
			return w
		})}, nil, true},
		"a compressor inside the plugin": {nil, middlewares{zip}, false},
		"both":                           {middlewares{recorder}, middlewares{zip, middleware.Compress(5, "text/*")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(sse.Config{})
			r.Use(tt.inside...)
			r.SSE("/events", hello)
			r.Get("/function", r.SSEHandler(hello).ServeHTTP)
			var h http.Handler = r
			elsewhere := http.NewServeMux() // no guard
			elsewhere.Handle("/events", newRouter(sse.Config{}).SSEHandler(hello))
			var plain http.Handler = elsewhere
			for i := range tt.outside {
				h = tt.outside[len(tt.outside)-1-i](h)
				plain = tt.outside[len(tt.outside)-1-i](plain)
			}
			for _, proto := range protocols {
				srv, srv2 := serve(t, h, proto.Setup), serve(t, plain, proto.Setup)
				for _, srv := range []*httptest.Server{srv, srv2} {
					srv.Client().Transport.(*http.Transport).DisableCompression = true // it asks for gzip unseen
				}
				for _, accept := range []string{"gzip", ""} {
					var want []string
					if tt.identity && accept != "" {
						want = []string{"identity"}
					}
					for _, a := range []answer{get(t, srv, "/events", encodings(accept)...), get(t, srv, "/function", encodings(accept)...), get(t, srv2, "/events", encodings(accept)...)} {
						require.NoError(t, a.Err)
						require.Equal(t, "data: hello\n\n", a.Body)
						require.Equal(t, want, a.Header["Content-Encoding"])
					}
				}
			}
		})
	}
}

type nopFlusher struct{}

func (nopFlusher) Flush() {}

// encodings returns a header that asks for the encoding, or for none.
func encodings(accept string) []string {
	if accept == "" {
		return nil
	}
	return []string{"Accept-Encoding", accept}
}
