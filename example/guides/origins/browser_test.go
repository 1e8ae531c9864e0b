package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/example/internal/browser"
	"github.com/chi-sse/sse/hub"
)

const patience = 20 * time.Second

// setup has servers of pages, and one of the stream. They have two ports of one address, so they are of two
// origins and of one site.
type setup struct {
	t        *testing.T
	hub      *hub.Hub
	plugin   *sse.Plugin
	api      *httptest.Server
	site     *httptest.Server // its pages may use the API
	stranger *httptest.Server // its pages may not

	mu   sync.Mutex
	seen []string // requests for the API, as "METHOD PATH SEC-FETCH-SITE ORIGIN? LAST-EVENT-ID?"
}

func start(t *testing.T, build func(h *hub.Hub, allowed ...string) *sse.Router) *setup {
	t.Helper()
	h, err := hub.New(hub.Config{})
	require.NoError(t, err)
	s := &setup{t: t, hub: h}
	s.api = httptest.NewUnstartedServer(nil)
	url := "http://" + s.api.Listener.Addr().String()
	s.site, s.stranger = httptest.NewServer(page(url)), httptest.NewServer(page(url))
	r := build(h, s.site.URL)
	s.plugin = r.Plugin()
	s.api.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, fmt.Sprintf("%s %s %s origin:%t id:%t", req.Method, req.URL.Path, req.Header.Get("Sec-Fetch-Site"),
			req.Header.Get("Origin") != "", req.Header.Get("Last-Event-ID") != ""))
		s.mu.Unlock()
		r.ServeHTTP(w, req)
	})
	s.api.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // t.Context has ended
		defer cancel()
		require.NoError(t, h.Shutdown(ctx))
		s.api.CloseClientConnections()
		for _, srv := range []*httptest.Server{s.api, s.site, s.stranger} {
			srv.Close()
		}
	})
	return s
}

// requests returns the requests since the last call.
func (s *setup) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

func (s *setup) publish(data string) {
	s.t.Helper()
	_, err := s.hub.Publish(s.t.Context(), "news", sse.Event{Data: data})
	require.NoError(s.t, err)
}

func (s *setup) awaitSessions(n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.hub.Stats().Members == n }, patience, time.Millisecond)
}

func open(b *browser.Tab, url string) {
	b.Do(chromedp.EmulateViewport(1000, 700), chromedp.Navigate(url+"/"))
	b.Await("the page is there", `document.querySelector("#fetch")?.onclick`)
}

func click(b *browser.Tab, button string) {
	browser.Eval[bool](b, fmt.Sprintf(`(document.querySelector("#%s").click(), true)`, button))
}

// awaitLine waits until the newest line begins with text.
func awaitLine(b *browser.Tab, text string) {
	b.Await(text, fmt.Sprintf(`document.querySelector("#lines li")?.textContent.startsWith(%q)`, text))
}

// A page of the allowed origin reads the stream in each way, and sees why it is refused.
func TestBrowserAllowedOrigin(t *testing.T) {
	s := start(t, routes)
	b := browser.New(t)
	open(b, s.site.URL)

	click(b, "source")
	awaitLine(b, "refused with 401")
	click(b, "fetch")
	awaitLine(b, `{"status":401`)
	assert.Equal(t, []string{
		"GET /events same-site origin:true id:false",
		"HEAD /events same-site origin:true id:false",
		"OPTIONS /events same-site origin:true id:false", // a preflight, because fetch sends Last-Event-ID
		"GET /events same-site origin:true id:true",
	}, s.requests())
	b.Picture("origins-refused")

	click(b, "login")
	awaitLine(b, "login 204")
	click(b, "bare")
	awaitLine(b, "refused with 401")
	click(b, "fetch")
	awaitLine(b, "retry: 1000\n\nevent: gap")
	b.Await("fetch sees the header", `document.body.innerText.includes("fetch got 200, Sse-Gap: malformed")`)
	s.requests()

	click(b, "source")
	awaitLine(b, "open")
	s.awaitSessions(1)
	s.publish("one")
	awaitLine(b, "one")
	_, err := s.hub.Kick(t.Context(), "news", nil)
	require.NoError(t, err)
	s.publish("two")
	awaitLine(b, "two")
	assert.Equal(t, []string{
		"GET /events same-site origin:true id:false",
		"GET /events same-site origin:true id:true", // EventSource asks for no permission
	}, s.requests())

	s.publish("three")
	awaitLine(b, "three")
	b.Picture("origins")
	b.RequireLooks()
}

// A page of another origin opens no stream, whatever it tries, and does not know what happened.
func TestBrowserStranger(t *testing.T) {
	s := start(t, routes)
	b := browser.New(t)
	open(b, s.site.URL)
	click(b, "login")
	awaitLine(b, "login 204")
	for _, stranger := range []string{s.stranger.URL, strings.Replace(s.stranger.URL, "127.0.0.1", browser.ForeignHost, 1)} {
		evil := b.Another()
		open(evil, stranger)
		s.requests()
		click(evil, "source")
		awaitLine(evil, "no answer for this page: Failed to fetch")
		click(evil, "fetch")
		evil.Await("fetch has failed", `document.querySelectorAll("#lines li").length === 2`)
		browser.Eval[bool](evil, fmt.Sprintf(`(() => {
			window.left = 3;
			const done = () => { left--; };
			fetch("%[1]s/events", { mode: "no-cors", credentials: "include" }).finally(done);
			const image = new Image();
			image.onload = image.onerror = done;
			image.src = "%[1]s/events";
			const frame = document.createElement("iframe");
			frame.onload = done;
			frame.src = "%[1]s/events";
			document.body.append(image, frame);
			return true;
		})()`, s.api.URL))
		evil.Await("all have an answer", "left === 0")
		seen := s.requests()
		assert.Len(t, seen, 6, "%q", seen) // with the preflight, and no GET after it
		assert.Zero(t, s.plugin.Len())
		t.Logf("%s: %q\n%s", stranger, seen, strings.Join(evil.Complaints(), "\n"))
		evil.Picture("origins-stranger")
	}
}

// Without Sec-Fetch-Site, which browsers send only to https and to this machine, an image cannot
// be told from curl. The guide says so.
func TestBrowserPlainHTTP(t *testing.T) {
	s := start(t, routes)
	b := browser.New(t)
	open(b, s.stranger.URL)
	api := strings.Replace(s.api.URL, "127.0.0.1", browser.ForeignHost, 1)
	browser.Eval[bool](b, fmt.Sprintf(`(() => {
		window.left = 2;
		const image = new Image();
		image.onload = image.onerror = () => { left--; };
		image.src = "%[1]s/events";
		const source = new EventSource("%[1]s/events");
		source.onerror = () => { left--; };
		return true;
	})()`, api))
	b.Await("both have an answer", "left === 0")
	assert.ElementsMatch(t, []string{"GET /events  origin:false id:false", "GET /events  origin:true id:false"}, s.requests())
}

// What goes wrong with each part missing, as the guide's table has it.
func TestBrowserMistakes(t *testing.T) {
	good := cors.Options{AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost}, AllowedHeaders: []string{"Last-Event-ID"}, ExposedHeaders: []string{hub.GapHeader}, AllowCredentials: true}
	for name, tt := range map[string]struct {
		change   func(o *cors.Options)
		late     bool // CORS comes after the login
		click    string
		line     string
		complain string
	}{
		"late":        {func(*cors.Options) {}, true, "source", "no answer for this page", "No 'Access-Control-Allow-Origin' header is present"},
		"star":        {func(o *cors.Options) { o.AllowedOrigins = []string{"*"} }, false, "source", "no answer for this page", "must not be the wildcard '*'"},
		"credentials": {func(o *cors.Options) { o.AllowCredentials = false }, false, "source", "no answer for this page", "which must be 'true'"},
		"header":      {func(o *cors.Options) { o.AllowedHeaders = nil }, false, "fetch", "no answer for this page", "blocked by CORS policy"},
		"expose":      {func(o *cors.Options) { o.ExposedHeaders = nil }, false, "fetch", "event: gap", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(h *hub.Hub, allowed ...string) *sse.Router {
				o := good
				o.AllowedOrigins = allowed
				tt.change(&o)
				r := sse.Install(chi.NewRouter(), sse.Config{})
				withCORS := cors.Handler(o)
				if tt.late {
					r.Use(authenticate, withCORS)
				} else {
					r.Use(withCORS)
				}
				r.SSE("/events", func(s *sse.ServerSession) error { return h.Serve(s, hub.Subscription{Topics: []string{"news"}}) })
				return r
			})
			b := browser.New(t)
			open(b, s.site.URL)
			click(b, tt.click)
			awaitLine(b, tt.line)
			if tt.complain == "" {
				b.Await("fetch does not see the header", `document.body.innerText.includes("fetch got 200, Sse-Gap: null")`)
				return
			}
			require.Eventually(t, func() bool { return strings.Contains(strings.Join(b.Complaints(), "\n"), tt.complain) }, patience, 10*time.Millisecond, "%s", b.Complaints())
			t.Log(strings.Join(b.Complaints(), "\n"))
		})
	}
}
