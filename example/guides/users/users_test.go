package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

var everywhere = url.Values{"everywhere": {"yes"}}

// A logout ends all streams of the browser, after what was sent before, and no other streams.
func TestLogout(t *testing.T) {
	s := start(t, options{})
	laptop, phone, other := s.visitor("ann"), s.visitor("ann"), s.visitor("bob")
	var tabs []*tab
	for range 5 {
		tabs = append(tabs, laptop.open())
	}
	phoneTab, otherTab := phone.open(), other.open()
	laptop.note("before")
	for _, b := range tabs {
		b.expect("note", "before")
	}
	began := time.Now()
	require.Equal(t, http.StatusNoContent, laptop.post("/logout", nil))
	for _, b := range tabs {
		b.expect("logout", "")
	}
	t.Logf("from the request to the last client's knowing: %v", time.Since(began))
	phone.note("after")
	for _, b := range tabs {
		b.refused(http.StatusUnauthorized)
	}
	assert.EqualValues(t, 7+5, s.opened.Load(), "each has asked once more")
	phoneTab.expect("note", "before")
	phoneTab.expect("note", "after")
	assert.Equal(t, http.StatusUnauthorized, laptop.post("/notes", url.Values{"text": {"x"}}))

	phone.open()
	require.Equal(t, http.StatusNoContent, phone.post("/logout", everywhere))
	phoneTab.expect("logout", "")
	phoneTab.refused(http.StatusUnauthorized)
	other.note("still here")
	otherTab.expect("note", "still here")
}

// Everywhere means the user's other browsers too.
func TestLogoutEverywhere(t *testing.T) {
	s := start(t, options{})
	laptop, phone := s.visitor("ann"), s.visitor("ann")
	laptopTab, phoneTab := laptop.open(), phone.open()
	require.Equal(t, http.StatusNoContent, laptop.post("/logout", everywhere))
	for _, b := range []*tab{laptopTab, phoneTab} {
		b.expect("logout", "")
		b.refused(http.StatusUnauthorized)
	}
}

// A stream that opens while its user logs out does not slip through, wherever it is.
func TestLogoutDuringAnOpening(t *testing.T) {
	for what, at := range map[string]struct {
		nth           int
		after, kicked bool
	}{
		"in the middleware":                     {1, true, false},
		"in OnStart, before it has looked":      {2, false, false},
		"in OnStart, when it has seen a login":  {2, true, true},
		"in the middleware, before it has seen": {1, false, false},
	} {
		t.Run(what, func(t *testing.T) {
			s := start(t, options{})
			v := s.visitor("ann")
			g := stopAt(s.app, at.nth, at.after)
			opened := make(chan *tab)
			go func() { opened <- v.reopen() }()
			<-g.entered
			require.Equal(t, http.StatusNoContent, v.post("/logout", nil))
			close(g.leave)
			b := <-opened
			if at.kicked {
				b.expect("logout", "")
			}
			b.refused(http.StatusUnauthorized)
			require.Eventually(t, func() bool { return s.streams.Len() == 0 }, patience, time.Millisecond)
		})
	}
}

// A stream that opens while the login is being removed does not slip through either: the login is
// removed first, and the kick comes after.
func TestLogoutRemovesThenKicks(t *testing.T) {
	s := start(t, options{})
	v := s.visitor("ann")
	first := v.open()
	tx, err := s.app.store.db.Begin() // the login cannot be removed before its end
	require.NoError(t, err)
	status := make(chan int)
	go func() { status <- v.post("/logout", nil) }()
	select {
	case <-first.events:
		t.Error("it was kicked before the login was removed")
	case <-time.After(200 * time.Millisecond):
	}
	second := v.open()
	require.NoError(t, tx.Rollback())
	require.Equal(t, http.StatusNoContent, <-status)
	for _, b := range []*tab{first, second} {
		b.expect("logout", "")
		b.refused(http.StatusUnauthorized)
	}
}

// token returns the token in the browser's cookie.
func token(t *testing.T, v *visitor) string {
	t.Helper()
	site, err := url.Parse(v.url)
	require.NoError(t, err)
	require.Len(t, v.http.Jar.Cookies(site), 1)
	return v.http.Jar.Cookies(site)[0].Value
}

// A stream ends when its login does. If the user has done something meanwhile, the client comes
// back and misses nothing.
func TestExpiry(t *testing.T) {
	const lifetime = 30 * time.Minute
	dir := newTestApp(t, options{}).options.file // TempDir outside of the bubble
	synctest.Test(t, func(t *testing.T) {
		a, err := newApp(context.Background(), options{file: dir + "2", lifetime: lifetime, recheck: 24 * time.Hour})
		require.NoError(t, err)
		pipes := testkit.NewPipeListener()
		r := a.routes()
		srv := &http.Server{Handler: r}
		r.Plugin().Attach(srv)
		go func() { _ = srv.Serve(pipes) }()
		transport := &http.Transport{DialContext: pipes.DialContext}
		defer func() {
			ctx := context.Background()
			require.NoError(t, r.Plugin().Shutdown(ctx))
			transport.CloseIdleConnections()
			require.NoError(t, srv.Shutdown(ctx))
			require.NoError(t, a.hub.Shutdown(ctx))
			require.NoError(t, a.store.close())
		}()
		v := newVisitor(t, "http://users", "ann", transport)
		phone := newVisitor(t, "http://users", "ann", transport)
		began := time.Now()
		b := v.open()
		time.Sleep(20 * time.Minute)
		v.note("keeps it alive") // until 50 minutes after the beginning
		b.expect("note", "keeps it alive")
		time.Sleep(10*time.Minute - time.Second)
		assert.Equal(t, 1, r.Plugin().Len())
		phone.note("renews the phone's")
		b.expect("note", "renews the phone's")
		time.Sleep(time.Second + 500*time.Millisecond)
		assert.Zero(t, r.Plugin().Len(), "it has ended, and the client waits")
		phone.note("meanwhile")
		b.expect("note", "meanwhile")
		assert.Equal(t, 1, r.Plugin().Len())
		time.Sleep(time.Until(began.Add(50*time.Minute - time.Second)))
		assert.Equal(t, 1, r.Plugin().Len())
		b.refused(http.StatusUnauthorized)
		assert.WithinDuration(t, began.Add(50*time.Minute), time.Now(), 3*time.Second)
	})
}

// Somebody else blocks a user in the database.
func TestBlocked(t *testing.T) {
	s := start(t, options{recheck: 20 * time.Millisecond})
	ann, bob := s.visitor("ann"), s.visitor("bob")
	annTab, bobTab := ann.open(), bob.open()
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(s.app.options.file))
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec(`UPDATE users SET blocked = 1 WHERE name = 'ann'`)
	require.NoError(t, err)
	annTab.refused(http.StatusUnauthorized)
	bob.note("still here")
	bobTab.expect("note", "still here")
}

// A database that cannot tell ends no stream.
func TestTroubleOfTheDatabase(t *testing.T) {
	s := start(t, options{recheck: 10 * time.Millisecond})
	find := s.app.find
	var trouble atomic.Bool
	var asked atomic.Int64
	s.app.find = func(ctx context.Context, token string) (login, error) {
		if trouble.Load() {
			asked.Add(1)
			return login{}, errors.New("the database is out of reach")
		}
		return find(ctx, token)
	}
	v := s.visitor("ann")
	b := v.open()
	trouble.Store(true)
	require.Eventually(t, func() bool { return asked.Load() > 3 }, patience, time.Millisecond)
	assert.Equal(t, http.StatusInternalServerError, v.post("/notes", nil))
	trouble.Store(false)
	v.note("still here")
	b.expect("note", "still here")
	assert.EqualValues(t, 1, s.opened.Load())
}

// A user has 20 streams, in all browsers together.
func TestLimit(t *testing.T) {
	s := start(t, options{})
	laptop, phone, other := s.visitor("ann"), s.visitor("ann"), s.visitor("bob")
	var tabs []*tab
	for i := range maxStreams {
		tabs = append(tabs, []*visitor{laptop, phone}[i%2].open())
	}
	resp, err := phone.http.Get(s.url + "/events")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusTooManyRequests, resp.StatusCode)
	assert.NotEmpty(t, resp.Header.Get("Retry-After"))
	other.open()
	tabs[0].session.Close()
	require.Eventually(t, func() bool { return s.streams.Len() == maxStreams }, patience, time.Millisecond)
	phone.open()
}

func TestOrigins(t *testing.T) {
	const friend = "https://app.example"
	s := start(t, options{origin: friend})
	v := s.visitor("ann")
	for what, tt := range map[string]struct {
		origin, site string
		refused      bool
	}{
		"no page":                   {},
		"own page":                  {site: "same-origin"},
		"own page, with Origin":     {origin: s.url, site: "same-origin"},
		"own page, older browser":   {origin: s.url},
		"friend":                    {origin: friend, site: "cross-site"},
		"friend, older browser":     {origin: friend},
		"stranger":                  {origin: "https://app.example.evil", site: "cross-site", refused: true},
		"stranger of the same site": {origin: "https://other.example", site: "same-site", refused: true},
		"stranger, older browser":   {origin: "https://evil.example", refused: true},
		"stranger without Origin":   {site: "cross-site", refused: true},
		"sandboxed page":            {origin: "null", site: "cross-site", refused: true},
	} {
		for path, method := range map[string]string{"/events": http.MethodGet, "/me": http.MethodGet, "/notes": http.MethodPost, "/login": http.MethodPost} {
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, method, s.url+path+"?name=bob", http.NoBody)
			require.NoError(t, err)
			if tt.origin != "" {
				req.Header.Set("Origin", tt.origin)
			}
			if tt.site != "" {
				req.Header.Set("Sec-Fetch-Site", tt.site)
			}
			req.AddCookie(&http.Cookie{Name: "login", Value: token(t, v)})
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			cancel()
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, tt.refused, resp.StatusCode == http.StatusForbidden, "%s: %s", what, path)
			allowed := resp.Header.Get("Access-Control-Allow-Origin")
			if tt.origin == friend {
				assert.Equal(t, friend, allowed, what)
				assert.Equal(t, "true", resp.Header.Get("Access-Control-Allow-Credentials"), what)
			} else {
				assert.Empty(t, allowed, "%s: %s", what, path)
				assert.Empty(t, resp.Header.Get("Access-Control-Allow-Credentials"), what)
			}
			assert.Equal(t, "Origin", resp.Header.Get("Vary"), what)
		}
	}
	resp, err := http.Get(s.url + "/") // any page may link to the page
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestRefuses(t *testing.T) {
	s := start(t, options{})
	v := s.visitor("ann")
	for _, name := range []string{"", " ", string(make([]byte, 51))} {
		assert.Equal(t, http.StatusBadRequest, v.post("/login", url.Values{"name": {name}}))
	}
	stranger := &visitor{t, s.url, &http.Client{}}
	stranger.reopen().refused(http.StatusUnauthorized)
	for _, path := range []string{"/notes", "/logout"} {
		assert.Equal(t, http.StatusUnauthorized, stranger.post(path, nil))
	}
	require.Panics(t, func() { allowOrigin("app.example") })
}

// The program runs until its context ends, and ends its streams in order.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	o := options{file: filepath.Join(t.TempDir(), "users.db"), addr: "127.0.0.1:0", lifetime: time.Hour, recheck: time.Hour}
	go func() { ended <- run(ctx, o, write) }()
	line, err := bufio.NewReader(read).ReadString('\n')
	require.NoError(t, err)
	site, ok := strings.CutPrefix(strings.TrimSpace(line), "Listening on ")
	require.True(t, ok, line)
	v := newVisitor(t, site, "ann", http.DefaultTransport)
	b := v.open()
	v.note("hello")
	b.expect("note", "hello")
	cancel()
	require.NoError(t, <-ended)
	b.session.Close()
}

// The program says what is wrong with its file and its address.
func TestRunFails(t *testing.T) {
	s := start(t, options{})
	o := s.app.options
	o.addr = s.url[len("http://"):]
	require.ErrorContains(t, run(t.Context(), o, nil), "address already in use")
	o.file = "/dev/null/users.db"
	require.Error(t, run(t.Context(), o, nil))
}
