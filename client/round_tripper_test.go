// The Transport of the http.Client: tokens, loggers, panics, and closed bodies.

package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// tokenTransport adds a token to each request. After a 401 it takes the next token and
// repeats the request.
type tokenTransport struct {
	base    http.RoundTripper
	mu      sync.Mutex
	token   int
	renewed int
}

func (tt *tokenTransport) send(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	tt.mu.Lock()
	r.Header.Set("Authorization", "Bearer "+strconv.Itoa(tt.token))
	tt.mu.Unlock()
	return tt.base.RoundTrip(r)
}

func (tt *tokenTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := tt.send(r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	tt.mu.Lock()
	tt.token++
	tt.renewed++
	tt.mu.Unlock()
	if r.GetBody != nil {
		r = r.Clone(r.Context())
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	return tt.send(r)
}

func TestTokenIsRenewedByARoundTripper(t *testing.T) {
	var valid atomic.Int32
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.add(r)
		if r.Header.Get("Authorization") != "Bearer "+strconv.Itoa(int(valid.Load())) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		valid.Add(1) // so the token is no longer valid
		send(w, "id: %d\ndata: %s\n\n", valid.Load(), l.last(t).Body)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		for name, options := range map[string][]client.Option{
			"GET":  nil,
			"POST": {client.WithBody("text/plain", strings.NewReader("question"))},
		} {
			valid.Store(1)
			before := len(l.all())
			tokens := &tokenTransport{base: srv.Client().Transport}
			c := install(&http.Client{Transport: tokens}, client.Config{MaxReconnectionAttempts: 5, Resend: client.ResendAlways})
			s := session(t, c, srv.URL, options...)
			n := 0
			for ev, err := range s.Incoming() {
				require.NoError(t, err)
				if name == "POST" {
					require.Equal(t, "question", ev.Data)
				}
				if n++; n == 3 {
					break
				}
			}
			require.Equal(t, 3, tokens.renewed)
			require.Len(t, l.all()[before:], 6)
		}
	})
}

func TestTokenThatCannotBeRenewedIsARefusal(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "who are you?")
	})
	tokens := &tokenTransport{base: srv.Client().Transport}
	err := refusal(t, install(&http.Client{Transport: tokens}, client.Config{MaxReconnectionAttempts: 5}), srv.URL)
	require.EqualError(t, err, "client: expected status 200 but was 401")
	require.Equal(t, `Bearer realm="x"`, err.Response.Header.Get("WWW-Authenticate"))
	require.Equal(t, "who are you?", string(err.Body))
	require.Equal(t, 1, tokens.renewed)
}

func TestRoundTripperThatDumpsDoesNotBreakTheStream(t *testing.T) {
	const stream = "id: 1\ndata: a\n\nid: 2\ndata: b\n\n"
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		send(w, stream+"data: %s\n\n", body)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		var logged strings.Builder
		hc := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			out, err := httputil.DumpRequestOut(r, true)
			if err != nil {
				return nil, err
			}
			logged.Write(out)
			resp, err := srv.Client().Transport.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			in, err := httputil.DumpResponse(resp, true)
			logged.Write(in)
			return resp, err
		})}
		events, err := collect(session(t, install(hc, client.Config{}), srv.URL, client.WithBody("text/plain", strings.NewReader("question"))))
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b", "question"}, dataOf(events))
		require.Contains(t, logged.String(), "POST / HTTP/1.1")
		require.Contains(t, logged.String(), "data: a")
	})
}

func TestRoundTripperThatTeesSeesEachEventAsItArrives(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: a\n\n")
		<-r.Context().Done() // the stream stays open
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		var logged bytes.Buffer
		closed := 0
		hc := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			resp, err := srv.Client().Transport.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			body := resp.Body
			resp.Body = &teeBody{io.TeeReader(body, &logged), func() error { closed++; return body.Close() }}
			return resp, nil
		})}
		s := session(t, install(hc, client.Config{}), srv.URL)
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			require.Equal(t, "a", ev.Data)
			require.Equal(t, "data: a\n\n", logged.String())
			break
		}
		require.Equal(t, 1, closed, "the body of the RoundTripper must be closed once")
	})
}

type teeBody struct {
	io.Reader
	close func() error
}

func (b *teeBody) Close() error { return b.close() }

func TestBodyOfEachResponseIsClosed(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		header http.Header
		block  func(*client.Session) error
		panics bool
	}{
		"refused for its status":   {status: 404},
		"refused for its type":     {status: 200, header: http.Header{"Content-Type": {"text/plain"}}},
		"no content":               {status: 204},
		"block that does not read": {status: 200, block: func(*client.Session) error { return nil }},
		"block that fails":         {status: 200, block: func(*client.Session) error { return io.EOF }},
		"block that panics":        {status: 200, block: func(*client.Session) error { panic("of the block") }, panics: true},
		"block that leaves its loop": {status: 200, block: func(s *client.Session) error {
			for _, err := range s.Incoming() {
				return err
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			closed := 0
			hc := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				header := tt.header
				if header == nil {
					header = http.Header{"Content-Type": {"text/event-stream"}}
				}
				body := &teeBody{strings.NewReader("data: x\n\n"), func() error { closed++; return nil }}
				return &http.Response{StatusCode: tt.status, Header: header, Body: body, Request: r}, nil
			})}
			run := func() {
				_ = install(hc, client.Config{}).SSE(t.Context(), "http://api.test/", func(s *client.Session) error {
					if tt.block == nil {
						return nil
					}
					return tt.block(s)
				})
			}
			if tt.panics {
				require.Panics(t, run)
			} else {
				run()
			}
			require.Equal(t, 1, closed)
		})
	}
}

func TestRoundTripperMayLeaveTheRequestOut(t *testing.T) {
	for _, status := range []int{200, 204, 404} {
		hc := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: status,
				Header:     http.Header{"Content-Type": {"text/event-stream"}},
				Body:       io.NopCloser(strings.NewReader("data: x\n\n")),
			}, nil
		})}
		s, err := install(hc, client.Config{KeepRedirect: true}).Session(t.Context(), "http://api.test/")
		if status == 404 {
			require.ErrorContains(t, err, "expected status 200 but was 404")
			continue
		}
		require.NoError(t, err)
		_, err = collect(s)
		require.NoError(t, err)
	}
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
	require.Equal(t, "value", sent[0].Context().Value(key{}), "the request does not have the caller's context")
}

// The client makes a request in another goroutine. A panic or Goexit of the Transport must
// reach the caller's goroutine all the same.
func TestTransportPanicsAndExitsInTheCallersGoroutine(t *testing.T) {
	testkit.NoLeak(t)
	open := func(trip func()) {
		c := install(&http.Client{Transport: closeTripper(trip)}, client.Config{MaxReconnectionAttempts: client.Unlimited})
		_, _ = c.Session(t.Context(), "http://lab/")
	}
	require.PanicsWithValue(t, errCloseWhy, func() { open(func() { panic(errCloseWhy) }) })
	exited, returned := make(chan struct{}), false
	go func() {
		defer close(exited)
		open(runtime.Goexit)
		returned = true
	}()
	<-exited
	require.False(t, returned)
}

// closeTripper calls a function instead of making a request.
type closeTripper func()

func (f closeTripper) RoundTrip(*http.Request) (*http.Response, error) {
	f()
	return nil, errors.New("not reached")
}
