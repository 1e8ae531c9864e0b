package main

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/middleware"
)

//go:embed page.html events.js
var files embed.FS

// ticketLifetime is the time from buying a ticket to opening a stream with it.
const ticketLifetime = 30 * time.Second

var errExpired = errors.New("the token has expired")

// app has what the handlers need.
type app struct {
	hub      *hub.Hub
	lifetime time.Duration // of a token
	tokens   store
	tickets  store
}

func newApp(lifetime time.Duration) (*app, error) {
	h, err := hub.New(hub.Config{Detached: true})
	return &app{hub: h, lifetime: lifetime}, err
}

// routes returns the program's router.
func (a *app) routes() *sse.Router {
	r := sse.Install(chi.NewRouter(), sse.Config{Retry: time.Second})
	r.Get("/", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "page.html") })
	r.Get("/events.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "events.js") })
	r.Post("/token", a.postToken)
	private := r.With(a.authenticate)
	private.Post("/ticket", a.postTicket)
	private.Post("/notes", a.postNote)
	sse.Handle(r.With(a.authenticate), "/events", a.events)
	sse.Handle(r.With(a.admit, middleware.LastEventIDFromQuery), "/events/ticket", a.events)
	return r
}

// grant is what a token or a ticket permits.
type grant struct {
	user    string
	expires time.Time
}

type grantKey struct{}

func grantOf(ctx context.Context) grant { return ctx.Value(grantKey{}).(grant) }

// authenticate is middleware that lets requests with a token pass.
func (a *app) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		pass(w, r, next, a.tokens.find(token))
	})
}

// admit is middleware that lets requests with a ticket pass. A ticket is good for one request.
func (a *app) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pass(w, r, next, a.tickets.take(r.URL.Query().Get("ticket")))
	})
}

func pass(w http.ResponseWriter, r *http.Request, next http.Handler, g grant) {
	if !time.Now().Before(g.expires) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "log in first", http.StatusUnauthorized)
		return
	}
	next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), grantKey{}, g)))
}

// events is the stream of a user. It ends with the token.
func (a *app) events(s *sse.ServerSession) error {
	g := grantOf(s.Context())
	s.EndAt(g.expires, errExpired)
	return a.hub.Serve(s, hub.Subscription{Topics: []string{"user/" + g.user}})
}

// postToken takes the place of a login. It gives a token to everybody who says a name.
func (a *app) postToken(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimSpace(r.PostFormValue("name"))
	if user == "" {
		http.Error(w, "the name is missing", http.StatusBadRequest)
		return
	}
	writeSecret(w, a.tokens.add(grant{user, time.Now().Add(a.lifetime)}, a.lifetime))
}

// postTicket sells a ticket. The stream that it opens ends with the token.
func (a *app) postTicket(w http.ResponseWriter, r *http.Request) {
	writeSecret(w, a.tickets.add(grantOf(r.Context()), ticketLifetime))
}

func writeSecret(w http.ResponseWriter, secret string) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(secret))
}

// postNote publishes a note to its user.
func (a *app) postNote(w http.ResponseWriter, r *http.Request) {
	e := sse.Event{Name: "note", Data: r.PostFormValue("text")}
	if _, err := a.hub.Publish(r.Context(), "user/"+grantOf(r.Context()).user, e); err != nil {
		http.Error(w, "the note cannot be published", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// store keeps grants by their secrets, for a time. A real one would be a database, or tokens would
// be signed.
type store struct {
	mu     sync.Mutex
	grants map[string]grant
}

func (s *store) add(g grant, lifetime time.Duration) (secret string) {
	secret = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grants == nil {
		s.grants = map[string]grant{}
	}
	s.grants[secret] = g
	time.AfterFunc(lifetime, func() { s.take(secret) })
	return secret
}

// find returns the grant of a secret, or the zero grant, which has expired.
func (s *store) find(secret string) grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grants[secret]
}

// take is find, and removes the secret.
func (s *store) take(secret string) grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.grants[secret]
	delete(s.grants, secret)
	return g
}
