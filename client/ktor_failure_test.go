// Rows 33 to 40 of docs/KTOR.md: failures. After them, faults that Ktor once had with
// errors and timeouts (KTOR-8165, 8753 and 8206).

package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

func TestKtor33UnknownHost(t *testing.T) {
	t.Parallel()
	offline := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}
	hc := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Resolver: offline}).DialContext}}
	_, err := install(hc, client.Config{}).Session(ktorContext(t), "http://unknown.invalid/")
	e := ktorError(t, err)
	require.Nil(t, e.Response)
	require.Empty(t, e.Body)
	require.ErrorAs(t, err, new(*net.DNSError))
	require.ErrorContains(t, err, "unknown.invalid")
}

func TestKtor34StatusOtherThan200(t *testing.T) {
	t.Parallel()
	srv := serve(t, http.NotFound)
	err := install(srv.Client(), client.Config{}).SSE(ktorContext(t), srv.URL, func(*client.Session) error {
		t.Error("SSE called the block")
		return nil
	})
	require.EqualError(t, err, "client: expected status 200 but was 404")
	require.Equal(t, http.StatusNotFound, ktorError(t, err).Response.StatusCode)
	var status *client.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusNotFound, status.Status)
}

func TestKtor35ContentTypeOtherThanEventStream(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "data: hello\n\n")
	})
	_, err := install(srv.Client(), client.Config{MaxReconnectionAttempts: 3}).Session(ktorContext(t), srv.URL)
	require.EqualError(t, err, "client: expected Content-Type text/event-stream but was text/plain")
	resp := ktorError(t, err).Response
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"))
	var content *client.ContentError
	require.ErrorAs(t, err, &content)
	require.Equal(t, client.ContentError{Header: "Content-Type", Value: "text/plain; charset=utf-8"}, *content)
}

func TestKtor36ErrorOfTheBlockIsWrapped(t *testing.T) {
	t.Parallel()
	srv := serve(t, streamOf("data: 0\n\n"))
	own := &ktorOwnError{"out of cheese"}
	err := install(srv.Client(), client.Config{}).SSE(ktorContext(t), srv.URL, func(s *client.Session) error {
		for _, err := range s.Incoming() {
			require.NoError(t, err)
			return own
		}
		return nil
	})
	require.ErrorIs(t, err, own)
	require.EqualError(t, err, "client: out of cheese")
	e := ktorError(t, err)
	require.Equal(t, own, e.Err)
	require.Equal(t, http.StatusOK, e.Response.StatusCode)
	require.Equal(t, "text/event-stream", e.Response.Header.Get("Content-Type"))
}

func TestKtor37CancellationIsNoErrorOfTheSession(t *testing.T) {
	t.Parallel()
	arrived := make(chan bool, 1)
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
			send(w, "data: 0\n\n")
		case "/gone":
			return
		}
		arrived <- true
		<-r.Context().Done()
	})
	for path, when := range map[string]string{"/head": "before the head", "/stream": "in the stream"} {
		t.Run(when, func(t *testing.T) {
			ctx, cancel := context.WithCancel(ktorContext(t))
			defer cancel()
			go func() {
				<-arrived
				cancel()
			}()
			err := install(srv.Client(), client.Config{}).SSE(ctx, srv.URL+path, func(s *client.Session) error {
				_, err := collect(s)
				return err
			})
			ktorCanceled(t, err)
		})
	}
	t.Run("while it waits", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ktorContext(t))
		defer cancel()
		_, err := install(srv.Client(), client.Config{
			MaxReconnectionAttempts: 1,
			ReconnectionTime:        time.Hour,
			OnFailure:               retryOn(func(int) bool { return true }),
			OnRetry:                 func(client.Failure) { cancel() },
			OnRequest: func(r *http.Request) error {
				r.URL.Host = "127.0.0.1:1" // a port that refuses connections
				return nil
			},
		}).Session(ctx, srv.URL)
		ktorCanceled(t, err)
	})
}

func ktorCanceled(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, context.Canceled)
	var e *client.Error
	require.NotErrorAs(t, err, &e)
}

func TestKtor38BodyOfAnErrorIsReadable(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, "Server error")
	})
	_, err := install(srv.Client(), client.Config{}).Session(ktorContext(t), srv.URL)
	e := ktorError(t, err)
	require.Equal(t, http.StatusInternalServerError, e.Response.StatusCode)
	require.Equal(t, "Server error", ktorBody(t, e))
}

func TestKtor39StatusCountsBeforeAnyDecoding(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"no such room"}`)
	})
	for name, decode := range map[string]client.Deserializer{
		"no deserializer": nil,
		"JSON":            client.JSON,
		"one that fails":  client.DeserializerFunc(func(string, any) error { return errors.New("called") }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := install(srv.Client(), client.Config{Deserializer: decode}).SSE(ktorContext(t), srv.URL, func(s *client.Session) error {
				for _, err := range client.Incoming[map[string]string](s) {
					return err
				}
				return nil
			})
			require.EqualError(t, err, "client: expected status 200 but was 400")
			require.JSONEq(t, `{"error":"no such room"}`, ktorBody(t, ktorError(t, err)))
		})
	}
}

func TestKtor40ReadTimeoutIsAnError(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			send(w, "data: 0\n\n")
		}
		<-r.Context().Done()
	})
	t.Run("IdleTimeout", func(t *testing.T) {
		t.Parallel()
		const limit = 50 * time.Millisecond
		s := session(t, install(srv.Client(), client.Config{IdleTimeout: limit}), srv.URL+"/stream")
		_, err := collect(s)
		require.Equal(t, http.StatusOK, ktorError(t, err).Response.StatusCode)
		var timedOut *client.TimeoutError
		require.ErrorAs(t, err, &timedOut)
		require.Equal(t, client.TimeoutError{Option: "IdleTimeout", Limit: limit}, *timedOut)
		var netErr net.Error
		require.ErrorAs(t, err, &netErr)
		require.True(t, netErr.Timeout())
	})
	t.Run("deadline of the connection", func(t *testing.T) {
		t.Parallel()
		var conns ktorConns
		hc := &http.Client{Transport: &http.Transport{DialContext: conns.dial}}
		s := session(t, install(hc, client.Config{}), srv.URL+"/stream")
		var events int
		var last error
		for _, err := range s.Incoming() {
			if err != nil {
				last = err
				break
			}
			events++
			conns.expire(t)
		}
		require.Equal(t, 1, events)
		require.ErrorAs(t, last, new(*client.Error))
		var netErr net.Error
		require.ErrorAs(t, last, &netErr)
		require.True(t, netErr.Timeout())
	})
	t.Run("ResponseHeaderTimeout", func(t *testing.T) {
		t.Parallel()
		hc := &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: time.Millisecond}}
		_, err := install(hc, client.Config{}).Session(ktorContext(t), srv.URL)
		require.ErrorAs(t, err, new(*client.Error))
		var netErr net.Error
		require.ErrorAs(t, err, &netErr)
		require.True(t, netErr.Timeout())
	})
}

// ktorConns keeps the connections that a transport makes.
type ktorConns struct {
	net.Dialer
	mu    sync.Mutex
	conns []net.Conn
}

func (c *ktorConns) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.DialContext(ctx, network, address)
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

// expire makes reads from the connections fail with a timeout.
func (c *ktorConns) expire(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		require.NoError(t, conn.SetReadDeadline(time.Unix(1, 0)))
	}
}

func TestKtorIssue8165BodyOfEveryRefusalIsReadable(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "why", http.StatusForbidden) },
		"type":   func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "why\n") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, h)
			_, err := install(srv.Client(), client.Config{}).Session(ktorContext(t), srv.URL)
			require.Equal(t, "why\n", ktorBody(t, ktorError(t, err)))
		})
	}
}

// The Content-Length of an error's response is the length of the body that was kept.
// Otherwise code that passes the response on would fail.
func TestKtorIssue8753LengthOfAnErrorsBody(t *testing.T) {
	t.Parallel()
	dump := func(t *testing.T, e *client.Error) {
		t.Helper()
		text, err := httputil.DumpResponse(e.Response, true)
		require.NoError(t, err)
		require.True(t, bytes.HasSuffix(text, e.Body))
	}
	t.Run("of a refusal", func(t *testing.T) {
		t.Parallel()
		const size = 200_000 // more than the client keeps
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(size))
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, strings.Repeat("x", size))
		})
		_, err := install(srv.Client(), client.Config{}).Session(ktorContext(t), srv.URL)
		dump(t, ktorError(t, err))
	})
	t.Run("of a stream", func(t *testing.T) {
		t.Parallel()
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(ktorBuffered)))
			streamOf(ktorBuffered)(w, r)
		})
		dump(t, ktorStopped(t, install(srv.Client(), client.Config{BufferPolicy: client.LastEvent}), srv.URL, 2))
	})
}

func TestKtorIssue8206ConnectTimeoutsApply(t *testing.T) {
	t.Parallel()
	silent := serveSilent(t)
	for name, tt := range map[string]struct {
		url       string
		transport *http.Transport
	}{
		"dial":          {"http://" + silent, &http.Transport{DialContext: (&net.Dialer{Timeout: time.Nanosecond}).DialContext}},
		"TLS handshake": {"https://" + silent, &http.Transport{TLSHandshakeTimeout: time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := install(&http.Client{Transport: tt.transport}, client.Config{OpenTimeout: -1})
			_, err := c.Session(ktorContext(t), tt.url)
			require.ErrorAs(t, err, new(*client.Error))
			var netErr net.Error
			require.ErrorAs(t, err, &netErr)
			require.True(t, netErr.Timeout())
		})
	}
}

// serveSilent returns the address of a server that never answers.
func serveSilent(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
