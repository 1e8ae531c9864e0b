package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// server is the program without its command line.
type server struct {
	t       *testing.T
	url     string
	board   *board
	plugin  *sse.Plugin
	down    atomic.Bool  // streams are broken off at once
	resumed atomic.Int64 // requests with a Last-Event-ID
	conns   sync.Map     // the program's connections, also those of detached sessions
}

func start(t *testing.T) *server {
	t.Helper()
	b, err := newBoard("one", "two")
	require.NoError(t, err)
	s := &server{t: t, board: b}
	r := routes(b, "/datastar.js")
	srv := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/events/") {
			if s.down.Load() {
				panic(http.ErrAbortHandler)
			}
			if req.Header.Get("Last-Event-ID") != "" {
				s.resumed.Add(1)
			}
		}
		r.ServeHTTP(w, req)
	}), func(srv *httptest.Server) {
		srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			s.conns.Store(c, true)
			return ctx
		}
		r.Plugin().Attach(srv.Config)
	})
	s.url, s.plugin = srv.URL, r.Plugin()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // t.Context has ended
		defer cancel()
		require.NoError(t, r.Plugin().Shutdown(ctx))
		require.NoError(t, b.hub.Shutdown(ctx))
	})
	return s
}

// cut cuts all connections. The streams must look broken, so nothing may be written any longer when the
// server notices.
func (s *server) cut() {
	s.conns.Range(func(c, _ any) bool {
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.(*net.TCPConn).CloseRead()
		return true
	})
}

// streams awaits that so many clients follow the board.
func (s *server) streams(n int) {
	s.t.Helper()
	testkit.Eventually(s.t, func() bool { return s.plugin.Len() == n }, "the streams are open")
}

func (s *server) post(path string, form url.Values) int {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // cut cuts idle connections too
	resp, err := client.PostForm(s.url+path, form)
	require.NoError(s.t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	require.NoError(s.t, resp.Body.Close())
	return resp.StatusCode
}

func (s *server) add(text string) {
	s.t.Helper()
	require.Equal(s.t, http.StatusNoContent, s.post("/cards", url.Values{"text": {text}}))
}

func (s *server) move(id, column string) {
	s.t.Helper()
	require.Equal(s.t, http.StatusNoContent, s.post("/cards/"+id, url.Values{"to": {column}}))
}

//go:embed testdata/datastar-1.0.0-beta.11.js
var datastarScript []byte

// asBeta returns the URL of a proxy for the newest Datastar that is on npm. It has other names than
// version 1.0 has: for the attribute that opens the stream, for the event, and for its lines.
func asBeta(t *testing.T, program string) string {
	t.Helper()
	target, err := url.Parse(program)
	require.NoError(t, err)
	names := strings.NewReplacer("data-init=", "data-on-load=", "datastar-patch-elements", "datastar-merge-fragments", "data: elements ", "data: fragments ")
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		FlushInterval: -1,
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ModifyResponse: func(resp *http.Response) error {
			body, lines := resp.Body, bufio.NewReader(resp.Body)
			read, write := io.Pipe()
			resp.Body = struct {
				io.Reader
				io.Closer
			}{read, body}
			resp.Header.Del("Content-Length")
			go func() {
				for {
					line, err := lines.ReadString('\n')
					if _, writeErr := names.WriteString(write, line); err != nil || writeErr != nil {
						_ = write.CloseWithError(err)
						return
					}
				}
			}()
			return nil
		},
	}
	return testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/datastar.js" {
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = io.Copy(w, bytes.NewReader(datastarScript))
			return
		}
		proxy.ServeHTTP(w, r)
	})).URL
}

// quote returns text as a literal of JavaScript.
func quote(text string) string {
	literal, _ := json.Marshal(text)
	return string(literal)
}
