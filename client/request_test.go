package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// loggedStreams answers each request with the stream of its number, and with the
// last of them from then on. An empty one is a 204.
func loggedStreams(l *requestLog, streams ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := l.add(r)
		text := streams[min(n, len(streams))-1]
		if text == "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		streamOf(text)(w, r)
	}
}

// requestPipes returns a client whose connections are pipes to a server of h, which
// in a bubble wait durably.
func requestPipes(t *testing.T, h http.Handler) *http.Client {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case l.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		srv.Close()
		<-served
	})
	return &http.Client{Transport: transport}
}

// pipeListener accepts one end of each pipe.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// roundTrip is a function as a RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRequestOfAStream(t *testing.T) {
	var l requestLog
	overEach(t, loggedStreams(&l, "data: x\n\n"), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL+"/a?b"))
		require.NoError(t, err)
		require.Equal(t, []string{"x"}, dataOf(events))
		got := l.last(t)
		require.Equal(t, "GET", got.Method)
		require.Equal(t, "/a?b", got.URI)
		require.Equal(t, requestAddr(srv), got.Host)
		require.Empty(t, got.Body)
		require.Zero(t, got.Length)
		require.Equal(t, http.Header{
			"Accept":          {"text/event-stream"},
			"Accept-Encoding": {"gzip"}, // of the Transport, which decompresses
			"Cache-Control":   {"no-store"},
			"User-Agent":      got.Header["User-Agent"],
		}, got.Header)
	})
}

func TestRequestHasAContentLengthOnlyWithABody(t *testing.T) {
	for name, tt := range map[string]struct {
		options []client.Option
		want    []string
	}{
		"GET":                     {nil, nil},
		"GET without body":        {[]client.Option{client.WithBody("", nil)}, nil},
		"DELETE":                  {[]client.Option{client.WithMethod("DELETE")}, nil},
		"POST":                    {[]client.Option{client.WithBody("text/plain", strings.NewReader("12345"))}, []string{"5"}},
		"POST without body":       {[]client.Option{client.WithMethod("POST")}, []string{"0"}},
		"POST of unknown length":  {[]client.Option{client.WithBody("", onlyReader{strings.NewReader("12345")})}, nil},
		"length in a header, GET": {[]client.Option{client.WithHeader("Content-Length", "9")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			heads := make(chan http.Header, 1)
			lengths := make(chan int64, 1)
			url := serveRaw(t, func(conn net.Conn, r *http.Request) {
				heads <- r.Header
				lengths <- r.ContentLength
				_, _ = io.Copy(io.Discard, r.Body)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: x\n\n")
			})
			transport := new(http.Transport)
			defer transport.CloseIdleConnections()
			_, err := collect(session(t, install(&http.Client{Transport: transport}, client.Config{}), url, tt.options...))
			require.NoError(t, err)
			head, length := <-heads, <-lengths
			require.Equal(t, tt.want, head["Content-Length"])
			if tt.want != nil {
				require.Equal(t, tt.want[0], strconv.FormatInt(length, 10))
			}
		})
	}
}

func TestPostWithABodyAndItsType(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		send(w, "data: %s %s %d %s\n\n", r.Method, r.Header.Get("Content-Type"), r.ContentLength, body)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL,
			client.WithBody("application/json", strings.NewReader(`{"q":1}`))))
		require.NoError(t, err)
		require.Equal(t, []string{`POST application/json 7 {"q":1}`}, dataOf(events))
	})
}

func TestBodyIsSentAgainIfAskedAndPossible(t *testing.T) {
	body := map[string]func() io.Reader{
		"replayable": func() io.Reader { return strings.NewReader("order") },
		"once":       func() io.Reader { return onlyReader{strings.NewReader("order")} },
		"empty":      func() io.Reader { return strings.NewReader("") },
		"none":       func() io.Reader { return nil },
	}
	for _, tt := range []struct {
		method, body string
		resend       bool
		requests     int
	}{
		{"POST", "replayable", true, 3},
		{"POST", "replayable", false, 1},
		{"POST", "once", true, 1},
		{"POST", "once", false, 1},
		{"POST", "empty", false, 1},
		{"POST", "empty", true, 3},
		{"POST", "none", false, 1},
		{"POST", "none", true, 3},
		{"PATCH", "none", false, 1},
		{"PATCH", "none", true, 3},
		{"PURGE", "none", false, 1},
		{"get", "none", false, 1}, // no method that anyone knows of
		{"PUT", "replayable", false, 1},
		{"PUT", "replayable", true, 3},
		{"GET", "replayable", false, 1},
		{"GET", "replayable", true, 3},
		{"GET", "once", true, 1},
		{"GET", "none", false, 3},
		{"PUT", "none", false, 3},
		{"DELETE", "none", false, 3},
		{"OPTIONS", "none", false, 3},
		{"TRACE", "none", false, 3},
		{"HEAD", "none", false, 3},
	} {
		t.Run(fmt.Sprintf("%s with body %s and Resend %t", tt.method, tt.body, tt.resend), func(t *testing.T) {
			var l requestLog
			srv := serve(t, loggedStreams(&l, "id: 1\n: x\n\n", "id: 2\n: x\n\n", ""))
			var options []client.Option
			if tt.body != "none" {
				options = append(options, client.WithBody("text/plain", body[tt.body]()))
			}
			c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 5, Resend: tt.resend})
			_, err := collect(session(t, c, srv.URL, append(options, client.WithMethod(tt.method))...))
			all := l.all()
			require.Len(t, all, tt.requests)
			want := ""
			if tt.body == "replayable" || tt.body == "once" {
				want = "order"
			}
			for _, r := range all {
				require.Equal(t, want, r.Body)
				require.Equal(t, tt.method, r.Method)
			}
			if tt.body == "once" && tt.resend {
				// What was asked for could not be done.
				var ours *client.Error
				require.ErrorAs(t, err, &ours)
				require.ErrorContains(t, err, "body cannot be sent again")
			} else {
				require.NoError(t, err, "the stream ended in order")
			}
		})
	}
}

// failures are ways in which a connection fails that another attempt could mend.
var failures = map[string]func(conn net.Conn){
	"closed without an answer": func(net.Conn) {},
	"reset without an answer": func(conn net.Conn) {
		_ = conn.(*net.TCPConn).SetLinger(0)
	},
	"half a head": func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Ty")
	},
	"no HTTP": func(conn net.Conn) {
		io.WriteString(conn, "SSH-2.0-OpenSSH_9.9\r\n")
	},
	"503": func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	},
	"429": func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	},
	"a stream that breaks off": func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: x\n\n")
	},
	"a stream that ends": func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: x\n\n")
	},
}

func TestPostIsNeverSentTwiceUnasked(t *testing.T) {
	for name, fail := range failures {
		for _, tt := range []struct {
			name     string
			options  []client.Option
			requests int32
		}{
			{"POST with body", []client.Option{client.WithBody("text/plain", strings.NewReader("order"))}, 1},
			{"POST without body", []client.Option{client.WithMethod("POST")}, 1},
			{"PATCH", []client.Option{client.WithMethod("PATCH")}, 1},
			{"GET", nil, 4},
			{"POST with Resend", []client.Option{
				client.WithBody("text/plain", strings.NewReader("order")),
				client.WithConfig(func(cfg *client.Config) { cfg.Resend = true }),
			}, 4},
		} {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				var requests atomic.Int32
				url := serveRaw(t, func(conn net.Conn, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					if requests.Add(1) <= 3 {
						fail(conn)
						return
					}
					io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
				})
				transport := new(http.Transport)
				defer transport.CloseIdleConnections()
				c := install(&http.Client{Transport: transport}, client.Config{MaxReconnectionAttempts: client.Unlimited})
				s, err := c.Session(t.Context(), url, tt.options...)
				if err == nil {
					_, err = collect(s)
				}
				require.Equal(t, tt.requests, requests.Load())
				if tt.requests > 1 || name == "a stream that ends" {
					require.NoError(t, err)
				} else {
					require.Error(t, err)
				}
			})
		}
	}
}

func TestPostOverAConnectionThatWasIdleIsSentOnce(t *testing.T) {
	var posts atomic.Int32
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			return
		}
		posts.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		assert.NoError(t, err)
		conn.Close()
	})
	resp, err := srv.Client().Get(srv.URL)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	_, err = install(srv.Client(), client.Config{MaxReconnectionAttempts: 5}).Session(t.Context(), srv.URL,
		client.WithBody("text/plain", strings.NewReader("order")))
	require.Error(t, err)
	require.EqualValues(t, 1, posts.Load())
}

func TestRefusedConnectionIsTriedAgainEvenAtFirst(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	url := "http://" + l.Addr().String()
	require.NoError(t, l.Close())
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	for want, options := range map[int][]client.Option{
		4: nil,
		1: {client.WithBody("", strings.NewReader("order"))},
	} {
		attempts := 0
		c := install(&http.Client{Transport: transport}, client.Config{
			MaxReconnectionAttempts: 3,
			OnRequest:               func(*http.Request) error { attempts++; return nil },
		})
		_, err := c.Session(t.Context(), url, options...)
		var ours *client.Error
		require.ErrorAs(t, err, &ours)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		require.Nil(t, ours.Response)
		require.Equal(t, want, attempts)
	}
}

func TestOnRequestIsCalledForEachAttempt(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch l.add(r) % 4 {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			send(w, "id: 7\ndata: a\n\n")
		case 3:
			send(w, "data: b\n\n")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		n := 0
		c := install(srv.Client(), client.Config{
			MaxReconnectionAttempts: 3,
			OnRequest: func(r *http.Request) error {
				n++
				assert.Empty(t, r.Header.Get("X-Attempt"), "what an earlier attempt has set sticks")
				assert.Equal(t, "/a", r.URL.Path, "what an earlier attempt has set sticks")
				r.Header.Set("X-Attempt", strconv.Itoa(n))
				r.Header.Add("Authorization", "Bearer "+strconv.Itoa(n))
				r.URL.Path = "/" + strconv.Itoa(n)
				r.URL.RawQuery = "n=" + strconv.Itoa(n)
				return nil
			},
		})
		before := len(l.all())
		events, err := collect(session(t, c, srv.URL+"/a"))
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, dataOf(events))
		all := l.all()[before:]
		require.Len(t, all, 4)
		for i, r := range all {
			i := strconv.Itoa(i + 1)
			require.Equal(t, []string{i}, r.Header["X-Attempt"])
			require.Equal(t, []string{"Bearer " + i}, r.Header["Authorization"])
			require.Equal(t, "/"+i+"?n="+i, r.URI)
		}
		require.Nil(t, all[1].Header["Last-Event-Id"])
		require.Equal(t, []string{"7"}, all[2].Header["Last-Event-Id"])
		require.Equal(t, []string{"7"}, all[3].Header["Last-Event-Id"])
	})
}

func TestOnRequestSeesWhatWillBeSent(t *testing.T) {
	var l requestLog
	srv := serve(t, loggedStreams(&l, "id: 7\ndata: a\n\n", ""))
	var ids []string
	c := install(srv.Client(), client.Config{
		MaxReconnectionAttempts: 1,
		OnRequest: func(r *http.Request) error {
			assert.Equal(t, "text/event-stream", r.Header.Get("Accept"))
			assert.Equal(t, "no-store", r.Header.Get("Cache-Control"))
			assert.Equal(t, "v", r.Header.Get("X"))
			assert.Equal(t, srv.URL+"/", r.URL.String())
			assert.Equal(t, "GET", r.Method)
			ids = append(ids, r.Header.Get("Last-Event-ID"))
			return nil
		},
	})
	_, err := collect(session(t, c, srv.URL+"/", client.WithHeader("X", "v"), client.WithLastEventID("6")))
	require.NoError(t, err)
	require.Equal(t, []string{"6", "7"}, ids)
}

func TestOnRequestMayRemoveAndReplaceHeaders(t *testing.T) {
	var l requestLog
	srv := serve(t, loggedStreams(&l, "id: 7\ndata: a\n\n", ""))
	c := install(srv.Client(), client.Config{
		MaxReconnectionAttempts: 1,
		OnRequest: func(r *http.Request) error {
			r.Header.Del("Cache-Control")
			r.Header.Set("Accept", "*/*")
			r.Header.Set("Last-Event-ID", "mine")
			return nil
		},
	})
	_, err := collect(session(t, c, srv.URL))
	require.NoError(t, err)
	require.Equal(t, [][]string{nil, nil}, l.values("Cache-Control"))
	require.Equal(t, [][]string{{"*/*"}, {"*/*"}}, l.values("Accept"))
	require.Equal(t, [][]string{{"mine"}, {"mine"}}, l.values("Last-Event-ID"))
}

func TestOnRequestMayGoToAnotherHost(t *testing.T) {
	hc, l, d := anyURL(t)
	n := 0
	c := install(hc, client.Config{
		MaxReconnectionAttempts: 1,
		OnRequest: func(r *http.Request) error {
			if n++; n == 1 {
				r.URL.Host = "other.test:81"
			}
			return nil
		},
	})
	s := session(t, c, "http://api.test/x")
	var data []string
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		if data = append(data, ev.Data); len(data) == 2 {
			break
		}
	}
	require.Equal(t, []string{"other.test:81", "api.test:80"}, d.dialed)
	all := l.all()
	require.Equal(t, "other.test:81", all[0].Host, "the Host header is that of the URL that OnRequest has set")
	require.Equal(t, "api.test", all[1].Host)
}

// closingBody tells when it was closed.
type closingBody struct {
	io.Reader
	closed atomic.Int32
}

func (b *closingBody) Close() error {
	b.closed.Add(1)
	return nil
}

func TestErrorOfOnRequestEndsTheSession(t *testing.T) {
	noToken := errors.New("no token")
	t.Run("at first", func(t *testing.T) {
		var l requestLog
		srv := serve(t, loggedStreams(&l, "data: a\n\n"))
		calls := 0
		body := &closingBody{Reader: strings.NewReader("order")}
		c := install(srv.Client(), client.Config{
			MaxReconnectionAttempts: client.Unlimited,
			Resend:                  true,
			OnRequest:               func(*http.Request) error { calls++; return noToken },
			OnRetry:                 func(client.Retry) { assert.Fail(t, "retries") },
		})
		_, err := c.Session(t.Context(), srv.URL, client.WithBody("", body))
		var ours *client.Error
		require.ErrorAs(t, err, &ours)
		require.ErrorIs(t, err, noToken)
		require.Equal(t, noToken, ours.Err)
		require.Nil(t, ours.Response)
		require.EqualError(t, err, "client: no token")
		require.Equal(t, 1, calls)
		require.Empty(t, l.all())
		require.EqualValues(t, 1, body.closed.Load(), "the body is not closed")
	})
	t.Run("on reconnection", func(t *testing.T) {
		var l requestLog
		srv := serve(t, loggedStreams(&l, "id: 7\ndata: a\n\n"))
		calls := 0
		c := install(srv.Client(), client.Config{
			MaxReconnectionAttempts: client.Unlimited,
			BufferPolicy:            client.All,
			OnRequest: func(*http.Request) error {
				if calls++; calls == 3 {
					return noToken
				}
				return nil
			},
		})
		events, err := collect(session(t, c, srv.URL))
		require.Equal(t, []string{"a", "a"}, dataOf(events))
		require.ErrorIs(t, err, noToken)
		var ours *client.Error
		require.ErrorAs(t, err, &ours)
		require.NotNil(t, ours.Response, "the last")
		require.Equal(t, http.StatusOK, ours.Response.StatusCode)
		require.Equal(t, "id: 7\ndata: a\n\n", string(ours.Body))
		require.Equal(t, 3, calls)
		require.Len(t, l.all(), 2)
	})
}

func TestOnRequestMaySetTheBodyAnew(t *testing.T) {
	for name, options := range map[string][]client.Option{
		"of a POST without body":      {client.WithMethod("POST")},
		"that cannot be sent again":   {client.WithBody("text/plain", onlyReader{strings.NewReader("never sent")})},
		"that can be sent again":      {client.WithBody("text/plain", strings.NewReader("never sent"))},
		"that cannot be sent, closed": {client.WithBody("text/plain", &closingBody{Reader: strings.NewReader("never sent")})},
	} {
		t.Run(name, func(t *testing.T) {
			var l requestLog
			srv := serve(t, loggedStreams(&l, "data: a\n\n", "data: b\n\n", ""))
			n := 0
			c := install(srv.Client(), client.Config{
				MaxReconnectionAttempts: 3,
				Resend:                  true,
				OnRequest: func(r *http.Request) error {
					n++
					text := "attempt " + strconv.Itoa(n)
					r.Body = io.NopCloser(strings.NewReader(text))
					r.ContentLength = int64(len(text))
					return nil
				},
			})
			events, err := collect(session(t, c, srv.URL, options...))
			require.NoError(t, err)
			require.Equal(t, []string{"a", "b"}, dataOf(events))
			require.Equal(t, []string{"attempt 1", "attempt 2", "attempt 3"}, l.bodies())
		})
	}
}

func TestWhatOnRequestMakesNotIdempotentIsNotSentAgainUnasked(t *testing.T) {
	for name, onRequest := range map[string]func(*http.Request) error{
		"a body": func(r *http.Request) error {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("order")), 5
			return nil
		},
		"a method": func(r *http.Request) error {
			r.Method = http.MethodPost
			return nil
		},
	} {
		for resend, want := range map[bool]int{false: 1, true: 3} {
			t.Run(fmt.Sprintf("%s with Resend %t", name, resend), func(t *testing.T) {
				var l requestLog
				srv := serve(t, loggedStreams(&l, "data: a\n\n", "data: b\n\n", ""))
				c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 5, Resend: resend, OnRequest: onRequest})
				_, err := collect(session(t, c, srv.URL))
				require.NoError(t, err)
				require.Len(t, l.all(), want)
			})
		}
	}
}

func TestBodyThatCannotBeSentAgainEndsTheSession(t *testing.T) {
	var l requestLog
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		l.add(r)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	retries := 0
	c := install(srv.Client(), client.Config{
		MaxReconnectionAttempts: client.Unlimited,
		Resend:                  true,
		OnRetry:                 func(client.Retry) { retries++ },
	})
	_, err := c.Session(t.Context(), srv.URL, client.WithBody("", onlyReader{strings.NewReader("order")}))
	var ours *client.Error
	require.ErrorAs(t, err, &ours)
	require.ErrorContains(t, err, "body cannot be sent again")
	require.Len(t, l.all(), 1)
	require.LessOrEqual(t, retries, 1)
}

func TestCookiesOfAJarDoNotPileUp(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := l.add(r)
		http.SetCookie(w, &http.Cookie{Name: "n", Value: strconv.Itoa(n), Path: "/"})
		send(w, "id: %d\ndata: a\n\n", n)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		hc := srv.Client()
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		u, err := url.Parse(srv.URL)
		require.NoError(t, err)
		jar.SetCookies(u, []*http.Cookie{{Name: "session", Value: "s"}})
		hc.Jar = jar
		before := len(l.all())
		s := session(t, install(hc, client.Config{MaxReconnectionAttempts: 9}), srv.URL, client.WithHeader("Cookie", "own=o"))
		n := 0
		for _, err := range s.Incoming() {
			require.NoError(t, err)
			if n++; n == 5 {
				break
			}
		}
		all := l.all()[before:]
		require.Len(t, all, 5)
		for i, r := range all {
			got := slices.Sorted(slices.Values(strings.Split(strings.Join(r.Header["Cookie"], "; "), "; ")))
			want := []string{"own=o", "session=s"}
			if i > 0 {
				want = []string{"n=" + strconv.Itoa(before+i), "own=o", "session=s"}
			}
			require.Equal(t, want, got)
		}
	})
}

func TestLastEventIDIsThatOfTheLastEvent(t *testing.T) {
	long := strings.Repeat("x", 4<<10)
	for name, tt := range map[string]struct {
		start   string
		streams []string
		want    [][]string
	}{
		"none":                     {"", []string{"data: a\n\n", ""}, [][]string{nil, nil}},
		"set":                      {"", []string{"id: 1\ndata: a\n\n", ""}, [][]string{nil, {"1"}}},
		"the last of many":         {"", []string{"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", ""}, [][]string{nil, {"2"}}},
		"sticky":                   {"", []string{"id: 1\ndata: a\n\ndata: b\n\n", ""}, [][]string{nil, {"1"}}},
		"over connections":         {"", []string{"id: 1\ndata: a\n\n", "data: b\n\n", ""}, [][]string{nil, {"1"}, {"1"}}},
		"updated":                  {"", []string{"id: 1\ndata: a\n\n", "id: 2\ndata: b\n\n", ""}, [][]string{nil, {"1"}, {"2"}}},
		"reset":                    {"", []string{"id: 1\ndata: a\n\n", "id:\ndata: b\n\n", ""}, [][]string{nil, {"1"}, nil}},
		"reset without colon":      {"", []string{"id: 1\ndata: a\n\n", "id\ndata: b\n\n", ""}, [][]string{nil, {"1"}, nil}},
		"of a block without data":  {"", []string{"id: 1\n\n", ""}, [][]string{nil, {"1"}}},
		"of a block cut off":       {"", []string{"id: 1\ndata: a\n\nid: 2\ndata: b\n", ""}, [][]string{nil, {"1"}}},
		"start":                    {"0", []string{"data: a\n\n", ""}, [][]string{{"0"}, {"0"}}},
		"start, then updated":      {"0", []string{"id: 1\ndata: a\n\n", ""}, [][]string{{"0"}, {"1"}}},
		"start, then reset":        {"0", []string{"id:\ndata: a\n\n", ""}, [][]string{{"0"}, nil}},
		"spaces at the ends":       {"", []string{"id:   a b  \ndata: a\n\n", ""}, [][]string{nil, {"a b"}}},
		"tabs at the ends":         {"", []string{"id: \ta\tb\t\ndata: a\n\n", ""}, [][]string{nil, {"a\tb"}}},
		"only a space":             {"", []string{"id:  \ndata: a\n\n", ""}, [][]string{nil, nil}},
		"non-ASCII":                {"", []string{"id: é日本🙂\ndata: a\n\n", ""}, [][]string{nil, {"é日本🙂"}}},
		"C1 control characters":    {"", []string{"id: a\u0085b\ndata: a\n\n", ""}, [][]string{nil, {"a\u0085b"}}},
		"NUL, which is ignored":    {"", []string{"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", ""}, [][]string{nil, {"1"}}},
		"4 KiB":                    {"", []string{"id: " + long + "\ndata: a\n\n", ""}, [][]string{nil, {long}}},
		"punctuation":              {"", []string{"id: :;\",=\\%\ndata: a\n\n", ""}, [][]string{nil, {":;\",=\\%"}}},
		"control byte":             {"", []string{"id: a\x01b\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"DEL":                      {"", []string{"id: a\x7fb\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"escape":                   {"", []string{"id: \x1b[0m\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"beyond 4 KiB":             {"", []string{"id: " + long + "x\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"10 MB":                    {"", []string{"id: " + strings.Repeat("x", 10<<20) + "\ndata: a\n\n", ""}, [][]string{nil, nil}},
		"control byte, then fine":  {"", []string{"id: a\x01b\ndata: a\n\n", "id: 2\ndata: b\n\n", ""}, [][]string{nil, nil, {"2"}}},
		"invalid UTF-8, as U+FFFD": {"", []string{"id: a\xffb\ndata: a\n\n", ""}, [][]string{nil, {"a\uFFFDb"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var l requestLog
			srv := serve(t, loggedStreams(&l, tt.streams...))
			c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 3})
			_, err := collect(session(t, c, srv.URL, client.WithLastEventID(tt.start)))
			require.NoError(t, err)
			require.Equal(t, tt.want, l.values("Last-Event-ID"))
		})
	}
}

func TestLastEventIDIsSentOverEachTransport(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch l.add(r) % 4 {
		case 1:
			send(w, "id: é 1\ndata: a\n\n")
		case 2:
			send(w, "id: a\x01b\ndata: b\n\n")
		case 3:
			send(w, "id: 3\ndata: c\n\n")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		before := len(l.all())
		events, err := collect(session(t, install(srv.Client(), client.Config{MaxReconnectionAttempts: 1}), srv.URL))
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b", "c"}, dataOf(events))
		require.Equal(t, [][]string{nil, {"é 1"}, nil, {"3"}}, l.values("Last-Event-ID")[before:])
	})
}

func TestHeadersAreTheSameOnEachAttempt(t *testing.T) {
	var l requestLog
	srv := serve(t, loggedStreams(&l, "data: a\n\n", "data: b\n\n", ""))
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 3})
	_, err := collect(session(t, c, srv.URL,
		client.WithHeader("Authorization", "Bearer t"), client.WithHeader("X", "1"), client.WithHeader("X", "2")))
	require.NoError(t, err)
	all := l.all()
	require.Len(t, all, 3)
	require.Equal(t, []string{"Bearer t"}, all[0].Header["Authorization"])
	require.Equal(t, []string{"1", "2"}, all[0].Header["X"])
	for _, r := range all {
		require.Equal(t, all[0].Header, r.Header)
	}
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

func TestTimeoutOfTheHTTPClientDoesNotCutAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hc := requestPipes(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 3 {
				send(w, "data: %d\n\n", i)
				time.Sleep(time.Hour)
			}
		}))
		hc.Timeout = time.Second
		c := install(hc, client.Config{})
		for _, options := range [][]client.Option{
			nil,
			{client.WithConfig(func(cfg *client.Config) { cfg.OpenTimeout = time.Minute })},
		} {
			start := time.Now()
			s, err := c.Session(t.Context(), "http://api.test/", options...)
			require.NoError(t, err)
			events, err := collect(s)
			require.NoError(t, err)
			require.Equal(t, []string{"0", "1", "2"}, dataOf(events))
			require.Equal(t, 3*time.Hour, time.Since(start))
		}
		require.Equal(t, time.Second, hc.Timeout)
	})
}

func TestOpenTimeoutBoundsTheOpening(t *testing.T) {
	for name, tt := range map[string]struct {
		ofClient time.Duration // http.Client.Timeout
		cfg      client.Config
		call     time.Duration // by WithConfig
		want     time.Duration
	}{
		"by default":               {0, client.Config{}, 0, 30 * time.Second},
		"by Timeout":               {2 * time.Second, client.Config{}, 0, 2 * time.Second},
		"by OpenTimeout":           {0, client.Config{OpenTimeout: 5 * time.Second}, 0, 5 * time.Second},
		"shorter than Timeout":     {time.Minute, client.Config{OpenTimeout: 5 * time.Second}, 0, 5 * time.Second},
		"longer than Timeout":      {time.Second, client.Config{OpenTimeout: time.Minute}, 0, time.Minute},
		"of the call":              {time.Second, client.Config{OpenTimeout: time.Minute}, time.Hour, time.Hour},
		"each attempt of several":  {0, client.Config{OpenTimeout: 5 * time.Second, MaxReconnectionAttempts: 2}, 0, 3 * 5 * time.Second},
		"negative Timeout is none": {-1, client.Config{OpenTimeout: 5 * time.Second}, 0, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hc := requestPipes(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
				hc.Timeout = tt.ofClient
				tt.cfg.ReconnectionTime, tt.cfg.MaxBackoff, tt.cfg.Jitter = 1, 1, -1
				start := time.Now()
				_, err := install(hc, tt.cfg).Session(t.Context(), "http://api.test/", client.WithConfig(func(cfg *client.Config) {
					if tt.call != 0 {
						cfg.OpenTimeout = tt.call
					}
				}))
				require.Equal(t, tt.want, time.Since(start).Truncate(time.Millisecond))

				var timeout *client.TimeoutError
				require.ErrorAs(t, err, &timeout)
				require.Equal(t, "OpenTimeout", timeout.Option)
				require.Equal(t, tt.want/time.Duration(1+tt.cfg.MaxReconnectionAttempts), timeout.Limit)
				var netErr net.Error
				require.ErrorAs(t, err, &netErr)
				require.True(t, netErr.Timeout())
				var ours *client.Error
				require.ErrorAs(t, err, &ours)
				require.Nil(t, ours.Response)
				require.EqualError(t, err, fmt.Sprintf("client: no response within %v (OpenTimeout)", timeout.Limit))
				require.NotErrorIs(t, err, context.Canceled, "nobody has canceled the session")
			})
		})
	}
}

func TestNegativeOpenTimeoutIsNone(t *testing.T) {
	for name, set := range map[string]func(*http.Client, *client.Config){
		"of the config":      func(_ *http.Client, cfg *client.Config) { cfg.OpenTimeout = -1 },
		"beside a Timeout":   func(hc *http.Client, cfg *client.Config) { hc.Timeout, cfg.OpenTimeout = time.Second, -1 },
		"as Timeout, unused": func(hc *http.Client, _ *client.Config) { hc.Timeout = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hc := requestPipes(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					time.Sleep(24 * time.Hour)
					send(w, "data: x\n\n")
				}))
				var cfg client.Config
				set(hc, &cfg)
				s, err := install(hc, cfg).Session(t.Context(), "http://api.test/")
				require.NoError(t, err)
				events, err := collect(s)
				require.NoError(t, err)
				require.Equal(t, []string{"x"}, dataOf(events))
			})
		})
	}
}

// trickle writes text byte by byte, one in a second, until that fails.
func trickle(conn net.Conn, text string) {
	for i := range len(text) {
		if _, err := conn.Write([]byte{text[i]}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// trickledHead is the head of a stream that takes hours to trickle.
var trickledHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX: " + strings.Repeat("x", 10_000)

func TestOpenTimeoutHoldsForAHeadThatTrickles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hc := requestRawPipes(t, func(conn net.Conn, _ *http.Request) { trickle(conn, trickledHead) })
		start := time.Now()
		_, err := install(hc, client.Config{OpenTimeout: 10 * time.Second}).Session(t.Context(), "http://api.test/")
		var timeout *client.TimeoutError
		require.ErrorAs(t, err, &timeout)
		require.Equal(t, client.TimeoutError{Option: "OpenTimeout", Limit: 10 * time.Second}, *timeout)
		require.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestOpenTimeoutHoldsForTheBodyOfARefusal(t *testing.T) {
	const head = "HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n"
	for name, tt := range map[string]struct {
		serve func(conn net.Conn, r *http.Request)
		body  string
	}{
		"that stalls": {func(conn net.Conn, _ *http.Request) {
			io.WriteString(conn, head+"no such")
			_, _ = conn.Read(make([]byte, 1)) // until it is closed
		}, "no such"},
		"that trickles": {func(conn net.Conn, _ *http.Request) {
			io.WriteString(conn, head)
			trickle(conn, strings.Repeat("0123456789", 1000))
		}, "0123456789"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hc := requestRawPipes(t, tt.serve)
				start := time.Now()
				_, err := install(hc, client.Config{OpenTimeout: 9500 * time.Millisecond}).Session(t.Context(), "http://api.test/")
				var status *client.StatusError
				require.ErrorAs(t, err, &status)
				require.Equal(t, 404, status.Status)
				var ours *client.Error
				require.ErrorAs(t, err, &ours)
				require.Equal(t, tt.body, string(ours.Body), "what there was of it")
				require.Equal(t, 9500*time.Millisecond, time.Since(start))
			})
		})
	}
}

func TestCloseOfTheContextEndsTheReadOfARefusal(t *testing.T) {
	url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
		io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\nno such")
		_, _ = conn.Read(make([]byte, 1)) // until it is closed
	})
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := install(&http.Client{Transport: transport}, client.Config{OpenTimeout: -1}).Session(ctx, url)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// requestRawPipes is requestPipes with a server that serves raw connections, after
// the head of a request has been read.
func requestRawPipes(t *testing.T, serve func(conn net.Conn, r *http.Request)) *http.Client {
	t.Helper()
	var conns sync.WaitGroup
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		conns.Go(func() {
			defer theirs.Close()
			if r, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
				serve(theirs, r)
			}
		})
		return ours, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		conns.Wait()
	})
	return &http.Client{Transport: transport}
}

func TestOpenTimeoutAppliesOverEachTransport(t *testing.T) {
	overEach(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		_, err := install(srv.Client(), client.Config{OpenTimeout: 50 * time.Millisecond}).Session(t.Context(), srv.URL)
		var timeout *client.TimeoutError
		require.ErrorAs(t, err, &timeout)
		require.Equal(t, "OpenTimeout", timeout.Option)
	})
}

func TestTimeoutsOfTheTransportApply(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, but by the kernel alone
	require.NoError(t, err)
	defer l.Close()
	silent := "http://" + l.Addr().String()
	for name, tt := range map[string]struct {
		url       string
		transport *http.Transport
		message   string
	}{
		"ResponseHeaderTimeout": {silent, &http.Transport{ResponseHeaderTimeout: 20 * time.Millisecond}, "timeout awaiting response headers"},
		"of the dialer": {
			"http://127.0.0.1:1", &http.Transport{DialContext: (&net.Dialer{Timeout: time.Nanosecond}).DialContext}, "i/o timeout",
		},
		"TLSHandshakeTimeout": {
			strings.Replace(silent, "http", "https", 1), &http.Transport{TLSHandshakeTimeout: 20 * time.Millisecond}, "TLS handshake timeout",
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer tt.transport.CloseIdleConnections()
			attempts := 0
			c := install(&http.Client{Transport: tt.transport}, client.Config{
				MaxReconnectionAttempts: 2,
				OnRequest:               func(*http.Request) error { attempts++; return nil },
			})
			_, err := c.Session(t.Context(), tt.url)
			var ours *client.Error
			require.ErrorAs(t, err, &ours)
			require.Nil(t, ours.Response)
			var netErr net.Error
			require.ErrorAs(t, err, &netErr)
			require.True(t, netErr.Timeout())
			require.ErrorContains(t, err, tt.message)
			var timeout *client.TimeoutError
			require.NotErrorAs(t, err, &timeout, "it is the Transport's, not OpenTimeout")
			require.Equal(t, 3, attempts, "it is a failure of the connection")
		})
	}
}

func TestResponseHeaderTimeoutDoesNotCutAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hc := requestPipes(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			send(w, "data: a\n\n")
			time.Sleep(time.Hour)
			send(w, "data: b\n\n")
		}))
		hc.Transport.(*http.Transport).ResponseHeaderTimeout = time.Second
		s, err := install(hc, client.Config{}).Session(t.Context(), "http://api.test/")
		require.NoError(t, err)
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, dataOf(events))
	})
}

func TestSessionUsesTheTransportOfTheHTTPClient(t *testing.T) {
	var sent []*http.Request
	hc := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		sent = append(sent, r)
		return &http.Response{
			StatusCode: http.StatusOK,
			Header:     http.Header{"Content-Type": {"text/event-stream"}},
			Body:       io.NopCloser(strings.NewReader("data: x\n\n")),
		}, nil
	})}
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	s, err := install(hc, client.Config{}).Session(ctx, "http://api.test/")
	require.NoError(t, err)
	events, err := collect(s)
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, dataOf(events))
	require.Len(t, sent, 1)
	require.Equal(t, "value", sent[0].Context().Value(key{}), "the request has the caller's context")
}
