package compat

// This file defines the ResponseWriters that the other tests put between the plugin and the
// connection.

import (
	"bytes"
	"io"
	"net/http"
)

// wrapping returns a middleware that wraps the ResponseWriter with wrap.
func wrapping(wrap func(http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(wrap(w), r)
		})
	}
}

// lastWord is a middleware that tries to add an event to every stream after it has ended.
func lastWord(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if w.Header().Get("Content-Type") == "text/event-stream" {
			w.WriteHeader(http.StatusOK)
			io.WriteString(w, "data: the last word\n\n")
			_ = http.NewResponseController(w).Flush() // this may fail
		}
	})
}

// loggingWriter is like the wrapper of many loggers. It passes Flush on but has no Unwrap,
// so the connection's deadlines cannot be set through it.
type loggingWriter struct {
	http.ResponseWriter
	status, size int
}

func (w *loggingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *loggingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.size += n
	return n, err
}

func (w *loggingWriter) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// unwrapWriter has only Unwrap, so it can be flushed only with http.ResponseController.
type unwrapWriter struct{ http.ResponseWriter }

func (w *unwrapWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// flushErrorWriter has FlushError but no Flush.
type flushErrorWriter struct{ http.ResponseWriter }

func (w *flushErrorWriter) FlushError() error {
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// blindWriter has neither Flush nor Unwrap.
type blindWriter struct{ http.ResponseWriter }

// hoardingWriter has a Flush that does nothing. It keeps the body until the handler has
// returned. If keepsHead is set, it keeps the status too.
type hoardingWriter struct {
	http.ResponseWriter
	keepsHead bool
	status    int
	body      bytes.Buffer
}

func (w *hoardingWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		if !w.keepsHead {
			w.ResponseWriter.WriteHeader(status)
		}
	}
}

func (w *hoardingWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

func (w *hoardingWriter) Flush() {}

// release sends what the writer has kept.
func (w *hoardingWriter) release() {
	if w.keepsHead && w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
	}
	w.ResponseWriter.Write(w.body.Bytes())
}
