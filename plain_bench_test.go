package sse_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
)

// BenchmarkOrdinaryRequest measures what the plugin costs a request that is none
// of its business, beside the same router without it.
func BenchmarkOrdinaryRequest(b *testing.B) {
	run := func(name string, r chi.Router) {
		r.Get("/users/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		req := httptest.NewRequest(http.MethodGet, "/users/5", http.NoBody)
		req.Header.Set("Accept-Encoding", "gzip")
		w := discard{make(http.Header)}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.ServeHTTP(w, req)
			}
		})
	}
	run("chi", chi.NewRouter())
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/events", func(*sse.ServerSession) error { return nil })
	run("sse", r)
}

// discard is a response that goes nowhere.
type discard struct{ header http.Header }

func (d discard) Header() http.Header       { return d.header }
func (discard) WriteHeader(int)             {}
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Flush()                      {}
