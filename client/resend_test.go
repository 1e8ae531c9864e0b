// Resend: which requests the client sends again.

package client_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

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
		{"get", "none", false, 1}, // methods are case-sensitive, so this is an unknown one
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
			c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 5, Resend: resendIf(tt.resend)})
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
				// Resend is set, but the body is used up.
				var ours *client.Error
				require.ErrorAs(t, err, &ours)
				require.ErrorContains(t, err, "body cannot be sent again")
			} else {
				require.NoError(t, err, "the stream ended in order, so the session must too")
			}
		})
	}
}

// failures lists ways in which a connection fails and after which another attempt may
// succeed.
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
				client.WithConfig(func(cfg *client.Config) { cfg.Resend = client.ResendAlways }),
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
				c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 5, Resend: resendIf(resend), OnRequest: onRequest})
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
		Resend:                  client.ResendAlways,
		OnRetry:                 func(client.Failure) { retries++ },
	})
	_, err := c.Session(t.Context(), srv.URL, client.WithBody("", onlyReader{strings.NewReader("order")}))
	var ours *client.Error
	require.ErrorAs(t, err, &ours)
	require.ErrorContains(t, err, "body cannot be sent again")
	require.Len(t, l.all(), 1)
	require.LessOrEqual(t, retries, 1)
}

// Each POST costs money. If the server starts over each time, the bound on the attempts
// holds, however many events it sends.
func TestOnlyANewIDSetsTheAttemptsOfAPostBack(t *testing.T) {
	again := func(text string) []string { return []string{text, text, text, text, text, ""} }
	for name, tt := range map[string]struct {
		streams  []string
		options  []client.Option
		requests int
	}{
		"no ids":                        {again("data: a\n\ndata: b\n\n"), nil, 3},
		"no ids after an earlier id":    {again("data: a\n\n"), []client.Option{client.WithLastEventID("5")}, 3},
		"the same id each time":         {again("id: 5\ndata: a\n\n"), nil, 3},
		"an id that is taken back":      {again("id: 5\ndata: a\n\nid\ndata: b\n\n"), nil, 3},
		"the same ids each time":        {again("id: 5\ndata: a\n\nid: 6\ndata: a\n\n"), nil, 3},
		"an id that is only empty":      {again("id\ndata: a\n\n"), []client.Option{client.WithLastEventID("5")}, 3},
		"an id without an event":        {[]string{"id: 1\n\n", "id: 2\n\n", "id: 3\n\n", "id: 4\n\n", ""}, nil, 3},
		"a new id each time":            {[]string{"id: 1\ndata: a\n\n", "id: 2\ndata: a\n\n", "id: 3\ndata: a\n\n", "id: 4\ndata: a\n\n", ""}, nil, 5},
		"no ids, but a GET":             {again("data: a\n\n"), []client.Option{client.WithMethod("GET"), client.WithBody("", nil)}, 6},
		"no ids, and a GET with a body": {again("data: a\n\n"), []client.Option{client.WithMethod("GET")}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var l requestLog
			srv := serve(t, loggedStreams(&l, tt.streams...))
			c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 2, Resend: client.ResendAlways})
			options := append([]client.Option{client.WithBody("text/plain", strings.NewReader("order"))}, tt.options...)
			_, err := collect(session(t, c, srv.URL, options...))
			require.Len(t, l.all(), tt.requests)
			if tt.requests == len(tt.streams) {
				require.NoError(t, err)
			} else {
				require.ErrorAs(t, err, new(*client.AttemptsError))
			}
		})
	}
}
