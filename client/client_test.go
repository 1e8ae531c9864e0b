// Install: what it copies, and what it leaves as it is.

package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

func TestInstallCopiesItsConfig(t *testing.T) {
	hc, log, _ := anyURL(t)
	cfg := client.Config{OnRequest: func(r *http.Request) error { r.Header.Set("X", "first"); return nil }}
	c := install(hc, cfg)
	cfg.OnRequest = func(*http.Request) error { return errors.New("changed later") }
	_, err := collect(session(t, c, "http://api.test/"))
	require.NoError(t, err)
	require.Equal(t, "first", log.last(t).Header.Get("X"))
}

func TestInstallLeavesTheHTTPClientAsItIs(t *testing.T) {
	srv := serve(t, streamOf("data: x\n\n"))
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	hc := &http.Client{Transport: srv.Client().Transport, Timeout: time.Minute, Jar: jar}
	c := install(hc, client.Config{})
	_, err = collect(session(t, c, srv.URL))
	require.NoError(t, err)
	require.Nil(t, hc.CheckRedirect)
	require.Equal(t, time.Minute, hc.Timeout)
	require.Same(t, srv.Client().Transport, hc.Transport)
	require.Same(t, jar, hc.Jar)
}

func TestInstallLeavesOrdinaryRequestsAsTheyAre(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.add(r)
		if r.URL.Path == "/moved" {
			w.Header().Set("Location", "/echo")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, l.last(t).Body)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		hc := srv.Client()
		install(hc, client.Config{OnRequest: func(*http.Request) error { return errors.New("not for sessions alone") }})
		resp, err := hc.Post(srv.URL+"/moved", "text/plain", strings.NewReader("ping"))
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "ping", string(body))
		require.Empty(t, l.last(t).Header["Accept"])
		require.Empty(t, l.last(t).Header["Cache-Control"])
		require.Contains(t, l.last(t).Header["Referer"][0], "/moved")
	})
}

func TestInstallNeedsAnHTTPClient(t *testing.T) {
	require.Panics(t, func() { client.Install(nil, client.Config{}) })
}

func TestClientThatIsNotInstalledSaysSo(t *testing.T) {
	for name, c := range map[string]*client.Client{"zero": {}, "nil": nil} {
		t.Run(name, func(t *testing.T) {
			s, err := c.Session(t.Context(), "http://127.0.0.1:1/")
			require.Nil(t, s)
			require.ErrorContains(t, err, "client.Install")
			err = c.SSE(t.Context(), "http://127.0.0.1:1/", func(*client.Session) error { panic("run") })
			require.ErrorContains(t, err, "client.Install")
		})
	}
}
