// A server for a synctest bubble, whose answers a test lists step by step.

package client_test

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

const reconnectYear = 365 * 24 * time.Hour

// errRefused is the error of a request whose step is nil.
var errRefused = errors.New("connection refused")

// reconnectStep answers one request. A nil step refuses the connection.
type reconnectStep = http.HandlerFunc

type reconnectSteps = []reconnectStep

// reconnectLab is a server for a synctest bubble. It answers each request with the next
// of its steps, and with 204 after the last one. Its connections are pipes, so the
// bubble's time passes only while every goroutine waits.
type reconnectLab struct {
	t     *testing.T
	http  *http.Client
	start time.Time
	dial  atomic.Pointer[func(context.Context) error] // if set, every dial returns its error

	mu      sync.Mutex
	steps   reconnectSteps
	now     reconnectStep
	times   []time.Duration // when the requests came, since start
	ids     []string        // their Last-Event-ID
	retries []client.Failure
	opened  int
}

func newReconnectLab(t *testing.T, steps reconnectSteps) *reconnectLab {
	t.Helper()
	return newReconnectLabOf(t, testkit.HTTP1.Protocols(), steps)
}

func newReconnectLabOf(t *testing.T, protocols *http.Protocols, steps reconnectSteps) *reconnectLab {
	t.Helper()
	l := &reconnectLab{t: t, steps: steps, start: time.Now()}
	pipes := testkit.NewPipeListener()
	srv := &http.Server{
		Protocols: protocols,
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			l.mu.Lock()
			step := l.now
			l.mu.Unlock()
			step(w, r)
		}),
	}
	transport := &http.Transport{
		Protocols:         protocols,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if dial := l.dial.Load(); dial != nil {
				return nil, (*dial)(ctx)
			}
			return pipes.DialContext(ctx, network, address)
		},
	}
	l.http = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if !l.next(r) {
			return nil, errRefused
		}
		return transport.RoundTrip(r)
	})}
	go func() { _ = srv.Serve(pipes) }()
	t.Cleanup(func() {
		srv.Close()
		transport.CloseIdleConnections()
		time.Sleep(10 * reconnectYear) // so that every sleeping goroutine ends
	})
	return l
}

// next takes the next step for r, and reports whether the connection is accepted.
func (l *reconnectLab) next(r *http.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	assert.LessOrEqual(l.t, len(r.Header["Last-Event-Id"]), 1)
	l.ids = append(l.ids, r.Header.Get("Last-Event-Id"))
	l.times = append(l.times, time.Since(l.start))
	if len(l.times) > len(l.steps) {
		l.now = reconnectStatus(http.StatusNoContent)
	} else {
		l.now = l.steps[len(l.times)-1]
	}
	return l.now != nil
}

func (l *reconnectLab) requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// requireNoMoreRequests asserts that the client makes no request in the next 24 hours.
func (l *reconnectLab) requireNoMoreRequests() {
	l.t.Helper()
	before := l.requests()
	time.Sleep(24 * time.Hour)
	require.Equal(l.t, before, l.requests())
}

// waits returns the delays that OnRetry was called with.
func (l *reconnectLab) waits() []time.Duration {
	var delays []time.Duration
	for _, retry := range l.retries {
		delays = append(delays, retry.Delay)
	}
	return delays
}

// config returns cfg with hooks that record retries and count connections. Unless cfg
// says otherwise, it has no jitter, no log, and a reconnection time of 3 seconds.
func (l *reconnectLab) config(cfg client.Config) client.Config {
	if cfg.ReconnectionTime == 0 {
		cfg.ReconnectionTime = 3 * time.Second
	}
	if cfg.Jitter == 0 {
		cfg.Jitter = -1
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	onRetry, onOpen := cfg.OnRetry, cfg.OnOpen
	cfg.OnRetry = func(r client.Failure) {
		l.retries = append(l.retries, r)
		if onRetry != nil {
			onRetry(r)
		}
	}
	cfg.OnOpen = func(resp *http.Response) {
		l.opened++
		if onOpen != nil {
			onOpen(resp)
		}
	}
	return cfg
}

// run reads a session from its first connection to its end.
func (l *reconnectLab) run(ctx context.Context, cfg client.Config, options ...client.Option) ([]client.Event, error) {
	s, err := client.Install(l.http, l.config(cfg)).Session(ctx, "http://lab/", options...)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return collect(s)
}

// reconnectText returns a step that sends text and ends in order.
func reconnectText(text string) reconnectStep {
	return func(w http.ResponseWriter, _ *http.Request) { send(w, "%s", text) }
}

// reconnectCut returns a step that sends text and breaks off.
func reconnectCut(text string) reconnectStep {
	return func(w http.ResponseWriter, _ *http.Request) {
		send(w, "%s", text)
		panic(http.ErrAbortHandler)
	}
}

// reconnectAged returns a step that opens a stream and does then after d.
func reconnectAged(d time.Duration, then reconnectStep) reconnectStep {
	return func(w http.ResponseWriter, r *http.Request) {
		send(w, "")
		time.Sleep(d)
		then(w, r)
	}
}

func reconnectStatus(status int, header ...string) reconnectStep {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// reconnectBusy returns a step that answers with status and with the Retry-After that
// after returns.
func reconnectBusy(status int, after func() string) reconnectStep {
	return func(w http.ResponseWriter, r *http.Request) {
		reconnectStatus(status, "Retry-After", after())(w, r)
	}
}

// reconnectIn returns a function that returns the time in d, in the given layout.
func reconnectIn(d time.Duration, layout string) func() string {
	return func() string { return time.Now().Add(d).UTC().Format(layout) }
}

func reconnectSaying(text string) func() string { return func() string { return text } }

// reconnectCheck reports whether an error is the expected one.
type reconnectCheck = func(error) bool

func reconnectIs(target error) reconnectCheck {
	return func(err error) bool { return errors.Is(err, target) }
}

func reconnectSays(text string) reconnectCheck {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
}
