// No error, in its text or in its chain, and no log line shows the userinfo, the path or
// the query of a URL.

package client_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

const urlSecret = "hunter2"

// withSecrets returns base with a secret in each part that may hold one.
func withSecrets(base string) string {
	return strings.Replace(base, "://", "://hunter2:hunter2@", 1) + "/hunter2/?key=hunter2#hunter2"
}

// requireNoURLSecret asserts that no error of err's chain shows the secret.
func requireNoURLSecret(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	require.NotContains(t, err.Error(), urlSecret, "%T", err)
	switch err := err.(type) { //nolint:errorlint // it walks the chain
	case interface{ Unwrap() error }:
		requireNoURLSecret(t, err.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range err.Unwrap() {
			requireNoURLSecret(t, err)
		}
	}
	if urlErr, ok := err.(*url.Error); ok { //nolint:errorlint // see above
		require.NotContains(t, urlErr.URL, urlSecret)
	}
}

func TestErrorsAndLogsKeepTheSecretsOfAURL(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Location"] = []string{to}
			w.WriteHeader(http.StatusFound)
		}
	}
	setURL := func(change func(*url.URL)) func(*client.Config, *http.Client) {
		return func(cfg *client.Config, _ *http.Client) {
			cfg.OnRequest = func(r *http.Request) error { change(r.URL); return nil }
		}
	}
	refused := refusing(t)
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		config func(*client.Config, *http.Client)
	}{
		"status":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, nil},
		"type":        {func(http.ResponseWriter, *http.Request) {}, nil},
		"cut off":     {reconnectCut("data: a\n"), nil},
		"reset":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil},
		"OpenTimeout": {silent, func(cfg *client.Config, _ *http.Client) { cfg.OpenTimeout = 50 * time.Millisecond }},
		"IdleTimeout": {func(w http.ResponseWriter, r *http.Request) { send(w, ": x\n\n"); silent(w, r) }, func(cfg *client.Config, _ *http.Client) { cfg.IdleTimeout = 50 * time.Millisecond }},
		"header timeout": {silent, func(_ *client.Config, hc *http.Client) {
			hc.Transport.(*http.Transport).ResponseHeaderTimeout = 50 * time.Millisecond
		}},
		"long wait": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "999999")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, nil},
		"redirect, scheme": {redirect("ftp://hunter2:hunter2@host/hunter2?hunter2"), nil},
		"redirect, bad":    {redirect("http://[hunter2/hunter2?hunter2"), nil},
		"redirect, escape": {redirect("/%zzhunter2?hunter2"), nil},
		"redirect, port":   {redirect("http://hunter2:hunter2@" + refused + "/hunter2?hunter2"), nil},
		"redirect, loop":   {redirect("?again=hunter2"), nil},
		"refused":          {nil, setURL(func(u *url.URL) { u.Host = refused })},
		"OnRequest, path":  {nil, setURL(func(u *url.URL) { u.Host, u.Path = refused, "/hunter2/again" })},
		"OnRequest, user":  {nil, setURL(func(u *url.URL) { u.Host, u.User = refused, url.UserPassword("hunter2", "hunter2") })},
		"OnRequest, bad":   {nil, setURL(func(u *url.URL) { u.Scheme = "ftp" })},
		"OnRequest, host":  {nil, setURL(func(u *url.URL) { u.Host = "" })},
		"OnRequest, raw":   {nil, setURL(func(u *url.URL) { u.Opaque = "hunter2 \n hunter2" })},
		"certificate": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, func(_ *client.Config, hc *http.Client) {
			transport := new(http.Transport)
			transport.ForceAttemptHTTP2 = true
			hc.Transport = transport
			t.Cleanup(transport.CloseIdleConnections)
		}},
		"a Transport with an http.Client": {silent, func(_ *client.Config, hc *http.Client) {
			hc.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				_, err := new(http.Client).Get("http://hunter2@" + refused + "/hunter2")
				return nil, err
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			overEach(t, tt.answer, func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				for _, do := range []bool{false, true} {
					var logged testkit.Buffer
					told := 0
					cfg := client.Config{MaxReconnectionAttempts: 1, Logger: slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))}
					cfg.OnFailure = func(f client.Failure) client.Decision {
						told++
						requireNoURLSecret(t, f.Err)
						return client.Decision{}
					}
					hc := *srv.Client()
					if original, ok := hc.Transport.(*http.Transport); ok {
						transport := original.Clone()
						t.Cleanup(transport.CloseIdleConnections)
						hc.Transport = transport
					}
					if tt.config != nil {
						tt.config(&cfg, &hc)
					}
					ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
					t.Cleanup(cancel)
					c := install(&hc, cfg)
					var err error
					if do {
						var s *client.Session
						var resp *http.Response
						if s, resp, err = c.Do(ctx, withSecrets(srv.URL)); resp != nil {
							resp.Body.Close()
						} else if s != nil {
							_, err = collect(s)
						}
					} else {
						err = c.SSE(ctx, withSecrets(srv.URL), func(s *client.Session) error {
							_, err := collect(s)
							return err
						})
						require.Error(t, err)
						require.NotZero(t, told)
					}
					requireNoURLSecret(t, err)
					require.NotContains(t, logged.String(), urlSecret)
				}
			})
		})
	}
}

func TestErrorsOfURLsKeepTheirSecrets(t *testing.T) {
	for _, bad := range []string{
		"http://ada:hunter2@api.test/\x7f?token=hunter2",
		"http://ada:hunter2#@api.test/",
		"http://ada:hunter2/@api.test/",
		"http://ada:hunter2?@api.test/",
		"http://ada:hun%hunter2@api.test/",
		"http://api.test:hunter2/",
		"http://api.test/%hunter2",
		"http://hunter2 x/",
		"http://[hunter2/x",
		"http://[::1%25hunter2",
		"hunter2:pass@api.test/",
		"hunter2:hunter2:x@api.test/",
		"http:///?token=hunter2",
		"http:hunter2@api.test",
		":hunter2",
		"/hunter2",
		"ftp://ada:hunter2@api.test/?token=hunter2",
		"\"hunter2\" \"hunter2\"://x",
	} {
		t.Run(bad, func(t *testing.T) {
			_, err := install(http.DefaultClient, client.Config{}).Session(t.Context(), bad)
			var configErr *client.ConfigError
			require.ErrorAs(t, err, &configErr)
			require.Equal(t, "url", configErr.Option)
			requireNoURLSecret(t, err)
		})
	}
	for _, option := range []client.Option{
		client.WithAddress("", "ada:hunter2@api.test", 0, ""),
		client.WithAddress("", "api.test?hunter2", 0, ""),
		client.WithAddress("", "", 0, "//hunter2/hunter2?hunter2"),
		client.WithAddress("", "", 0, "/%zz?hunter2"),
		client.WithHeader("Authorization", urlSecret+"\n"),
	} {
		requireNoURLSecret(t, refusedOption(t, "http://api.test/", option))
	}
	require.Contains(t, refusedOption(t, "localhost:8080/x").Error(), `"localhost"`, "a scheme is no secret")
}

// What is left of an error still tells what happened, and where.
func TestErrorOfAnUnreachableServerNamesTheHost(t *testing.T) {
	addr := refusing(t)
	err := refusal(t, install(noKeepAlive(t), client.Config{}), withSecrets("http://"+addr))
	require.Contains(t, err.Error(), fmt.Sprintf("Get \"http://%s\": ", addr))
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	var urlErr *url.Error
	require.ErrorAs(t, err, &urlErr)
	require.Equal(t, "http://"+addr, urlErr.URL)
	require.NotErrorIs(t, err, io.EOF)
}
