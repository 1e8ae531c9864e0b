// The errors of the package: their texts, what they wrap, and which of them SSE returns.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

func TestErrorTexts(t *testing.T) {
	cause := errors.New("connection reset")
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&client.StatusError{Status: 404}, "expected status 200 but was 404"},
		{&client.StatusError{Status: 302}, "expected status 200 but was 302"},
		{&client.ContentError{Header: "Content-Type", Value: "text/plain"}, "expected Content-Type text/event-stream but was text/plain"},
		{&client.ContentError{Header: "Content-Type", Value: " Text/Plain ; charset=utf-8"}, "expected Content-Type text/event-stream but was text/plain"},
		{&client.ContentError{Header: "Content-Type"}, "expected Content-Type text/event-stream but was missing"},
		{&client.ContentError{Header: "Content-Encoding", Value: "gzip"}, "expected no Content-Encoding but was gzip"},
		{&client.TimeoutError{Option: "OpenTimeout", Limit: 30 * time.Second}, "no response within 30s (OpenTimeout)"},
		{&client.TimeoutError{Option: "IdleTimeout", Limit: 45 * time.Second}, "nothing received for 45s (IdleTimeout)"},
		{
			&client.RetryError{Asked: 48 * time.Hour, Limit: 24 * time.Hour, Err: io.EOF},
			"the server asked to wait 48h0m0s before the next attempt, longer than MaxRetry (24h0m0s): EOF",
		},
		{&client.ConfigError{Option: "Jitter", Problem: "is wrong"}, "client: Jitter is wrong"},
		{&client.Error{Err: cause}, "client: connection reset"},
		{&client.Error{Err: client.ErrTruncated}, "client: stream ended before its terminal event"},
		{&client.Error{Err: fmt.Errorf("block: %w", client.ErrClosed)}, "client: block: client: session closed"},
		{client.ErrClosed, "client: session closed"},
	} {
		require.EqualError(t, tt.err, tt.want)
	}
}

func TestErrorsUnwrap(t *testing.T) {
	cause := errors.New("cause")
	require.Equal(t, cause, errors.Unwrap(&client.Error{Err: cause}))
	require.Equal(t, cause, errors.Unwrap(&client.RetryError{Err: cause}))
	var timeout net.Error = &client.TimeoutError{}
	require.True(t, timeout.Timeout())
	require.True(t, timeout.(interface{ Temporary() bool }).Temporary())
}

// unresolvable is a dial function that resolves no name.
func unresolvable(context.Context, string, string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true}}
}

func TestEachErrorMatchesItsCauses(t *testing.T) {
	sentinel := errors.New("sentinel")
	short := serveRaw(t, func(conn net.Conn, _ *http.Request) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: x\n\n")
	})
	answer := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/404":
			w.WriteHeader(http.StatusNotFound)
		case "/plain":
			w.Header().Set("Content-Type", "text/plain")
		case "/retry-after":
			w.Header().Set("Retry-After", "172800")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/retry":
			streamOf("retry: 172800000\ndata: x\n\n")(w, r)
		case "/large":
			streamOf("data: "+strings.Repeat("x", 200)+"\n\n")(w, r)
		case "/stalls":
			send(w, "data: x\n\n")
			<-r.Context().Done()
		default:
			streamOf("data: x\n\n")(w, r)
		}
	})
	never := func(client.Event) bool { return false }

	for name, tt := range map[string]struct {
		url    string
		cfg    client.Config
		dial   func(context.Context, string, string) (net.Conn, error)
		is     []error
		as     []any
		status int // of the response; 0 if there is none
		text   string
	}{
		"unknown host": {
			url: "http://nowhere.invalid/", dial: unresolvable,
			as: []any{new(*net.DNSError), new(*net.OpError), new(*url.Error)}, text: "no such host",
		},
		"refused connection": {
			url: "http://" + refusing(t),
			as:  []any{new(*net.OpError), new(*url.Error)}, text: "refused",
		},
		"status": {
			url: answer.URL + "/404", status: 404,
			as: []any{new(*client.StatusError)}, text: "expected status 200 but was 404",
		},
		"type": {
			url: answer.URL + "/plain", status: 200,
			as: []any{new(*client.ContentError)}, text: "expected Content-Type text/event-stream but was text/plain",
		},
		"Retry-After beyond MaxRetry": {
			url: answer.URL + "/retry-after", cfg: client.Config{MaxReconnectionAttempts: 1}, status: 503,
			as: []any{new(*client.RetryError), new(*client.StatusError)}, text: "expected status 200 but was 503",
		},
		"retry beyond MaxRetry": {
			url: answer.URL + "/retry", cfg: client.Config{MaxReconnectionAttempts: 1}, status: 200,
			is: []error{io.EOF}, as: []any{new(*client.RetryError)}, text: "asked to wait 48h0m0s",
		},
		"event too large": {
			url: answer.URL + "/large", cfg: client.Config{MaxEventSize: 100, MaxReconnectionAttempts: 1}, status: 200,
			as: []any{new(*event.TooLargeError)}, text: "100",
		},
		"truncated": {
			url: answer.URL, cfg: client.Config{Terminal: never}, status: 200,
			is: []error{client.ErrTruncated}, text: "terminal",
		},
		"broken off": {
			url: short, status: 200,
			is: []error{io.ErrUnexpectedEOF}, text: "broke off",
		},
		"idle": {
			url: answer.URL + "/stalls", cfg: client.Config{IdleTimeout: 50 * time.Millisecond}, status: 200,
			as: []any{new(*client.TimeoutError), new(net.Error)}, text: "IdleTimeout",
		},
		"OnRequest": {
			url: answer.URL, cfg: client.Config{OnRequest: func(*http.Request) error { return sentinel }},
			is: []error{sentinel}, text: "sentinel",
		},
	} {
		t.Run(name, func(t *testing.T) {
			transport := &http.Transport{DialContext: tt.dial}
			defer transport.CloseIdleConnections()
			c := install(&http.Client{Transport: transport}, tt.cfg)
			viaSession := func() error {
				s, err := c.Session(t.Context(), tt.url)
				if err != nil {
					return err
				}
				defer s.Close()
				_, err = collect(s)
				return err
			}
			viaBlock := func() error {
				return c.SSE(t.Context(), tt.url, func(s *client.Session) error {
					if _, err := collect(s); err != nil {
						return fmt.Errorf("in the block: %w", err)
					}
					return nil
				})
			}
			for i, err := range []error{viaSession(), viaBlock()} {
				var ours *client.Error
				require.ErrorAs(t, err, &ours, "error %d", i)
				for _, target := range tt.is {
					require.ErrorIs(t, err, target)
				}
				for _, target := range tt.as {
					require.ErrorAs(t, err, target)
				}
				if tt.status == 0 {
					require.Nil(t, ours.Response)
				} else {
					require.NotNil(t, ours.Response)
					require.Equal(t, tt.status, ours.Response.StatusCode)
				}
				require.ErrorContains(t, err, tt.text)
				require.Contains(t, err.Error(), "client: ")
				require.NotErrorIs(t, err, client.ErrClosed)
				require.NotErrorIs(t, err, context.Canceled)
			}
		})
	}
}

func TestErrorOfTheBlockComesWithTheResponse(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X", "y")
		streamOf("data: a\n\ndata: b\n\ndata: c\n\n")(w, r)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		mine := errors.New("the block's own")
		for policy, body := range map[client.BufferPolicy]string{
			client.Off:       "",
			client.LastEvent: "data: b\n\n",
			client.All:       "data: a\n\ndata: b\n\n",
		} {
			c := install(srv.Client(), client.Config{BufferPolicy: policy})
			err := c.SSE(t.Context(), srv.URL, func(s *client.Session) error {
				n := 0
				for _, err := range s.Incoming() {
					require.NoError(t, err)
					if n++; n == 2 {
						return fmt.Errorf("wrapped: %w", mine)
					}
				}
				return nil
			})
			require.EqualError(t, err, "client: wrapped: the block's own")
			require.ErrorIs(t, err, mine)
			var ours *client.Error
			require.ErrorAs(t, err, &ours)
			require.Equal(t, 200, ours.Response.StatusCode)
			require.Equal(t, "y", ours.Response.Header.Get("X"))
			require.Equal(t, body, string(ours.Body))
			again, readErr := io.ReadAll(ours.Response.Body)
			require.NoError(t, readErr)
			require.Equal(t, body, string(again))
		}
	})
}

func TestErrorOfTheBlockIsNotRetried(t *testing.T) {
	var requests atomic.Int32
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		streamOf("data: a\n\n")(w, r)
	})
	mine := errors.New("mine")
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited})
	require.ErrorIs(t, c.SSE(t.Context(), srv.URL, func(*client.Session) error { return mine }), mine)
	require.EqualValues(t, 1, requests.Load())
}

func TestErrorThatCameFromTheSessionIsReturnedAsItIs(t *testing.T) {
	srv := serve(t, streamOf("data: x\n\n"))
	c := install(srv.Client(), client.Config{Terminal: func(client.Event) bool { return false }})
	for name, wrap := range map[string]func(error) error{
		"plain":   func(err error) error { return err },
		"wrapped": func(err error) error { return fmt.Errorf("in the block: %w", err) },
	} {
		t.Run(name, func(t *testing.T) {
			var returned error
			err := c.SSE(t.Context(), srv.URL, func(s *client.Session) error {
				_, err := collect(s)
				require.Error(t, err)
				returned = wrap(err)
				return returned
			})
			require.Same(t, returned, err)
		})
	}
}

func TestErrorOfTheBlockThatIsAContextsIsReturnedAsItIs(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: x\n\n")
		<-r.Context().Done()
	})
	c := install(srv.Client(), client.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	err := c.SSE(ctx, srv.URL, func(*client.Session) error {
		cancel()
		return ctx.Err()
	})
	require.Equal(t, context.Canceled, err)

	t.Run("but not one of another context", func(t *testing.T) {
		other, cancel := context.WithCancel(t.Context())
		cancel()
		err := c.SSE(t.Context(), srv.URL, func(*client.Session) error { return other.Err() })
		var ours *client.Error
		require.ErrorAs(t, err, &ours, "it is an error of another context, so SSE must wrap it")
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestErrorOfADoneContextMatchesIt(t *testing.T) {
	srv := serve(t, streamOf("data: x\n\n"))
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited})
	cause := errors.New("why")

	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err := c.Session(canceled, srv.URL)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, cause)
	var ours *client.Error
	require.NotErrorAs(t, err, &ours)

	late, stop := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer stop()
	_, err = c.Session(late, srv.URL)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorAs(t, err, &ours)
}

func TestBodyOfAnErrorIsACopyOfItsOwn(t *testing.T) {
	var requests atomic.Int32
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "refusal ", requests.Add(1))
	})
	c := install(srv.Client(), client.Config{})
	first, second := refusal(t, c, srv.URL), refusal(t, c, srv.URL)
	require.Equal(t, "refusal 1", string(first.Body))
	require.Equal(t, "refusal 2", string(second.Body))
}

// watchedContext counts the functions that are registered with it.
type watchedContext struct {
	context.Context

	done     chan struct{}
	hanging  atomic.Int32
	everHung atomic.Int32
}

func (c *watchedContext) Done() <-chan struct{} { return c.done }

func (c *watchedContext) AfterFunc(func()) (stop func() bool) {
	c.hanging.Add(1)
	c.everHung.Add(1)
	var stopped atomic.Bool
	return func() bool {
		if stopped.CompareAndSwap(false, true) {
			c.hanging.Add(-1)
			return true
		}
		return false
	}
}

func TestSessionThatIsOverLeavesNothingOnItsContext(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/404":
			w.WriteHeader(http.StatusNotFound)
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		default:
			streamOf("data: x\n\n")(w, r)
		}
	})
	for name, tt := range map[string]struct {
		path    string
		options []client.Option
		opens   bool
	}{
		"bad option":      {"", []client.Option{client.WithHeader("", "")}, false},
		"bad method":      {"", []client.Option{client.WithMethod("G ET")}, false},
		"refused":         {"/404", nil, false},
		"OnRequest fails": {"", []client.Option{client.WithConfig(func(cfg *client.Config) { cfg.OnRequest = func(*http.Request) error { return io.EOF } })}, false},
		"read to its end": {"", nil, true},
		"no content":      {"/204", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := &watchedContext{Context: context.Background(), done: make(chan struct{})}
			s, err := install(srv.Client(), client.Config{}).Session(ctx, srv.URL+tt.path, tt.options...)
			if tt.opens {
				require.NoError(t, err)
				_, err = collect(s)
				require.NoError(t, err)
				require.EqualValues(t, 1, ctx.everHung.Load())
			} else {
				require.Error(t, err)
			}
			require.Zero(t, ctx.hanging.Load())
		})
	}
}

// Errors have a text when only some of their fields are set, or none.
func TestZeroErrorsDoNotPanic(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&client.Error{}, &client.StatusError{}, &client.ContentError{}, &client.TimeoutError{}, &client.RetryError{},
		&client.AttemptsError{}, &client.LastEventIDError{}, &client.ConfigError{}, &client.DecodeError{},
	} {
		require.NotPanics(t, func() { _ = err.Error() }, "%T", err)
		require.NotPanics(t, func() { _ = errors.Is(err, context.Canceled) }, "%T", err)
	}
	require.EqualError(t, &client.Error{}, "client: unknown cause")
}
