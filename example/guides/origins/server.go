package main

import (
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/middleware"
)

var errNoLogin = errors.New("not logged in")

// routes returns the router of the API. Pages of the allowed origins may use it with cookies. There
// must be at least one: to package cors, none means all.
func routes(h *hub.Hub, allowed ...string) *sse.Router {
	r := sse.Install(chi.NewRouter(), sse.Config{Retry: time.Second})
	r.Use(
		cors.Handler(cors.Options{ // before all that may refuse a request
			AllowedOrigins:   allowed,
			AllowedMethods:   []string{http.MethodGet, http.MethodHead, http.MethodPost},
			AllowedHeaders:   []string{"Last-Event-ID"},              // for fetch; EventSource may send it anyway
			ExposedHeaders:   []string{hub.GapHeader, "Retry-After"}, // otherwise fetch does not see them
			AllowCredentials: true,                                   // cookies
			MaxAge:           600,                                    // seconds for which a preflight holds
		}),
		middleware.SameOrigin(allowed...), // CORS does not keep anyone from opening a stream
	)
	r.Post("/login", login)
	sse.From(r.With(authenticate)).SSE("/events", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"news"}})
	})
	return r
}

// authenticate is middleware that answers 401 to requests without a login.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := r.Cookie("login"); err != nil { // a real server looks at the value
			sse.RenderError(w, r, sse.Error(http.StatusUnauthorized, errNoLogin))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// login sets the cookie. It asks for no password: that is not what this program shows.
func login(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{
		Name: "login", Value: "somebody", Path: "/",
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
	w.WriteHeader(http.StatusNoContent)
}

//go:embed page.html
var pageText string

// page serves the page, which uses the API at this origin.
func page(api string) http.HandlerFunc {
	t := template.Must(template.New("page").Parse(pageText))
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = t.Execute(w, api)
	}
}
