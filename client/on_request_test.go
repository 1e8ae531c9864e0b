// OnRequest: what it sees, and what it may change.

package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

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
				assert.Empty(t, r.Header.Get("X-Attempt"), "a change of an earlier attempt is still there")
				assert.Equal(t, "/a", r.URL.Path, "a change of an earlier attempt is still there")
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
			assert.Equal(t, "no-cache", r.Header.Get("Cache-Control"))
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
	require.Equal(t, "other.test:81", all[0].Host, "the Host header is not that of the URL that OnRequest has set")
	require.Equal(t, "api.test", all[1].Host)
}

// closingBody counts how often it is closed.
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
			Resend:                  client.ResendAlways,
			OnRequest:               func(*http.Request) error { calls++; return noToken },
			OnRetry:                 func(client.Failure) { assert.Fail(t, "the client tries again") },
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
		require.EqualValues(t, 1, body.closed.Load(), "the body must be closed once")
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
		require.NotNil(t, ours.Response, "the last response is missing")
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
				Resend:                  client.ResendAlways,
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
