package compat

import (
	"bytes"
	"io"
	"net/http"
)

// wrapping is a middleware that puts a writer of its own before the others.
func wrapping(wrap func(http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(wrap(w), r)
		})
	}
}

// lastWord adds something to every stream that is over.
func lastWord(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if w.Header().Get("Content-Type") == "text/event-stream" {
			w.WriteHeader(http.StatusOK)
			io.WriteString(w, "data: the last word\n\n")
			_ = http.NewResponseController(w).Flush() // it may well fail
		}
	})
}

// loggingWriter is the wrapper of many a log: it hands Flush on, but has no
// Unwrap, so that there is no way past it to the connection's deadlines.
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

// unwrapWriter leaves flushing to http.ResponseController.
type unwrapWriter struct{ http.ResponseWriter }

func (w *unwrapWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// flushErrorWriter flushes in the newer way only.
type flushErrorWriter struct{ http.ResponseWriter }

func (w *flushErrorWriter) FlushError() error {
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// blindWriter can neither flush nor be unwrapped.
type blindWriter struct{ http.ResponseWriter }

// hoardingWriter has a Flush that does nothing: all is kept until the handler
// has returned. With a head of its own it keeps that as well.
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

// release sends what was kept.
func (w *hoardingWriter) release() {
	if w.keepsHead && w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
	}
	w.ResponseWriter.Write(w.body.Bytes())
}
