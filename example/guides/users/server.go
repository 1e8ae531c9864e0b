package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

//go:embed page.html
var pageText string

// maxStreams is how many streams a user can have at a time.
const maxStreams = 20

var (
	errLoggedOut = errors.New("logged out")
	errExpired   = errors.New("the login has expired")
)

// app has what the handlers need.
type app struct {
	options options
	store   *store
	hub     *hub.Hub
	find    func(ctx context.Context, token string) (login, error) // store.find; tests may change it
}

func newApp(ctx context.Context, o options) (*app, error) {
	s, err := openStore(ctx, o.file)
	if err != nil {
		return nil, err
	}
	h, err := hub.New(hub.Config{Detached: true})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return &app{options: o, store: s, hub: h, find: s.find}, nil
}

// routes returns the program's router.
func (a *app) routes() *sse.Router {
	r := sse.Install(chi.NewRouter(), sse.Config{Retry: time.Second})
	r.Get("/", a.page())

	api := r.With(allowOrigin(a.options.origin))
	api.Post("/login", a.login)
	private := sse.From(api.With(a.authenticate))
	private.SSE("/events", a.events,
		sse.WithSessionLimitBy(maxStreams, userOf),
		sse.WithRecheck(a.options.recheck, a.recheck))
	active := private.With(a.renew) // what a user does keeps the login alive; a stream does not
	active.Get("/me", a.me)
	active.Post("/notes", a.note)
	active.Post("/logout", a.logout)
	return r
}

type loginKey struct{}

// loginOf returns the login that authenticate has found.
func loginOf(ctx context.Context) login { return ctx.Value(loginKey{}).(login) }

// userOf is the key of the limit: the user.
func userOf(r *http.Request) string { return strconv.FormatInt(loginOf(r.Context()).User, 10) }

// authenticate is middleware that lets only requests with a valid login pass.
func (a *app) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l, err := a.check(r.Context(), r)
		if err != nil {
			sse.RenderError(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), loginKey{}, l)))
	})
}

// check returns the login of a request. The error has the status 401 if there is none.
func (a *app) check(ctx context.Context, r *http.Request) (login, error) {
	cookie, err := r.Cookie("login")
	if err != nil {
		return login{}, sse.Error(http.StatusUnauthorized, errNoLogin)
	}
	l, err := a.find(ctx, cookie.Value)
	if errors.Is(err, errNoLogin) {
		err = sse.Error(http.StatusUnauthorized, err)
	}
	return l, err
}

// events is the stream of a tab.
func (a *app) events(s *sse.ServerSession) error {
	l := loginOf(s.Context())
	s.EndAt(l.Expires, errExpired)
	return a.hub.Serve(s, hub.Subscription{
		Topics: []string{l.userTopic(), l.topic()},
		OnStart: func(s *sse.ServerSession) error {
			_, err := a.check(s.Context(), s.Call()) // from here on, a kick reaches the session
			return err
		},
	})
}

// recheck ends the stream of a login that is not valid any longer, no matter who changed that.
func (a *app) recheck(s *sse.ServerSession) error {
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Second)
	defer cancel()
	_, err := a.check(ctx, s.Call())
	if status, ok := errors.AsType[*sse.StatusError](err); ok {
		return status
	}
	return nil // the database cannot tell: look again
}

// logout ends the login, or all logins of its user, and then their streams.
func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	l, ctx := loginOf(r.Context()), context.WithoutCancel(r.Context()) // the client may leave meanwhile
	topic, remove, id := l.topic(), a.store.remove, l.ID
	if r.FormValue("everywhere") != "" {
		topic, remove, id = l.userTopic(), a.store.removeAll, l.User
	}
	err := remove(ctx, id) // first: a stream that opens after the kick is refused
	if err == nil {
		_, err = a.hub.KickWith(ctx, topic, errLoggedOut, sse.Event{Name: "logout"})
	}
	if err != nil {
		http.Error(w, "the logout has failed", http.StatusInternalServerError)
		return
	}
	setCookie(w, r, "", -1)
	w.WriteHeader(http.StatusNoContent)
}

// login logs the user in whose name is in the form. It asks for no password: that is not what
// this program shows.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	name := strings.TrimSpace(r.PostFormValue("name"))
	if name == "" || len(name) > 50 {
		http.Error(w, "name must have 1 to 50 bytes", http.StatusBadRequest)
		return
	}
	token, err := a.store.add(r.Context(), name, a.options.lifetime)
	if err != nil {
		http.Error(w, "the login has failed", http.StatusInternalServerError)
		return
	}
	setCookie(w, r, token, 0) // until the browser ends; the table says how long it is valid
	w.WriteHeader(http.StatusNoContent)
}

func setCookie(w http.ResponseWriter, r *http.Request, token string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: "login", Value: token, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
}

// renew is middleware that lengthens the login when half of its time is over.
func (a *app) renew(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := loginOf(r.Context())
		if time.Until(l.Expires) < a.options.lifetime/2 {
			if err := a.store.renew(r.Context(), l.ID, time.Now().Add(a.options.lifetime)); err != nil {
				http.Error(w, "the login cannot be renewed", http.StatusInternalServerError)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// me answers who the user is.
func (a *app) me(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"name": loginOf(r.Context()).Name})
}

// note sends a text to all streams of the user.
func (a *app) note(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	event := sse.Event{Name: "note", Data: r.PostFormValue("text")}
	if _, err := a.hub.Publish(r.Context(), loginOf(r.Context()).userTopic(), event); err != nil {
		http.Error(w, "the note cannot be sent", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// page serves the page. It is the same for everybody.
func (a *app) page() http.HandlerFunc {
	var page bytes.Buffer
	if err := template.Must(template.New("page").Parse(pageText)).Execute(&page, a.options.api); err != nil {
		panic(err) // only if the template is wrong
	}
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "page.html", time.Time{}, bytes.NewReader(page.Bytes()))
	}
}
