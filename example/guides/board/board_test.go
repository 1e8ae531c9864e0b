package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

// follow opens a library's stream. The function that it returns returns the next event.
func (s *server) follow(l library, lastID string) (next func() event.Event) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+"/events/"+l.name, http.NoBody)
	require.NoError(s.t, err)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(s.t, http.StatusOK, resp.StatusCode)
	decoder := event.NewDecoder(resp.Body)
	return func() event.Event {
		s.t.Helper()
		for {
			ev, err := decoder.Decode()
			require.NoError(s.t, err)
			if ev.Data != "" {
				return ev
			}
		}
	}
}

// html returns the HTML in an event.
func (l library) html(t *testing.T, ev event.Event) string {
	t.Helper()
	require.Equal(t, l.event.Name, ev.Name)
	if l.name == "htmx" {
		return ev.Data
	}
	lines := strings.Split(ev.Data, "\n")
	for i, line := range lines {
		text, ok := strings.CutPrefix(line, "elements ")
		require.True(t, ok, "%q", line)
		lines[i] = text
	}
	return strings.Join(lines, "\n")
}

// Both libraries get the same HTML: the board, each change, and what they have missed.
func TestStreams(t *testing.T) {
	s := start(t)
	var html [2][]string
	for i, l := range libraries {
		next := s.follow(l, "")
		all := l.html(t, next())
		for _, part := range []string{`<ul id="todo"`, `<ul id="doing"`, `<ul id="done"`, `<span>one</span>`, `<span>two</span>`} {
			assert.Equal(t, 1, strings.Count(all, part), all)
		}
		s.move("0", "doing")
		first := next()
		changed := l.html(t, first)
		assert.Equal(t, 1, strings.Count(changed, `<ul id="todo"`))
		assert.Equal(t, 1, strings.Count(changed, `<ul id="doing"`))
		assert.NotContains(t, changed, `<ul id="done"`)
		s.move("0", "todo")
		s.move("1", "todo")
		again := s.follow(l, first.ID)
		for range 2 {
			want := next()
			assert.Equal(t, want, again())
			html[i] = append(html[i], l.html(t, want))
		}
		html[i] = append(html[i], all, changed)
	}
	assert.Equal(t, html[0], html[1])
}

// No text can leave its element, its event or its line.
func TestHostileTexts(t *testing.T) {
	s := start(t)
	var nexts []func() event.Event
	for _, l := range libraries {
		next := s.follow(l, "")
		next()
		nexts = append(nexts, next)
	}
	for _, text := range hostile {
		s.add(text)
		a, b := htmx.html(t, nexts[0]()), datastar.html(t, nexts[1]())
		assert.Equal(t, a, b)
		assert.NotContains(t, a, "<img")
		assert.NotContains(t, a, "<script")
	}
}

func TestRefuses(t *testing.T) {
	s := start(t)
	for _, text := range []string{"", " \n", strings.Repeat("x", 501)} {
		assert.Equal(t, http.StatusBadRequest, s.post("/cards", url.Values{"text": {text}}))
	}
	for id, column := range map[string]string{"0": "elsewhere", "7": "todo", "-1": "todo", "x": "todo"} {
		assert.Equal(t, http.StatusNotFound, s.post("/cards/"+id, url.Values{"to": {column}}))
	}
	req, err := http.NewRequest(http.MethodPost, s.url+"/cards?text=x", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
}

// The program runs until its context ends.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", "/datastar.js", write) }()
	line, err := bufio.NewReader(read).ReadString('\n')
	require.NoError(t, err)
	site, ok := strings.CutPrefix(strings.TrimSpace(line), "Listening on ")
	require.True(t, ok, line)
	(&server{t: t, url: site}).follow(htmx, "")()
	for path, want := range map[string]string{"/": "/lib/htmx.min.js", "/datastar": "/datastar.js", "/lib/hx-sse.min.js": "htmx"} {
		resp, err := http.Get(site + path)
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Contains(t, string(text), want)
	}
	cancel()
	require.NoError(t, testkit.Receive(t, ended))
}
