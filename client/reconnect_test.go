package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

const reconnectYear = 365 * 24 * time.Hour

// errRefused is what the network says to a step that is nil.
var errRefused = errors.New("connection refused")

// reconnectStep answers one request. A nil step is a connection that is refused.
type reconnectStep = http.HandlerFunc

type reconnectSteps = []reconnectStep

// reconnectLab is a server in a bubble, which answers its requests by its steps in
// turn, and then with 204. It speaks HTTP/1.1 over pipes, so that the bubble's time
// passes only where somebody waits.
type reconnectLab struct {
	t     *testing.T
	http  *http.Client
	start time.Time
	dial  atomic.Pointer[func(context.Context) error] // instead of a connection

	mu      sync.Mutex
	steps   reconnectSteps
	now     reconnectStep
	times   []time.Duration // of the requests
	ids     []string        // their Last-Event-ID
	retries []client.Retry
	opened  int
}

func newReconnectLab(t *testing.T, steps reconnectSteps) *reconnectLab {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return newReconnectLabOf(t, protocols, steps)
}

func newReconnectLabOf(t *testing.T, protocols *http.Protocols, steps reconnectSteps) *reconnectLab {
	t.Helper()
	l := &reconnectLab{t: t, steps: steps, start: time.Now()}
	conns, done := make(chan net.Conn), make(chan struct{})
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
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if dial := l.dial.Load(); dial != nil {
				return nil, (*dial)(ctx)
			}
			ours, theirs := net.Pipe()
			select {
			case conns <- theirs:
				return ours, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
	l.http = &http.Client{Transport: reconnectTripper(func(r *http.Request) (*http.Response, error) {
		if !l.next(r) {
			return nil, errRefused
		}
		return transport.RoundTrip(r)
	})}
	go func() { _ = srv.Serve(&reconnectListener{conns, done, sync.OnceFunc(func() { close(done) })}) }()
	t.Cleanup(func() {
		srv.Close()
		transport.CloseIdleConnections()
		time.Sleep(10 * reconnectYear) // whoever sleeps finishes
	})
	return l
}

// next goes on to the next step, and reports whether it is one.
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

// waits returns the times between requests that were not taken by the server.
func (l *reconnectLab) waits() []time.Duration {
	var delays []time.Duration
	for _, retry := range l.retries {
		delays = append(delays, retry.Delay)
	}
	return delays
}

// config returns cfg with all that is tested here set to a plain value.
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
	cfg.OnRetry = func(r client.Retry) {
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

type reconnectTripper func(*http.Request) (*http.Response, error)

func (f reconnectTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type reconnectListener struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func (l *reconnectListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *reconnectListener) Close() error   { l.close(); return nil }
func (l *reconnectListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// reconnectText is a stream that ends in order.
func reconnectText(text string) reconnectStep {
	return func(w http.ResponseWriter, _ *http.Request) { send(w, "%s", text) }
}

// reconnectCut is a stream that breaks off.
func reconnectCut(text string) reconnectStep {
	return func(w http.ResponseWriter, _ *http.Request) {
		send(w, "%s", text)
		panic(http.ErrAbortHandler)
	}
}

// reconnectAged is a stream that is silent for d at first.
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

// reconnectBusy answers with the status, and the Retry-After that after returns.
func reconnectBusy(status int, after func() string) reconnectStep {
	return func(w http.ResponseWriter, r *http.Request) {
		reconnectStatus(status, "Retry-After", after())(w, r)
	}
}

// reconnectIn returns the time that is so far away, as an HTTP-date.
func reconnectIn(d time.Duration, layout string) func() string {
	return func() string { return time.Now().Add(d).UTC().Format(layout) }
}

func reconnectSaying(text string) func() string { return func() string { return text } }

// reconnectCheck reports whether an error is the one that is expected.
type reconnectCheck = func(error) bool

func reconnectIs(target error) reconnectCheck {
	return func(err error) bool { return errors.Is(err, target) }
}

func reconnectSays(text string) reconnectCheck {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
}

func TestWaitsBetweenAttempts(t *testing.T) {
	t.Parallel()
	const (
		s      = time.Second
		ms     = time.Millisecond
		ev     = "data: x\n\n"
		hour   = time.Hour
		rfc850 = "Monday, 02-Jan-06 15:04:05 GMT"
	)
	type steps = reconnectSteps
	type waits = []time.Duration
	text, cut, aged, busy, saying := reconnectText, reconnectCut, reconnectAged, reconnectBusy, reconnectSaying
	for name, tt := range map[string]struct {
		cfg   client.Config
		steps steps
		waits waits
	}{
		"refused": {client.Config{}, steps{nil, nil, nil, nil, nil, nil, nil}, waits{3 * s, 6 * s, 12 * s, 24 * s, 30 * s, 30 * s, 30 * s}},
		"an error of the server": {
			client.Config{},
			steps{reconnectStatus(500), reconnectStatus(503), reconnectStatus(504)},
			waits{3 * s, 6 * s, 12 * s},
		},
		"a cap of its own":           {client.Config{ReconnectionTime: s, MaxBackoff: 5 * s}, steps{nil, nil, nil, nil, nil}, waits{s, 2 * s, 4 * s, 5 * s, 5 * s}},
		"a cap that is hit exactly":  {client.Config{ReconnectionTime: s, MaxBackoff: 4 * s}, steps{nil, nil, nil, nil}, waits{s, 2 * s, 4 * s, 4 * s}},
		"a base above the cap stays": {client.Config{ReconnectionTime: 45 * s}, steps{nil, nil, nil}, waits{45 * s, 45 * s, 45 * s}},
		"a base of microseconds":     {client.Config{ReconnectionTime: time.Microsecond}, steps{nil, nil, nil, nil}, waits{time.Microsecond, ms, 2 * ms, 4 * ms}},
		"MinRetry is not for the caller's own": {
			client.Config{ReconnectionTime: 10 * ms, MaxBackoff: ms}, steps{nil, nil}, waits{10 * ms, 10 * ms},
		},
		"MaxRetry is not for the caller's own": {
			client.Config{ReconnectionTime: 48 * hour}, steps{nil, nil}, waits{48 * hour, 48 * hour},
		},

		"the end after an event is no failure":       {client.Config{}, steps{text(ev), text(ev), text(ev)}, waits{3 * s, 3 * s, 3 * s}},
		"the end without an event is a failure":      {client.Config{}, steps{text(":\n\n"), text(""), text("id: 1\n\n")}, waits{3 * s, 6 * s, 12 * s}},
		"a break after an event is a failure":        {client.Config{}, steps{cut(ev), cut(ev), cut(ev)}, waits{3 * s, 6 * s, 12 * s}},
		"the end after an event starts over":         {client.Config{}, steps{nil, nil, text(ev), nil, nil}, waits{3 * s, 6 * s, 3 * s, 3 * s, 6 * s}},
		"a break after an event does not start over": {client.Config{}, steps{nil, nil, cut(ev), nil}, waits{3 * s, 6 * s, 12 * s, 24 * s}},
		"an event of an earlier connection does not": {client.Config{}, steps{nil, text(ev), text(""), text("")}, waits{3 * s, 3 * s, 3 * s, 6 * s}},
		"a healthy time that breaks starts over":     {client.Config{}, steps{nil, nil, aged(60*s, cut(ev))}, waits{3 * s, 6 * s, 3 * s}},
		"a healthy time that ends empty starts over": {client.Config{}, steps{nil, nil, aged(60*s, text(""))}, waits{3 * s, 6 * s, 3 * s}},
		"too short a healthy time":                   {client.Config{}, steps{nil, nil, aged(60*s-1, cut(ev))}, waits{3 * s, 6 * s, 12 * s}},
		"a healthy time of its own":                  {client.Config{HealthyAfter: s}, steps{nil, nil, aged(s, cut(""))}, waits{3 * s, 6 * s, 3 * s}},
		"the healthy time is each connection's": {
			client.Config{HealthyAfter: 10 * s}, steps{aged(9*s, cut("")), aged(9*s, cut("")), nil}, waits{3 * s, 6 * s, 12 * s},
		},

		"the server's time":              {client.Config{}, steps{text("retry: 7000\n\n" + ev)}, waits{7 * s}},
		"the server's, shorter":          {client.Config{}, steps{text("retry: 1000\n\n" + ev)}, waits{s}},
		"in a block without data":        {client.Config{}, steps{cut("retry: 7000\n\n"), nil}, waits{7 * s, 14 * s}},
		"in a block that is cut off":     {client.Config{}, steps{cut("retry: 7000\n"), nil}, waits{7 * s, 14 * s}},
		"in a block that ends too early": {client.Config{}, steps{text("data: x\nretry: 7000\n")}, waits{7 * s}},
		"in a line that ends with CR":    {client.Config{}, steps{cut("retry: 7000\r")}, waits{7 * s}},
		"in a line that is cut off":      {client.Config{}, steps{cut("retry: 7000")}, waits{3 * s}},
		"without the space":              {client.Config{}, steps{text("retry:7000\n" + ev)}, waits{7 * s}},
		"with leading zeros":             {client.Config{}, steps{text("retry: 0007000\n" + ev)}, waits{7 * s}},
		"persists over connections":      {client.Config{}, steps{text("retry: 7000\n" + ev), text(ev), cut(ev), nil}, waits{7 * s, 7 * s, 7 * s, 14 * s}},
		"is replaced by a later one":     {client.Config{}, steps{text("retry: 7000\n" + ev), text(ev + "retry: 2000\n"), text(ev)}, waits{7 * s, 2 * s, 2 * s}},
		"the last line of a block":       {client.Config{}, steps{text("retry: 7000\nretry: 2000\n" + ev)}, waits{2 * s}},
		"what is no number is none": {
			client.Config{},
			steps{text("retry: 1e3\n" + ev), text("retry: -5\n" + ev), text("retry:\n" + ev), text("retry:  9\n" + ev), text("retry: 9 \n" + ev), text("retry: ٣\n" + ev)},
			waits{3 * s, 3 * s, 3 * s, 3 * s, 3 * s, 3 * s},
		},
		"doubles up to the cap":  {client.Config{}, steps{text("retry: 20000\n" + ev), nil, nil, nil}, waits{20 * s, 20 * s, 30 * s, 30 * s}},
		"the server's above cap": {client.Config{}, steps{cut("retry: 60000\n\n"), nil, nil}, waits{60 * s, 60 * s, 60 * s}},
		"retry: 0":               {client.Config{}, steps{text("retry: 0\n" + ev), text(ev), nil, nil}, waits{100 * ms, 100 * ms, 100 * ms, 200 * ms}},
		"below MinRetry":         {client.Config{}, steps{text("retry: 99\n" + ev), text("retry: 100\n" + ev), text("retry: 101\n" + ev)}, waits{100 * ms, 100 * ms, 101 * ms}},
		"a MinRetry of its own":  {client.Config{MinRetry: 5 * s}, steps{text("retry: 0\n" + ev), text("retry: 4999\n" + ev), text("retry: 5001\n" + ev)}, waits{5 * s, 5 * s, 5001 * ms}},
		"no MinRetry":            {client.Config{MinRetry: -1}, steps{text("retry: 5\n" + ev), text("retry: 0\n" + ev), nil, nil, nil}, waits{5 * ms, 0, 0, ms, 2 * ms}},
		"a day":                  {client.Config{}, steps{text("retry: 86400000\n" + ev)}, waits{24 * hour}},
		"a year, if allowed":     {client.Config{MaxRetry: reconnectYear}, steps{text("retry: 31536000000\n" + ev)}, waits{reconnectYear}},

		"Retry-After longer than the backoff":  {client.Config{}, steps{busy(503, saying("50"))}, waits{50 * s}},
		"Retry-After shorter than the backoff": {client.Config{}, steps{busy(503, saying("2")), busy(503, saying("5"))}, waits{3 * s, 6 * s}},
		"Retry-After of 429":                   {client.Config{}, steps{busy(429, saying("50"))}, waits{50 * s}},
		"Retry-After is for once":              {client.Config{}, steps{busy(503, saying("50")), reconnectStatus(503), nil}, waits{50 * s, 6 * s, 12 * s}},
		"Retry-After and the server's time":    {client.Config{}, steps{text("retry: 7000\n" + ev), busy(503, saying("5")), busy(503, saying("50"))}, waits{7 * s, 7 * s, 50 * s}},
		"Retry-After a date":                   {client.Config{}, steps{busy(503, reconnectIn(50*s, http.TimeFormat))}, waits{50 * s}},
		"Retry-After a date of RFC 850":        {client.Config{}, steps{busy(429, reconnectIn(50*s, rfc850))}, waits{50 * s}},
		"Retry-After a date of asctime":        {client.Config{}, steps{busy(429, reconnectIn(50*s, time.ANSIC))}, waits{50 * s}},
		"Retry-After in the past":              {client.Config{}, steps{busy(503, reconnectIn(-hour, http.TimeFormat)), busy(503, reconnectIn(0, http.TimeFormat))}, waits{3 * s, 6 * s}},
		"Retry-After garbage":                  {client.Config{}, steps{busy(503, saying("soon")), busy(503, saying("-50")), busy(503, saying("1.5e3")), busy(503, saying("50 s"))}, waits{3 * s, 6 * s, 12 * s, 24 * s}},
		"Retry-After 0":                        {client.Config{}, steps{busy(503, saying("0"))}, waits{3 * s}},
		"Retry-After empty":                    {client.Config{}, steps{busy(503, saying(""))}, waits{3 * s}},
		"Retry-After a day":                    {client.Config{}, steps{busy(503, saying("86400"))}, waits{24 * hour}},
		"Retry-After of a connection that opens": {client.Config{}, steps{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "50")
			send(w, ev)
		}}, waits{3 * s}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var taken []time.Duration // by the server
				timed := make(steps, len(tt.steps))
				for i, step := range tt.steps {
					if step != nil {
						timed[i] = func(w http.ResponseWriter, r *http.Request) {
							begin := time.Now()
							defer func() { taken[i] = time.Since(begin) }()
							step(w, r)
						}
					}
				}
				taken = make([]time.Duration, len(tt.steps))
				l := newReconnectLab(t, timed)
				tt.cfg.MaxReconnectionAttempts = client.Unlimited
				_, err := l.run(t.Context(), tt.cfg)
				require.NoError(t, err)
				require.Equal(t, tt.waits, l.waits(), "what OnRetry is told")
				require.Len(t, l.times, len(tt.steps)+1)
				var waited waits
				for i := range tt.steps {
					waited = append(waited, l.times[i+1]-l.times[i]-taken[i])
				}
				require.Equal(t, tt.waits, waited, "between the requests")
			})
		})
	}
}

func TestWaitsOfAConfigOfDefaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, make(reconnectSteps, 8))
		s, err := client.Install(l.http, client.Config{
			MaxReconnectionAttempts: client.Unlimited,
			Logger:                  slog.New(slog.DiscardHandler),
		}).Session(t.Context(), "http://lab/")
		require.NoError(t, err)
		require.NoError(t, s.Close())
		for i, base := range []time.Duration{3, 6, 12, 24, 30, 30, 30, 30} {
			waited := l.times[i+1] - l.times[i]
			require.GreaterOrEqual(t, waited, base*time.Second)
			require.LessOrEqual(t, waited, base*time.Second*3/2)
		}
	})
}

// A connection that lived for HealthyAfter is no failure, and so the backoff starts
// at the failure that comes after it.
func TestLongConnectionThatBreaksIsNoFailure(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]reconnectStep{
		"broke off":              reconnectCut("data: x\n\n"),
		"ended without an event": reconnectText(""),
		"ended after an event":   reconnectText("data: x\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, reconnectSteps{nil, nil, reconnectAged(time.Minute, last), nil, nil})
				_, err := l.run(t.Context(), client.Config{MaxReconnectionAttempts: client.Unlimited})
				require.NoError(t, err)
				const s = time.Second
				require.Equal(t, []time.Duration{3 * s, 6 * s, 3 * s, 3 * s, 6 * s}, l.waits())
			})
		})
	}
}

func TestDoublingAndJitterDoNotOverflow(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]client.Config{
		"doubling": {ReconnectionTime: 150 * reconnectYear, MaxBackoff: math.MaxInt64},
		"jitter":   {ReconnectionTime: 150 * reconnectYear, Jitter: 100},
		"all":      {ReconnectionTime: math.MaxInt64, MaxBackoff: math.MaxInt64, Jitter: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				l := newReconnectLab(t, reconnectSteps{nil, nil, nil})
				cfg.MaxReconnectionAttempts = client.Unlimited
				cfg.OnRetry = func(r client.Retry) {
					if r.Attempt == 2 || cfg.ReconnectionTime == math.MaxInt64 {
						cancel()
					}
				}
				if cfg.Jitter > 0 {
					cfg.OnRetry = func(client.Retry) { cancel() }
				}
				_, err := l.run(ctx, cfg)
				require.ErrorIs(t, err, context.Canceled)
				for _, r := range l.retries {
					require.GreaterOrEqual(t, r.Delay, cfg.ReconnectionTime)
				}
			})
		})
	}
}

func TestServerThatAsksForTooLongEndsTheSession(t *testing.T) {
	t.Parallel()
	const ev, day = "data: x\n\n", 24 * time.Hour
	clamped := time.Duration(math.MaxInt64 / int64(time.Millisecond) * int64(time.Millisecond))
	for name, tt := range map[string]struct {
		maxRetry time.Duration
		step     reconnectStep
		asked    time.Duration // or, if 0, at least a century
		status   int
		matches  error // beside the RetryError
	}{
		"a year":              {0, reconnectText("retry: 31536000000\n" + ev), reconnectYear, 200, io.EOF},
		"a bit above":         {0, reconnectText("retry: 86400001\n" + ev), day + time.Millisecond, 200, io.EOF},
		"of a broken stream":  {0, reconnectCut("retry: 86400001\n"), day + time.Millisecond, 200, io.ErrUnexpectedEOF},
		"a bound of its own":  {time.Second, reconnectText("retry: 1001\n" + ev), 1001 * time.Millisecond, 200, io.EOF},
		"the largest":         {0, reconnectText("retry: 9223372036854\n\n" + ev), clamped, 200, io.EOF},
		"too large an int":    {0, reconnectText("retry: 9223372036855\n\n" + ev), clamped, 200, io.EOF},
		"beyond any int":      {0, reconnectText("retry: 1" + strings.Repeat("0", 400) + "\n\n" + ev), clamped, 200, io.EOF},
		"Retry-After":         {0, reconnectBusy(503, reconnectSaying("86401")), day + time.Second, 503, nil},
		"Retry-After, bound":  {time.Second, reconnectBusy(429, reconnectSaying("2")), 2 * time.Second, 429, nil},
		"Retry-After, date":   {0, reconnectBusy(503, reconnectIn(day+time.Minute, http.TimeFormat)), day + time.Minute, 503, nil},
		"Retry-After, never":  {0, reconnectBusy(503, reconnectSaying("Fri, 31 Dec 9999 23:59:59 GMT")), 0, 503, nil},
		"Retry-After, 32 bit": {0, reconnectBusy(503, reconnectSaying("4294967295")), 4294967295 * time.Second, 503, nil},
		"Retry-After, 33 bit": {0, reconnectBusy(503, reconnectSaying("8589934592")), 0, 503, nil},
		"Retry-After, 64 bit": {0, reconnectBusy(503, reconnectSaying("18446744073709551615")), 0, 503, nil},
		"Retry-After, beyond": {0, reconnectBusy(503, reconnectSaying("1"+strings.Repeat("0", 400))), 0, 503, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, reconnectSteps{tt.step})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				_, err := l.run(ctx, client.Config{
					MaxReconnectionAttempts: client.Unlimited,
					MaxRetry:                tt.maxRetry,
					OnRetry:                 func(client.Retry) { cancel() }, // a bubble's time ends before such a wait
				})
				var end *client.Error
				require.ErrorAs(t, err, &end)
				require.NotNil(t, end.Response)
				require.Equal(t, tt.status, end.Response.StatusCode)
				var retry *client.RetryError
				require.ErrorAs(t, err, &retry)
				if tt.asked > 0 {
					require.Equal(t, tt.asked, retry.Asked)
				} else {
					require.Greater(t, retry.Asked, 100*reconnectYear)
				}
				limit := tt.maxRetry
				if limit == 0 {
					limit = day
				}
				require.Equal(t, limit, retry.Limit)
				require.Contains(t, err.Error(), "MaxRetry")
				require.Contains(t, err.Error(), limit.String())
				if tt.matches != nil {
					require.ErrorIs(t, err, tt.matches)
				} else {
					var status *client.StatusError
					require.ErrorAs(t, err, &status)
					require.Equal(t, tt.status, status.Status)
				}
				require.Empty(t, l.retries)
				time.Sleep(time.Hour)
				require.Equal(t, 1, l.requests())
			})
		})
	}
}

// A time that is too long matters only when there is something to wait for.
func TestServerMayAskForTooLongIfNobodyReturns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, reconnectSteps{reconnectText("retry: 31536000000\ndata: x\n\n")})
		events, err := l.run(t.Context(), client.Config{})
		require.NoError(t, err)
		require.Equal(t, []string{"x"}, dataOf(events))
		require.Equal(t, 1, l.requests())
	})
}

func TestJitterOnlyAdds(t *testing.T) {
	t.Parallel()
	const n = 400
	for name, tt := range map[string]struct {
		jitter    float64
		step      reconnectStep
		base, max time.Duration
	}{
		"by default":     {0.5, reconnectText("data: x\n\n"), 3 * time.Second, 4500 * time.Millisecond},
		"more":           {2, reconnectText("data: x\n\n"), 3 * time.Second, 9 * time.Second},
		"of retry":       {0.5, reconnectText("retry: 10000\ndata: x\n\n"), 10 * time.Second, 15 * time.Second},
		"of retry: 0":    {0.5, reconnectText("retry: 0\ndata: x\n\n"), 100 * time.Millisecond, 150 * time.Millisecond},
		"of Retry-After": {0.5, reconnectStatus(503, "Retry-After", "60"), 60 * time.Second, 90 * time.Second},
		"above the cap":  {0.5, nil, 30 * time.Second, 45 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, slices.Repeat(reconnectSteps{tt.step}, n+4))
				_, err := l.run(t.Context(), client.Config{MaxReconnectionAttempts: client.Unlimited, Jitter: tt.jitter})
				require.NoError(t, err)
				least, most := time.Duration(math.MaxInt64), time.Duration(0)
				for i := 4; i < n+4; i++ { // until then the backoff grows
					waited := l.times[i+1] - l.times[i]
					require.Equal(t, l.retries[i].Delay, waited)
					require.GreaterOrEqual(t, waited, tt.base)
					require.LessOrEqual(t, waited, tt.max)
					least, most = min(least, waited), max(most, waited)
				}
				tenth := (tt.max - tt.base) / 10
				require.Less(t, least, tt.base+tenth, "spread over all of it")
				require.Greater(t, most, tt.max-tenth, "spread over all of it")
			})
		})
	}
}

func TestAttemptsAreCounted(t *testing.T) {
	t.Parallel()
	show := func(c *client.Config) { c.ShowCommentEvents, c.ShowRetryEvents = true, true }
	hide := func(*client.Config) {}
	for name, tt := range map[string]struct {
		step reconnectStep
		edit func(*client.Config)
		fine bool // the session ends normally
	}{
		"refused":                     {nil, hide, false},
		"an error of the server":      {reconnectStatus(503), hide, false},
		"nothing":                     {reconnectText(""), hide, true},
		"broken off at once":          {reconnectCut(""), hide, false},
		"half an event":               {reconnectText("data: x\n"), hide, true},
		"half an event, broken off":   {reconnectCut("data: x\n"), hide, false},
		"comments":                    {reconnectText(": hello\n\n: again\n"), hide, true},
		"comments, shown":             {reconnectText(": hello\n\n: again\n\n"), show, true},
		"comments, broken off, shown": {reconnectCut(": hello\n\n"), show, false},
		"retry":                       {reconnectText("retry: 1\n\n"), hide, true},
		"retry, shown":                {reconnectText("retry: 1\n\n"), show, true},
		"retry: 0, shown":             {reconnectText("retry: 0\n\n"), show, true},
		"retry and comment, shown":    {reconnectText(": hello\nretry: 1\n\n"), show, true},
		"with an id, shown":           {reconnectText("id: 7\n\n: hello\n\nretry: 1\n\n"), show, true},
		"with a name, shown":          {reconnectText("event: x\n: hello\n\nevent: x\nretry: 1\n\n"), show, true},
		"an id alone":                 {reconnectText("id: 7\n\n"), show, true},
		"a name alone":                {reconnectText("event: x\n\n"), show, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{0, 1, 3} {
				synctest.Test(t, func(t *testing.T) {
					l := newReconnectLab(t, slices.Repeat(reconnectSteps{tt.step}, 20))
					cfg := client.Config{MaxReconnectionAttempts: n}
					tt.edit(&cfg)
					_, err := l.run(t.Context(), cfg)
					if tt.fine {
						require.NoError(t, err)
					} else {
						var end *client.Error
						require.ErrorAs(t, err, &end)
					}
					time.Sleep(time.Hour)
					require.Equal(t, n+1, l.requests())
					require.Len(t, l.retries, n)
					for i, r := range l.retries {
						require.Equal(t, i+1, r.Attempt)
					}
				})
			}
		})
	}
}

func TestEventStartsTheCountOfAttemptsAnew(t *testing.T) {
	t.Parallel()
	type steps = reconnectSteps
	ev, cut := reconnectText("data: x\n\n"), reconnectCut("data: x\n\n")
	comment := reconnectText(": x\n\n")
	for name, tt := range map[string]struct {
		n        int
		steps    steps
		attempts []int
	}{
		"once":              {1, steps{ev, nil, nil}, []int{1}},
		"each time":         {1, steps{ev, cut, ev, nil, nil}, []int{1, 1, 1}},
		"in between":        {2, steps{nil, ev, nil, nil, nil}, []int{1, 1, 2}},
		"a comment doesn't": {2, steps{nil, comment, nil, nil}, []int{1, 2}},
		"at last":           {3, steps{nil, nil, nil, cut, nil, nil, nil, nil}, []int{1, 2, 3, 1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, slices.Concat(tt.steps, make(reconnectSteps, 3)))
				_, err := l.run(t.Context(), client.Config{MaxReconnectionAttempts: tt.n})
				require.ErrorIs(t, err, errRefused)
				var attempts []int
				for _, r := range l.retries {
					attempts = append(attempts, r.Attempt)
				}
				require.Equal(t, tt.attempts, attempts)
				require.Equal(t, len(tt.attempts)+1, l.requests())
			})
		})
	}
}

// Data that is empty is data, whatever else its block holds.
func TestEventWithEmptyDataStartsTheCountOfAttemptsAnew(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text string
		cfg  client.Config
	}{
		"alone":                {"data\n\n", client.Config{}},
		"with a name":          {"event: x\ndata:\n\n", client.Config{}},
		"with an id":           {"id: 1\ndata:\n\n", client.Config{}},
		"with a retry":         {"retry: 3000\ndata:\n\n", client.Config{}},
		"with a retry, shown":  {"retry: 3000\ndata:\n\n", client.Config{ShowRetryEvents: true}},
		"with a comment":       {": x\ndata:\n\n", client.Config{}},
		"with comments, shown": {": x\ndata:\n\n", client.Config{ShowCommentEvents: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, slices.Repeat(reconnectSteps{reconnectText(tt.text)}, 3))
				tt.cfg.MaxReconnectionAttempts = 1
				events, err := l.run(t.Context(), tt.cfg)
				require.NoError(t, err)
				require.Equal(t, []string{"", "", ""}, dataOf(events))
				require.Equal(t, 4, l.requests(), "up to the 204")
			})
		})
	}
}

func TestUnlimitedAttemptsGoOnUntilCancelled(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]reconnectStep{
		"refused": nil, "an error of the server": reconnectStatus(502), "nothing": reconnectText(""), "events": reconnectText("data: x\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l := newReconnectLab(t, slices.Repeat(reconnectSteps{step}, 300))
				_, err := l.run(ctx, client.Config{
					MaxReconnectionAttempts: client.Unlimited,
					OnRetry: func(client.Retry) {
						if l.requests() == 200 {
							cancel()
						}
					},
				})
				require.ErrorIs(t, err, context.Canceled)
				time.Sleep(time.Hour)
				require.Equal(t, 200, l.requests())
			})
		})
	}
}

func TestFirstConnectionIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, reconnectSteps{nil, reconnectStatus(503), reconnectText("data: x\n\n")})
		s, err := client.Install(l.http, l.config(client.Config{MaxReconnectionAttempts: 2})).Session(t.Context(), "http://lab/")
		require.NoError(t, err)
		defer s.Close()
		require.Equal(t, 3, l.requests())
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []string{"x"}, dataOf(events))
	})
}

func TestHostThatCannotBeReached(t *testing.T) {
	t.Parallel()
	transport := &http.Transport{DialContext: (&net.Dialer{Resolver: &net.Resolver{PreferGo: true}}).DialContext}
	for name, tt := range map[string]struct {
		url   string
		check reconnectCheck
	}{
		"a port that is closed": {"http://" + refusing(t), reconnectIs(syscall.ECONNREFUSED)},
		// A name that is too long for the DNS is unknown without a question to anybody.
		"an unknown host": {"http://" + strings.Repeat("x", 64) + ".invalid/", func(err error) bool {
			dns, ok := errors.AsType[*net.DNSError](err)
			return ok && dns.IsNotFound
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{0, 1, 3} {
				var retries []client.Retry
				c := install(&http.Client{Transport: transport}, client.Config{
					MaxReconnectionAttempts: n,
					OnRetry:                 func(r client.Retry) { retries = append(retries, r) },
				})
				err := c.SSE(t.Context(), tt.url, func(*client.Session) error {
					t.Error("the block must not run")
					return nil
				})
				var end *client.Error
				require.ErrorAs(t, err, &end)
				require.Nil(t, end.Response)
				require.True(t, tt.check(err), "%v", err)
				require.Len(t, retries, n)
				for i, r := range retries {
					require.Equal(t, i+1, r.Attempt)
					require.True(t, tt.check(r.Err), "%v", r.Err)
				}
			}
		})
	}
}

func TestCallOverridesTheReconnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, make(reconnectSteps, 20))
		c := client.Install(l.http, l.config(client.Config{MaxReconnectionAttempts: 1}))
		open := func(options ...client.Option) (requests int, waits []time.Duration) {
			before := l.requests()
			l.retries = nil
			_, err := c.Session(t.Context(), "http://lab/", options...)
			require.ErrorIs(t, err, errRefused)
			return l.requests() - before, l.waits()
		}
		const s = time.Second
		n, waits := open()
		require.Equal(t, 2, n)
		require.Equal(t, []time.Duration{3 * s}, waits)
		n, waits = open(client.WithConfig(func(cfg *client.Config) {
			assert.Equal(t, 1, cfg.MaxReconnectionAttempts)
			assert.Equal(t, client.DefaultMaxBackoff, cfg.MaxBackoff)
			cfg.MaxReconnectionAttempts, cfg.ReconnectionTime, cfg.MaxBackoff = 3, s, 2*s
		}))
		require.Equal(t, 4, n)
		require.Equal(t, []time.Duration{s, 2 * s, 2 * s}, waits)
		n, _ = open(client.WithConfig(func(cfg *client.Config) { cfg.MaxReconnectionAttempts = 0 }))
		require.Equal(t, 1, n)
		n, waits = open()
		require.Equal(t, 2, n, "as installed")
		require.Equal(t, []time.Duration{3 * s}, waits)
	})
}

func TestHooksAreToldOfEachConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, reconnectSteps{
			nil,
			reconnectText("data: 1\n\n"),
			reconnectCut("data: 2\n\n"),
			reconnectStatus(503, "Retry-After", "7"),
			reconnectCut(""),
			reconnectText("data: 3\n\n"),
			reconnectText(""),
			nil,
		})
		var opened []int
		_, err := l.run(t.Context(), client.Config{
			MaxReconnectionAttempts: client.Unlimited,
			OnOpen: func(resp *http.Response) {
				assert.Equal(t, http.StatusOK, resp.StatusCode)
				assert.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
				opened = append(opened, l.requests())
			},
		})
		require.NoError(t, err)
		require.Equal(t, []int{2, 3, 5, 6, 7}, opened)

		const s = time.Second
		require.Equal(t, []time.Duration{3 * s, 3 * s, 3 * s, 7 * s, 12 * s, 3 * s, 3 * s, 6 * s}, l.waits())
		var attempts []int
		for _, r := range l.retries {
			attempts = append(attempts, r.Attempt)
		}
		require.Equal(t, []int{1, 1, 1, 2, 3, 1, 2, 3}, attempts)
		cause := func(i int) error { return l.retries[i].Err }
		require.ErrorIs(t, cause(0), errRefused)
		require.Equal(t, io.EOF, cause(1), "itself")
		require.ErrorIs(t, cause(2), io.ErrUnexpectedEOF)
		var status *client.StatusError
		require.ErrorAs(t, cause(3), &status)
		require.Equal(t, 503, status.Status)
		require.Equal(t, 7*s, status.RetryAfter)
		require.ErrorIs(t, cause(4), io.ErrUnexpectedEOF)
		require.Equal(t, io.EOF, cause(5))
		require.Equal(t, io.EOF, cause(6))
		require.ErrorIs(t, cause(7), errRefused)
	})
}

// reconnectLog is a slog.Handler that keeps level and message.
type reconnectLog struct{ lines *[]string }

func (h reconnectLog) Enabled(context.Context, slog.Level) bool { return true }
func (h reconnectLog) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h reconnectLog) WithGroup(string) slog.Handler            { return h }

func (h reconnectLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "attempt", "delay":
			line += " " + a.Value.String()
		}
		return true
	})
	*h.lines = append(*h.lines, line)
	return nil
}

func TestLoggerLevels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		l := newReconnectLab(t, reconnectSteps{nil, reconnectText("data: 1\n\n"), reconnectText(""), reconnectCut("data: 2\n\n"), reconnectStatus(503)})
		_, err := l.run(t.Context(), client.Config{
			MaxReconnectionAttempts: client.Unlimited,
			Logger:                  slog.New(reconnectLog{&lines}),
		})
		require.NoError(t, err)
		require.Equal(t, []string{
			"WARN sse client reconnects 1 3s",
			"DEBUG sse client connected",
			"DEBUG sse client reconnects 1 3s",
			"DEBUG sse client connected",
			"DEBUG sse client reconnects 2 3s",
			"DEBUG sse client connected",
			"WARN sse client reconnects 1 6s",
			"WARN sse client reconnects 2 12s",
		}, lines)
	})
}

// What a connection leaves behind when it is lost must not show in the next.
func TestEachConnectionHasAFreshParser(t *testing.T) {
	t.Parallel()
	const bom = "\xEF\xBB\xBF"
	for name, tt := range map[string]struct {
		first, second string
		data          []string
		id            string // that the second connection resumes after
	}{
		"half a line":                  {"data: 1", "data: 2\n\n", []string{"2"}, ""},
		"half a block":                 {"data: 1\n", "data: 2\n\n", []string{"2"}, ""},
		"a name":                       {"event: x\n", "data: 2\n\n", []string{"2"}, ""},
		"an id":                        {"id: 9\n", "data: 2\n\n", []string{"2"}, ""},
		"an id behind another":         {"id: 8\n\nid: 9\n", "data: 2\n\n", []string{"2"}, "8"},
		"a comment":                    {": x\n", "data: 2\n\n", []string{"2"}, ""},
		"half a field name":            {"da", "ta: 2\n\ndata: 3\n\n", []string{"3"}, ""},
		"a CR":                         {"data: 1\r", "data: 2\n\n", []string{"2"}, ""},
		"a CR that ends an event":      {"data: 1\r\n\r", "data: 2\n\n", []string{"1", "2"}, ""},
		"a CR before an LF":            {"data: 1\r", "\n\ndata: 2\n\n", []string{"2"}, ""},
		"a byte order mark":            {bom, bom + "data: 2\n\n", []string{"2"}, ""},
		"half a byte order mark":       {"\xEF\xBB", "\xBFdata: 2\n\ndata: 3\n\n", []string{"3"}, ""},
		"a third of a byte order mark": {"\xEF", bom + "data: 2\n\n", []string{"2"}, ""},
		"a block and a mark after it":  {"data: 1\n\n", bom + "data: 2\n\n", []string{"1", "2"}, ""},
		"a mark twice":                 {"data: 1\n\n", bom + bom + "data: 2\n\ndata: 3\n\n", []string{"1", "3"}, ""},
		"half a character":             {"data: \xC3", "\xA4\ndata: 2\n\n", []string{"2"}, ""},
	} {
		for end, step := range map[string]func(string) reconnectStep{"broken": reconnectCut, "ended": reconnectText} {
			t.Run(name+", "+end, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					l := newReconnectLab(t, reconnectSteps{step(tt.first), reconnectText(tt.second)})
					events, err := l.run(t.Context(), client.Config{
						MaxReconnectionAttempts: client.Unlimited,
						ShowCommentEvents:       true,
					})
					require.NoError(t, err)
					require.Equal(t, tt.data, dataOf(events))
					for _, ev := range events {
						require.Empty(t, ev.Name)
						require.Empty(t, ev.Comment)
						require.Equal(t, tt.id, ev.ID)
					}
					require.Equal(t, []string{"", tt.id, tt.id}, l.ids)
				})
			})
		}
	}
}

func TestLossThatIsNotMendedIsOneError(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		step    reconnectStep
		attempt int
		is      error
	}{
		"broken off":               {reconnectCut("data: 2\n\n"), 0, io.ErrUnexpectedEOF},
		"broken off without event": {reconnectCut(""), 2, io.ErrUnexpectedEOF},
		"refused":                  {nil, 2, errRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				steps := reconnectSteps{reconnectText("data: 1\n\n")}
				if tt.attempt == 0 {
					steps = nil
				}
				l := newReconnectLab(t, slices.Concat(steps, slices.Repeat(reconnectSteps{tt.step}, 3)))
				s, err := client.Install(l.http, l.config(client.Config{MaxReconnectionAttempts: tt.attempt})).Session(t.Context(), "http://lab/")
				require.NoError(t, err)
				defer s.Close()
				var errs []error
				for ev, err := range s.Incoming() {
					if err != nil {
						require.Zero(t, ev, "an error comes alone")
						errs = append(errs, err)
					} else {
						require.Empty(t, errs, "nothing after an error")
					}
				}
				require.Len(t, errs, 1)
				require.ErrorIs(t, errs[0], tt.is)
				var end *client.Error
				require.ErrorAs(t, errs[0], &end)
				require.Len(t, l.retries, tt.attempt)
			})
		})
	}
}

func TestNoRetry(t *testing.T) {
	t.Parallel()
	errOwn := errors.New("my own")
	type run = func(ctx context.Context, c *client.Client) error
	ev := reconnectText("data: x\n\n")
	read := func(s *client.Session) error { _, err := collect(s); return err }
	sse := func(block func(*client.Session) error, options ...client.Option) run {
		return func(ctx context.Context, c *client.Client) error { return c.SSE(ctx, "http://lab/", block, options...) }
	}
	onRequest := func(at int) run {
		return func(ctx context.Context, c *client.Client) error {
			n := 0
			return c.SSE(ctx, "http://lab/", read, client.WithConfig(func(cfg *client.Config) {
				cfg.OnRequest = func(*http.Request) error {
					if n++; n == at {
						return errOwn
					}
					return nil
				}
			}))
		}
	}
	for name, tt := range map[string]struct {
		steps    reconnectSteps
		run      run
		requests int
		check    reconnectCheck
	}{
		"after an error of the block": {
			reconnectSteps{ev},
			sse(func(s *client.Session) error {
				for _, err := range s.Incoming() {
					return errors.Join(err, errOwn)
				}
				return nil
			}),
			1, reconnectIs(errOwn),
		},
		"after an error of the block that looks like the network's": {
			reconnectSteps{ev},
			sse(func(*client.Session) error { return io.ErrUnexpectedEOF }),
			1, reconnectIs(io.ErrUnexpectedEOF),
		},
		"after cancellation": {
			reconnectSteps{ev},
			func(ctx context.Context, c *client.Client) error {
				ctx, cancel := context.WithCancel(ctx)
				return c.SSE(ctx, "http://lab/", func(s *client.Session) error {
					for _, err := range s.Incoming() {
						if err != nil {
							return err
						}
						cancel()
					}
					return nil
				})
			},
			1, reconnectIs(context.Canceled),
		},
		"after Close": {
			reconnectSteps{ev},
			sse(func(s *client.Session) error {
				for _, err := range s.Incoming() {
					if err != nil {
						return err
					}
					s.Close()
				}
				return nil
			}),
			1, reconnectIs(client.ErrClosed),
		},
		"after an error of the first OnRequest": {reconnectSteps{ev}, onRequest(1), 0, reconnectIs(errOwn)},
		"after an error of a later OnRequest":   {reconnectSteps{ev, ev}, onRequest(3), 2, reconnectIs(errOwn)},
		"after OnRequest says what networks say": {reconnectSteps{ev}, func(ctx context.Context, c *client.Client) error {
			return c.SSE(ctx, "http://lab/", read, client.WithConfig(func(cfg *client.Config) {
				cfg.OnRequest = func(*http.Request) error { return &client.StatusError{Status: 503} }
			}))
		}, 0, func(err error) bool {
			status, ok := errors.AsType[*client.StatusError](err)
			return ok && status.Status == 503
		}},
		"after too large an event": {
			reconnectSteps{ev, reconnectText("data: " + strings.Repeat("x", 200) + "\n\n")},
			sse(read, client.WithConfig(func(cfg *client.Config) { cfg.MaxEventSize = 100 })),
			2, func(err error) bool {
				large, ok := errors.AsType[*event.TooLargeError](err)
				return ok && large.Limit == 100
			},
		},
		"after a wrong type": {
			reconnectSteps{ev, reconnectStatus(200, "Content-Type", "text/plain")},
			sse(read),
			2, reconnectSays("but was text/plain"),
		},
		"after a status that is for good": {
			reconnectSteps{ev, reconnectStatus(404)},
			sse(read),
			2, reconnectSays("expected status 200 but was 404"),
		},
		"after 204":          {reconnectSteps{ev, reconnectStatus(204)}, sse(read), 2, reconnectIs(nil)},
		"after 204 at first": {reconnectSteps{reconnectStatus(204)}, sse(read), 1, reconnectIs(nil)},
		"after the terminal event": {
			reconnectSteps{reconnectText("data: [DONE]\n\n")},
			sse(read, client.WithConfig(func(cfg *client.Config) {
				cfg.Terminal = func(ev client.Event) bool { return ev.Data == "[DONE]" }
			})),
			1, reconnectIs(nil),
		},
		"of a POST": {
			reconnectSteps{ev},
			sse(read, client.WithBody("text/plain", strings.NewReader("order"))),
			1, reconnectIs(nil),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, slices.Concat(tt.steps, slices.Repeat(reconnectSteps{ev}, 3)))
				c := client.Install(l.http, l.config(client.Config{MaxReconnectionAttempts: client.Unlimited}))
				err := tt.run(t.Context(), c)
				require.True(t, tt.check(err), "%v", err)
				time.Sleep(24 * time.Hour)
				require.Equal(t, tt.requests, l.requests())
			})
		})
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	const s = time.Second
	silent := func(text string) reconnectStep {
		return func(w http.ResponseWriter, r *http.Request) {
			send(w, "%s", text)
			<-r.Context().Done()
		}
	}
	t.Run("any byte counts", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
				for _, b := range []byte(": a comment\n\n\ndata: x\n: and more of it\n\n") {
					time.Sleep(10*s - 1)
					send(w, "%c", b)
				}
				time.Sleep(10*s - 1)
			}})
			events, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s})
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, dataOf(events))
		})
	})
	t.Run("is a failure", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{silent("data: 1\n\n"), silent(""), silent("data: 2\n"), reconnectText("data: 3\n\n")})
			events, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s, MaxReconnectionAttempts: client.Unlimited})
			require.NoError(t, err)
			require.Equal(t, []string{"1", "3"}, dataOf(events))
			require.Equal(t, []time.Duration{3 * s, 6 * s, 12 * s, 3 * s}, l.waits())
			require.Equal(t, []time.Duration{0, 13 * s, 29 * s, 51 * s, 54 * s}, l.times)
			for _, r := range l.retries[:3] {
				var timeout *client.TimeoutError
				require.ErrorAs(t, r.Err, &timeout)
				require.Equal(t, client.TimeoutError{Option: "IdleTimeout", Limit: 10 * s}, *timeout)
			}
		})
	})
	t.Run("is the error when the attempts are used up", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{silent("data: 1\n\n"), silent(""), silent("data: 2\n\n")})
			_, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s, MaxReconnectionAttempts: 1})
			var end *client.Error
			require.ErrorAs(t, err, &end)
			require.Equal(t, 200, end.Response.StatusCode)
			var timeout *client.TimeoutError
			require.ErrorAs(t, err, &timeout)
			require.Equal(t, client.TimeoutError{Option: "IdleTimeout", Limit: 10 * s}, *timeout)
			var netErr net.Error
			require.ErrorAs(t, err, &netErr)
			require.True(t, netErr.Timeout())
			require.NotErrorIs(t, err, context.Canceled)
			require.EqualError(t, err, "client: nothing received for 10s (IdleTimeout)")
			require.Equal(t, 2, l.requests())
		})
	})
	t.Run("does not count the caller's time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
				for i := range 10 {
					send(w, "data: %d\n\n", i)
					time.Sleep(s)
				}
			}})
			session, err := client.Install(l.http, l.config(client.Config{IdleTimeout: 10 * s})).Session(t.Context(), "http://lab/")
			require.NoError(t, err)
			defer session.Close()
			time.Sleep(time.Minute)
			n := 0
			for ev, err := range session.Incoming() {
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(n), ev.Data)
				n++
				time.Sleep(time.Minute)
			}
			require.Equal(t, 10, n)
		})
	})
	t.Run("is not for the head", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(20 * s)
				send(w, "data: x\n\n")
			}})
			events, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s})
			require.NoError(t, err)
			require.Len(t, events, 1)
		})
	})
	t.Run("is none by default", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{reconnectAged(reconnectYear, reconnectText("data: x\n\n"))})
			events, err := l.run(t.Context(), client.Config{})
			require.NoError(t, err)
			require.Len(t, events, 1)
		})
	})
	t.Run("can be the call's", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{silent("")})
			_, err := l.run(t.Context(), client.Config{IdleTimeout: time.Hour}, client.WithConfig(func(cfg *client.Config) { cfg.IdleTimeout = s }))
			var timeout *client.TimeoutError
			require.ErrorAs(t, err, &timeout)
			require.Equal(t, s, timeout.Limit)
			require.Equal(t, s, time.Since(l.start))
		})
	})
	t.Run("frees the connection", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			gone := time.Duration(0)
			l := newReconnectLab(t, reconnectSteps{nil})
			l.steps[0] = func(w http.ResponseWriter, r *http.Request) {
				silent("data: 1\n\n")(w, r)
				gone = time.Since(l.start)
			}
			_, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s})
			require.Error(t, err)
			synctest.Wait()
			require.Equal(t, 10*s, gone)
		})
	})
}

func TestIdleTimeoutOfRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 10 * time.Second
		body, server := io.Pipe()
		go func() {
			for _, b := range []byte(": a comment\ndata: x\n\n") {
				time.Sleep(limit - 1)
				_, _ = server.Write([]byte{b})
			}
		}()
		s := client.Read(body, client.WithConfig(func(cfg *client.Config) { cfg.IdleTimeout = limit }))
		var seen []string
		var errs []error
		var last time.Time
		for ev, err := range s.Incoming() {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			seen = append(seen, ev.Data)
			time.Sleep(time.Hour)
			last = time.Now()
		}
		require.Equal(t, []string{"x"}, seen)
		require.Equal(t, limit, time.Since(last))
		require.Len(t, errs, 1)
		var end *client.Error
		require.ErrorAs(t, errs[0], &end)
		require.Nil(t, end.Response)
		var timeout *client.TimeoutError
		require.ErrorAs(t, errs[0], &timeout)
		require.Equal(t, client.TimeoutError{Option: "IdleTimeout", Limit: limit}, *timeout)
		_, err := server.Write([]byte("x"))
		require.ErrorIs(t, err, io.ErrClosedPipe, "the body is closed")
	})
}

func TestOpenTimeout(t *testing.T) {
	t.Parallel()
	const s = time.Second
	never := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, tt := range map[string]struct {
		cfg     client.Config
		timeout time.Duration // of the http.Client
		limit   time.Duration
	}{
		"by default":               {client.Config{}, 0, 30 * s},
		"of its own":               {client.Config{OpenTimeout: 5 * s}, 0, 5 * s},
		"that of the http.Client":  {client.Config{}, 7 * s, 7 * s},
		"instead of http.Client's": {client.Config{OpenTimeout: 9 * s}, 7 * s, 9 * s},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, reconnectSteps{never, never, never})
				l.http.Timeout = tt.timeout
				tt.cfg.MaxReconnectionAttempts = 1
				_, err := l.run(t.Context(), tt.cfg)
				var end *client.Error
				require.ErrorAs(t, err, &end)
				require.Nil(t, end.Response)
				var timeout *client.TimeoutError
				require.ErrorAs(t, err, &timeout)
				require.Equal(t, client.TimeoutError{Option: "OpenTimeout", Limit: tt.limit}, *timeout)
				require.EqualError(t, err, fmt.Sprintf("client: no response within %v (OpenTimeout)", tt.limit))
				require.Equal(t, []time.Duration{0, tt.limit + 3*s}, l.times)
				require.ErrorAs(t, l.retries[0].Err, &timeout)
				require.Equal(t, 2*tt.limit+3*s, time.Since(l.start))
			})
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(time.Hour)
				send(w, "data: x\n\n")
			}})
			l.http.Timeout = s
			events, err := l.run(t.Context(), client.Config{OpenTimeout: -1})
			require.NoError(t, err)
			require.Len(t, events, 1)
		})
	})
	t.Run("is not for the stream", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			step := func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(5*s - 1)
				for i := range 60 {
					send(w, "data: %d\n\n", i)
					time.Sleep(time.Minute)
				}
			}
			l := newReconnectLab(t, reconnectSteps{step, step})
			l.http.Timeout = 5 * s
			events, err := l.run(t.Context(), client.Config{MaxReconnectionAttempts: 1})
			require.NoError(t, err)
			require.Len(t, events, 120)
		})
	})
	t.Run("is for the body of a refusal", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusNotFound)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}})
			_, err := l.run(t.Context(), client.Config{OpenTimeout: 5 * s})
			var status *client.StatusError
			require.ErrorAs(t, err, &status)
			require.Equal(t, 5*s, time.Since(l.start))
		})
	})
}
