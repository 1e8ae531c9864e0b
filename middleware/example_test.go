package middleware_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/middleware"
)

// The busy middleware stands for a limit on concurrent requests that is reached. Except
// keeps it away from the stream.
func ExampleExcept() {
	busy := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "too many requests", http.StatusTooManyRequests)
		})
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.Use(chimiddleware.StripSlashes) // middleware that rewrites paths comes before Except
	r.Use(middleware.Except(busy))
	r.Get("/page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "page") })
	r.SSE("/events", func(s *sse.ServerSession) error { return s.SendData("hello") })

	for _, path := range []string{"/page", "/events"} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Print(w.Code, " ", w.Body)
	}
	// Output:
	// 429 too many requests
	// 200 data: hello
}

func ExampleLastEventIDFromQuery() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.Use(middleware.LastEventIDFromQuery)
	r.SSE("/events", func(s *sse.ServerSession) error {
		return s.SendData("you had event " + s.LastEventID())
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/events?lastEventId=41", nil))
	fmt.Print(w.Body)
	// Output:
	// data: you had event 41
}

// The stream makes its user present, so no page of another site may open it.
func ExampleSameOrigin() {
	r := sse.Install(chi.NewRouter(), sse.Config{Logger: slog.New(slog.DiscardHandler)})
	own := sse.From(r.With(middleware.SameOrigin("https://app.example.com")))
	own.SSE("/events", func(s *sse.ServerSession) error { return s.SendData("hello") })

	for _, origin := range []string{"https://app.example.com", "https://evil.example"} {
		req := httptest.NewRequest(http.MethodGet, "https://api.example.com/events", nil)
		req.Header.Set("Origin", origin)
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		fmt.Println(origin, w.Code)
	}
	// Output:
	// https://app.example.com 200
	// https://evil.example 403
}
