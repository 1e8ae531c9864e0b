// Refused: which errors show that the server has not acted on a request.

package client_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// refusedFailures posts to url and returns what OnFailure saw, without another attempt.
func refusedFailures(t *testing.T, hc *http.Client, url string, options ...client.Option) (err error) {
	t.Helper()
	options = append([]client.Option{client.WithBody("text/plain", strings.NewReader("order"))}, options...)
	c := install(hc, client.Config{
		OpenTimeout: 10 * time.Minute,
		OnFailure:   func(f client.Failure) client.Decision { err = f.Err; return client.Stop(nil) },
	})
	s, returned := c.Session(t.Context(), url, options...)
	if returned == nil {
		_, returned = collect(s)
	}
	require.Error(t, err)
	require.Equal(t, client.Refused(err), client.Refused(returned), "the session's error says something else than the failure's")
	return err
}

func TestRefusedBeforeTheRequestIsSent(t *testing.T) {
	secure := httptest.NewUnstartedServer(streamOf("data: x\n\n"))
	secure.Config.ErrorLog = nil
	secure.StartTLS()
	defer secure.Close()
	closed := refusing(t)
	own := func(edit func(*http.Transport)) *http.Client {
		transport := &http.Transport{DialContext: (&net.Dialer{Resolver: &net.Resolver{PreferGo: true}}).DialContext}
		if edit != nil {
			edit(transport)
		}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	proxy := func(scheme string) *http.Client {
		return own(func(tr *http.Transport) { tr.Proxy = http.ProxyURL(&url.URL{Scheme: scheme, Host: closed}) })
	}
	plain := strings.Replace(serve(t, streamOf("data: x\n\n")).URL, "http:", "https:", 1)
	for name, tt := range map[string]struct {
		hc  *http.Client
		url string
	}{
		"closed port":           {own(nil), "http://" + closed},
		"closed port, TLS":      {own(nil), "https://" + closed},
		"unknown host":          {own(nil), "http://" + strings.Repeat("x", 64) + ".invalid/"},
		"untrusted certificate": {own(nil), secure.URL},
		"another host's certificate": {own(func(tr *http.Transport) {
			tr.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			tr.TLSClientConfig.ServerName = "other.test"
		}), secure.URL},
		"unreachable proxy":       {proxy("http"), "http://api.test/"},
		"unreachable proxy, TLS":  {proxy("http"), "https://api.test/"},
		"unreachable TLS proxy":   {proxy("https"), "https://api.test/"},
		"unreachable SOCKS proxy": {proxy("socks5"), "http://api.test/"},
		"a resolver's plain error": {own(func(tr *http.Transport) {
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, &net.DNSError{IsTimeout: true} }
		}), "http://api.test/"},
	} {
		t.Run(name, func(t *testing.T) {
			err := refusedFailures(t, tt.hc, tt.url)
			require.True(t, client.Refused(err), "%v", err)
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		err := refusedFailures(t, own(nil), plain)
		require.False(t, client.Refused(err), "garbage can also come in the middle of a connection")
	})
	t.Run("rejected certificate of the client", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(streamOf("data: x\n\n"))
		srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		srv.Config.ErrorLog = secure.Config.ErrorLog
		srv.StartTLS()
		defer srv.Close()
		err := refusedFailures(t, srv.Client(), srv.URL)
		require.False(t, client.Refused(err), "%v", err)
	})
}

func TestRefusedByAResponse(t *testing.T) {
	for status, want := range map[int]bool{429: true, 503: true, 400: false, 401: false, 404: false, 408: false, 425: false, 500: false, 502: false, 504: false, 529: false} {
		overEach(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }), func(t *testing.T, srv *httptest.Server) {
			t.Helper()
			require.Equal(t, want, client.Refused(refusedFailures(t, srv.Client(), srv.URL)), "status %d", status)
		})
	}
	require.False(t, client.Refused(refusedFailures(t, http.DefaultClient, serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/plain") }).URL)))
}

// After the request was sent, nobody knows.
func TestNotRefusedAfterTheRequestWasSent(t *testing.T) {
	for name, fail := range failures {
		if name == "429" || name == "503" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			url := serveRaw(t, func(conn net.Conn, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				fail(conn)
			})
			require.False(t, client.Refused(refusedFailures(t, noKeepAlive(t), url)))
		})
	}
	t.Run("no head in time", func(t *testing.T) {
		srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() })
		err := refusedFailures(t, srv.Client(), srv.URL, client.WithConfig(func(cfg *client.Config) { cfg.OpenTimeout = 20 * time.Millisecond }))
		require.ErrorAs(t, err, new(*client.TimeoutError))
		require.False(t, client.Refused(err))
	})
	for _, err := range []error{nil, io.EOF, io.ErrUnexpectedEOF, context.Canceled, client.ErrClosed, client.ErrTruncated} {
		require.False(t, client.Refused(err))
	}
}

// net/http repeats a request that was refused seven times before it gives up.
func TestRefusedStreamOfHTTP2(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code    uint32
		streams int32 // that the server sees
		refused bool
	}{
		"REFUSED_STREAM":    {resetRefusedStream, 8, true},
		"PROTOCOL_ERROR":    {resetProtocolError, 1, false}, // net/http would repeat it without end
		"INTERNAL_ERROR":    {resetInternalError, 1, false},
		"CANCEL":            {resetCancel, 1, false},
		"ENHANCE_YOUR_CALM": {resetCalm, 1, false},
	} {
		for _, head := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var streams atomic.Int32
					hc := frameClient(t, func(c *frameConn, stream uint32, _ string) {
						streams.Add(1)
						if head {
							c.head(stream, "200", "text/event-stream", "")
							c.data(stream, ": x\n\n", false)
						}
						c.reset(stream, tt.code)
					})
					err := refusedFailures(t, hc, "http://lab/")
					if head {
						require.EqualValues(t, 1, streams.Load())
						require.Equal(t, name == "REFUSED_STREAM", client.Refused(err), "a server must not send it after it has acted on the request")
						return
					}
					require.Equal(t, tt.streams, streams.Load())
					require.Equal(t, tt.refused, client.Refused(err), "%v", err)
				})
			})
		}
	}
}

// A redirect that turns a POST into a GET shows that the server has acted on the POST.
func TestRefusedAfterARedirect(t *testing.T) {
	closed := "http://" + refusing(t)
	for name, tt := range map[string]struct {
		status  int
		to      string
		refused bool
	}{
		"303 to a closed port": {303, closed, false},
		"302 to a closed port": {302, closed, false},
		"307 to a closed port": {307, closed, true},
		"308 to a closed port": {308, closed, true},
		"303 to a 503":         {303, "/503", false},
		"303 to 307 to a 503":  {303, "/307", false},
		"307 to a 503":         {307, "/503", true},
		"307 to 307 to a 503":  {307, "/307", true},
	} {
		t.Run(name, func(t *testing.T) {
			overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/503":
					w.WriteHeader(http.StatusServiceUnavailable)
				case "/307":
					http.Redirect(w, r, "/503", http.StatusTemporaryRedirect)
				default:
					http.Redirect(w, r, tt.to, tt.status)
				}
			}), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				err := refusedFailures(t, srv.Client(), srv.URL)
				require.Equal(t, tt.refused, client.Refused(err), "%v", err)
				require.NotContains(t, err.Error(), "redirectedError")
			})
		})
	}
}
