package middleware_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/middleware"
)

const refusal = `{"status":403,"error":"a page of another origin has sent this request; only this server's own pages, and those of allowed origins, may"}`

// With Sec-Fetch-Site, the other headers are not asked but for an allowed origin.
func TestSameOrigin(t *testing.T) {
	t.Parallel()
	allowed := []string{"https://app.example.com", "http://localhost:3000", "http://[::1]:3000", "capacitor://localhost"}
	for name, tt := range map[string]struct {
		site, origin, host string
		pass               bool
	}{
		"no browser":          {"", "", "api.example.com", true},
		"own page":            {"same-origin", "", "api.example.com", true},
		"own page that posts": {"same-origin", "https://api.example.com", "api.example.com", true},
		"own page behind a proxy that changes Host": {"same-origin", "https://api.example.com", "10.0.0.1:8080", true},
		"typed address":                                  {"none", "", "api.example.com", true},
		"own page, sandboxed":                            {"cross-site", "null", "api.example.com", false},
		"other site":                                     {"cross-site", "https://evil.example", "api.example.com", false},
		"other site, image":                              {"cross-site", "", "api.example.com", false},
		"other subdomain":                                {"same-site", "https://blog.example.com", "api.example.com", false},
		"other subdomain, image":                         {"same-site", "", "api.example.com", false},
		"other port":                                     {"same-site", "http://localhost:3001", "localhost:8080", false},
		"a value that is not known":                      {"same-planet", "", "api.example.com", false},
		"a value in capitals":                            {"Same-Origin", "", "api.example.com", false},
		"Host cannot make up for it":                     {"cross-site", "https://evil.example", "evil.example", false},
		"allowed":                                        {"same-site", "https://app.example.com", "api.example.com", true},
		"allowed, another site":                          {"cross-site", "http://localhost:3000", "api.example.com", true},
		"allowed, IPv6":                                  {"cross-site", "http://[::1]:3000", "api.example.com", true},
		"allowed, an app's scheme":                       {"cross-site", "capacitor://localhost", "api.example.com", true},
		"allowed, image":                                 {"same-site", "", "api.example.com", false},
		"allowed, without Sec-Fetch-Site":                {"", "https://app.example.com", "api.example.com", true},
		"allowed with another scheme":                    {"cross-site", "http://app.example.com", "api.example.com", false},
		"allowed with another port":                      {"cross-site", "http://localhost:3001", "api.example.com", false},
		"allowed with the default port":                  {"cross-site", "https://app.example.com:443", "api.example.com", false},
		"allowed in capitals":                            {"cross-site", "https://APP.example.com", "api.example.com", false},
		"allowed as a prefix":                            {"cross-site", "https://app.example.com.evil.example", "api.example.com", false},
		"allowed as a user":                              {"cross-site", "https://app.example.com@evil.example", "api.example.com", false},
		"old, own page":                                  {"", "http://api.example.com", "api.example.com", true},
		"old, own page with port":                        {"", "http://api.example.com:8080", "api.example.com:8080", true},
		"old, own page over TLS":                         {"", "https://api.example.com", "api.example.com", true},
		"old, Host in capitals":                          {"", "https://api.example.com", "API.example.com", true},
		"old, a proxy adds the port":                     {"", "https://api.example.com", "api.example.com:443", true},
		"old, a proxy adds port 80":                      {"", "http://api.example.com", "api.example.com:80", true},
		"old, the port of the other scheme":              {"", "http://api.example.com", "api.example.com:443", false},
		"old, another port":                              {"", "http://api.example.com:3000", "api.example.com", false},
		"old, another port on the server":                {"", "http://api.example.com", "api.example.com:8080", false},
		"old, IPv6":                                      {"", "http://[::1]:8080", "[::1]:8080", true},
		"old, IPv6 with the default port":                {"", "http://[2001:db8::1]", "[2001:db8::1]:80", true},
		"old, IPv6 without ports":                        {"", "http://[2001:db8::1]", "[2001:db8::1]", true},
		"old, another IPv6":                              {"", "http://[2001:db8::2]", "[2001:db8::1]", false},
		"old, IPv6 whose end looks like a port":          {"", "http://[2001:db8::80]", "[2001:db8::]:80", false},
		"old, other site":                                {"", "https://evil.example", "api.example.com", false},
		"old, sandboxed":                                 {"", "null", "api.example.com", false},
		"old, sandboxed, no Host":                        {"", "null", "", false},
		"old, no Host":                                   {"", "https://evil.example", "", false},
		"old, sandboxed on a host of that name":          {"", "null", "null", false},
		"old, an origin that is no URL":                  {"", "https://%zz", "%zz", false},
		"old, the host as a prefix":                      {"", "https://api.example.com.evil.example", "api.example.com", false},
		"old, the host as a user":                        {"", "https://api.example.com@evil.example", "api.example.com", false},
		"old, an app's scheme with the name of the host": {"", "app://api.example.com", "api.example.com", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := sse.Install(chi.NewRouter(), sse.Config{Logger: slog.New(slog.DiscardHandler)})
			r.Use(middleware.SameOrigin(allowed...))
			r.SSE("/events", stream)
			r.Handle("/plain", http.HandlerFunc(plain))
			for _, target := range []string{"GET /events", "HEAD /events", "GET /plain", "POST /plain", "OPTIONS /events", "GET /none"} {
				method, path, _ := bytes.Cut([]byte(target), []byte(" "))
				req := httptest.NewRequest(string(method), string(path), http.NoBody)
				req.Host = tt.host
				req.Header.Set("X-Forwarded-Host", "evil.example")
				req.Header.Set("Accept", "text/event-stream")
				if tt.site != "" {
					req.Header.Set("Sec-Fetch-Site", tt.site)
				}
				if tt.origin != "" {
					req.Header.Set("Origin", tt.origin)
				}
				w := httptest.NewRecorder()
				r.ServeHTTP(w, req)
				require.Equal(t, !tt.pass, w.Code == http.StatusForbidden, "%s: %d", target, w.Code)
				require.Equal(t, []string{"Origin, Sec-Fetch-Site"}, w.Header().Values("Vary"), target)
				if !tt.pass {
					require.JSONEq(t, refusal, w.Body.String(), target)
				}
			}
		})
	}
}

// An origin that no browser sends would allow nothing, so it is a mistake.
func TestSameOriginRefusesWhatIsNoOrigin(t *testing.T) {
	t.Parallel()
	const form, port, ipv6 = "must be scheme://host or scheme://host:port, such as https://app.example.com, in lower case, and without a path or a wildcard",
		"must have a port from 1 to 65535, or none", "must have an IPv6 address in its shortest form, such as http://[2001:db8::1]:8080"
	for origin, want := range map[string]string{
		"":                                 form,
		"null":                             form,
		"*":                                form,
		"app.example.com":                  form,
		"app.example.com:8080":             form,
		"//app.example.com":                form,
		"https:app.example.com":            form,
		"https://":                         form,
		"https://*.example.com":            form,
		"https://app.example.com/":         form,
		"https://app.example.com/path":     form,
		"https://app.example.com?q":        form,
		"https://app.example.com?":         form,
		"https://app.example.com#f":        form,
		"https://user@app.example.com":     form,
		"HTTPS://app.example.com":          form,
		"https://App.example.com":          form,
		"https://bücher.example":           form,
		"https://a b":                      form,
		" https://app.example.com":         form,
		"https://a.example,https://b.test": form,
		"https://app.example.com:":         port,
		"https://app.example.com:0":        port,
		"https://app.example.com:0443":     port,
		"https://app.example.com:65536":    port,
		"https://app.example.com:https":    form,
		"https://:8080":                    port,
		"https://app.example.com:443":      "must not have the port 443, since a browser sends the origin without it",
		"http://app.example.com:80":        "must not have the port 80, since a browser sends the origin without it",
		"http://[0:0::1]:3000":             ipv6,
		"http://[::01]":                    ipv6,
		"http://[::g]":                     form,
		"http://::1":                       form,
	} {
		assert.PanicsWithValue(t, `middleware: SameOrigin("`+origin+`"): `+want, func() { middleware.SameOrigin("https://ok.example", origin) }, origin)
	}
	for _, origin := range []string{
		"https://app.example.com", "http://app.example.com:443", "https://app.example.com:80", "http://localhost:65535", "http://192.0.2.1",
		"http://[2001:db8::1]", "http://[::ffff:c000:201]:1", "https://xn--bcher-kva.example", "chrome-extension://abcdefghijklmnop", "http://my_host",
	} {
		assert.NotPanics(t, func() { middleware.SameOrigin(origin) }, origin)
	}
}

// A refusal is told to the plugin, if there is one, as other refusals are.
func TestSameOriginTellsThePlugin(t *testing.T) {
	t.Parallel()
	request := func(h http.Handler, method, path string) *httptest.ResponseRecorder {
		return serve(h, method, path, http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}})
	}
	var log bytes.Buffer
	var refused []error
	r := sse.Install(chi.NewRouter(), sse.Config{
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
		OnRefuse: func(_ *http.Request, err error) { refused = append(refused, err) },
		OnOpen:   func(*sse.ServerSession) { assert.Fail(t, "no session may open") },
		OnClose:  func(*sse.ServerSession, sse.End) { assert.Fail(t, "no session may end") },
		RenderError: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "rendered: "+err.Error(), http.StatusForbidden)
		},
	})
	r.Route("/api", func(r chi.Router) {
		r.Use(middleware.SameOrigin())
		sse.From(r).SSE("/events", stream)
		r.Get("/plain", plain)
	})
	with := sse.From(r.With(middleware.SameOrigin()))
	with.SSE("/with", stream)

	for i, path := range []string{"/api/events", "/with"} {
		w := request(r, "GET", path)
		require.Equal(t, http.StatusForbidden, w.Code)
		require.Contains(t, w.Body.String(), "rendered: sse: status 403: a page of another origin")
		require.Len(t, refused, i+1)
		cross, ok := errors.AsType[*middleware.CrossOriginError](refused[i])
		require.True(t, ok)
		require.Equal(t, &middleware.CrossOriginError{Origin: "https://evil.example", Site: "cross-site"}, cross)
		status, ok := errors.AsType[*sse.StatusError](refused[i])
		require.True(t, ok)
		require.Equal(t, http.StatusForbidden, status.Status)
		require.Contains(t, log.String(), "level=WARN msg=\"sse: session refused\" path="+path)
	}

	log.Reset()
	w := request(r, "GET", "/api/plain")
	require.Contains(t, w.Body.String(), "rendered: ")
	require.Len(t, refused, 2, "it is not for a stream")
	require.Empty(t, log.String())
	require.Zero(t, r.Plugin().Len())

	bare := middleware.SameOrigin()(http.HandlerFunc(plain))
	require.JSONEq(t, refusal, request(bare, "GET", "/").Body.String())
}
