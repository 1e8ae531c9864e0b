package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/example/internal/browser"
	"github.com/chi-sse/sse/internal/testkit"
)

// server is the program without its command line.
type server struct {
	t       *testing.T
	app     *app
	url     string
	refused atomic.Int64 // streams, with 401
}

func start(t *testing.T, lifetime time.Duration) *server {
	t.Helper()
	a, err := newApp(lifetime)
	require.NoError(t, err)
	r := a.routes()
	s := &server{t: t, app: a}
	s.url = testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.ServeHTTP(w, req)
		if w.Header().Get("WWW-Authenticate") != "" {
			s.refused.Add(1)
		}
	}), func(srv *httptest.Server) { r.Plugin().Attach(srv.Config) }).URL
	t.Cleanup(func() {
		require.NoError(t, r.Plugin().Shutdown(context.Background()))
		require.NoError(t, a.hub.Shutdown(context.Background()))
	})
	return s
}

// call sends a request. The caller closes the response's body.
func (s *server) call(method, path, token string, form url.Values) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(form.Encode()))
	require.NoError(s.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func (s *server) secret(path, token string, form url.Values) string {
	s.t.Helper()
	resp := s.call(http.MethodPost, path, token, form)
	require.Equal(s.t, http.StatusOK, resp.StatusCode)
	require.Equal(s.t, "no-store", resp.Header.Get("Cache-Control"))
	text, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return string(text)
}

func (s *server) token(user string) string {
	return s.secret("/token", "", url.Values{"name": {user}})
}

func (s *server) note(token, text string) {
	s.t.Helper()
	require.Equal(s.t, http.StatusNoContent, s.call(http.MethodPost, "/notes", token, url.Values{"text": {text}}).StatusCode)
}

// notes returns the notes of the stream that resp is, and the id of the last one.
func notes(t *testing.T, resp *http.Response, n int) (texts []string, id string) {
	t.Helper()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	decoder := event.NewDecoder(resp.Body)
	for len(texts) < n {
		ev, err := decoder.Decode()
		require.NoError(t, err)
		if ev.Name == "note" {
			texts = append(texts, ev.Data)
		}
	}
	return texts, decoder.LastEventID()
}

func TestRefuses(t *testing.T) {
	s := start(t, time.Minute)
	for _, token := range []string{"", "x"} {
		for path, method := range map[string]string{"/events": "GET", "/events/ticket": "GET", "/events/ticket?ticket=x": "GET", "/ticket": "POST", "/notes": "POST"} {
			resp := s.call(method, path, token, nil)
			assert.Equal(t, http.StatusUnauthorized, resp.StatusCode, path)
			assert.Equal(t, "Bearer", resp.Header.Get("WWW-Authenticate"))
		}
	}
	assert.Equal(t, http.StatusBadRequest, s.call("POST", "/token", "", nil).StatusCode)
	token := s.token("ann")
	assert.Equal(t, http.StatusUnauthorized, s.call("GET", "/events?ticket="+token, "", nil).StatusCode)
	assert.Equal(t, http.StatusUnauthorized, s.call("GET", "/events/ticket?ticket="+token, "", nil).StatusCode, "a token is no ticket")
	assert.Equal(t, http.StatusUnauthorized, s.call("GET", "/events", s.secret("/ticket", token, nil), nil).StatusCode, "a ticket is no token")
}

// A stream shows its user's notes, and no others.
func TestToken(t *testing.T) {
	s := start(t, time.Hour)
	ann, bob := s.token("ann"), s.token("bob")
	stream := s.call("GET", "/events", ann, nil)
	s.note(bob, "not for ann")
	s.note(ann, "hello")
	texts, _ := notes(t, stream, 1)
	assert.Equal(t, []string{"hello"}, texts)
}

// A ticket opens one stream. The last event id may be in the query.
func TestTicket(t *testing.T) {
	s := start(t, time.Hour)
	token := s.token("ann")
	path := "/events/ticket?ticket=" + s.secret("/ticket", token, nil)
	stream := s.call("GET", path, "", nil)
	assert.Equal(t, http.StatusUnauthorized, s.call("GET", path, "", nil).StatusCode, "it has been used")
	s.note(token, "one")
	s.note(token, "two")
	_, id := notes(t, stream, 1)
	again := s.call("GET", "/events/ticket?ticket="+s.secret("/ticket", token, nil)+"&lastEventId="+id, "", nil)
	texts, _ := notes(t, again, 1)
	assert.Equal(t, []string{"two"}, texts)
}

// A stream ends with the token, however it was opened.
func TestExpiry(t *testing.T) {
	s := start(t, time.Hour)
	expires := time.Now().Add(time.Second)
	g := grant{"ann", expires}
	token, ticket := s.app.tokens.add(g, time.Hour), s.app.tickets.add(g, time.Hour)
	for _, stream := range []*http.Response{
		s.call("GET", "/events", token, nil), s.call("GET", "/events/ticket?ticket="+ticket, "", nil),
	} {
		_, err := io.ReadAll(stream.Body)
		require.NoError(t, err, "the end is in order")
	}
	assert.False(t, time.Now().Before(expires))
	assert.Equal(t, http.StatusUnauthorized, s.call("GET", "/events", token, nil).StatusCode)
	assert.Equal(t, http.StatusUnauthorized, s.call("POST", "/ticket", token, nil).StatusCode)
}

// A page that has only a token renews it, and misses nothing. An EventSource uses a ticket.
func TestBrowser(t *testing.T) {
	s := start(t, 2*time.Second)
	publish := func(text string) {
		t.Helper()
		_, err := s.app.hub.Publish(t.Context(), "user/ann", sse.Event{Name: "note", Data: text})
		require.NoError(t, err)
	}
	b := browser.New(t)
	b.Do(chromedp.EmulateViewport(1000, 700), chromedp.Navigate(s.url+"/"))
	b.Await("the page is there", `document.querySelector("#login")?.onsubmit`)
	browser.Eval[bool](b, `(document.querySelector("#login input").value = "ann", document.querySelector("#login").requestSubmit(), true)`)
	const texts = `[...document.querySelectorAll("li")].map(line => line.textContent).join("|")`
	b.Await("it has a token", `document.querySelector("#state").textContent === "You are ann."`)
	publish("one")
	b.Await("one", texts+` === "one"`)
	b.Picture("auth")
	testkit.Eventually(t, func() bool { return s.refused.Load() >= 2 }, "the token has expired")
	publish("two") // while the page waits
	b.Await("two", texts+` === "two|one"`)
	b.RequireLooks()

	ticket := s.app.tickets.add(grant{"ann", time.Now().Add(time.Hour)}, time.Hour)
	browser.Eval[bool](b, `(window.seen = [], window.source = new EventSource("/events/ticket?ticket=`+ticket+`"),
		source.addEventListener("note", event => seen.push(event.data)), true)`)
	b.Await("the EventSource is open", "source.readyState === EventSource.OPEN")
	publish("three")
	b.Await("three", `seen.join() === "three"`)
	_, err := s.app.hub.Kick(t.Context(), "user/ann", errExpired)
	require.NoError(t, err)
	b.Await("its ticket has been used", `source.readyState === EventSource.CLOSED`)
}

// The guide shows parts of the program as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := testkit.ReadGuide(t, "../../../docs/guides/auth.md", 4)
	guide.RequireParts(t, "auth.go", "page.html")
}

func TestSameReader(t *testing.T) {
	assert.Equal(t, testkit.ReadFile(t, "../answer/events.js"), testkit.ReadFile(t, "events.js"))
}
