// How long the client waits before it reconnects: backoff, jitter, retry fields and
// Retry-After.

package client_test

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

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
		"the end after a byte is no failure":         {client.Config{}, steps{text(":\n\n"), text(":"), text("id: 1\n\n")}, waits{3 * s, 3 * s, 3 * s}},
		"the end without a byte is a failure":        {client.Config{}, steps{text(""), text(""), text("")}, waits{3 * s, 6 * s, 12 * s}},
		"a break after an event is no failure":       {client.Config{}, steps{cut(ev), cut(ev), cut(ev)}, waits{3 * s, 3 * s, 3 * s}},
		"a break after a byte is no failure":         {client.Config{}, steps{cut(":"), cut(":"), cut(":")}, waits{3 * s, 3 * s, 3 * s}},
		"a break without a byte is a failure":        {client.Config{}, steps{cut(""), cut(""), cut("")}, waits{3 * s, 6 * s, 12 * s}},
		"the end after an event starts over":         {client.Config{}, steps{nil, nil, text(ev), nil, nil}, waits{3 * s, 6 * s, 3 * s, 3 * s, 6 * s}},
		"a break after an event starts over":         {client.Config{}, steps{nil, nil, cut(ev), nil, nil}, waits{3 * s, 6 * s, 3 * s, 3 * s, 6 * s}},
		"an event of an earlier connection does not": {client.Config{}, steps{nil, text(ev), text(""), text("")}, waits{3 * s, 3 * s, 3 * s, 6 * s}},
		"as long as the time, a break starts over":   {client.Config{}, steps{nil, nil, aged(3*s, cut(""))}, waits{3 * s, 6 * s, 3 * s}},
		"as long as the time, the end starts over":   {client.Config{}, steps{nil, nil, aged(3*s, text(""))}, waits{3 * s, 6 * s, 3 * s}},
		"shorter than the time is a failure":         {client.Config{}, steps{nil, nil, aged(3*s-1, cut(""))}, waits{3 * s, 6 * s, 12 * s}},
		"a gateway ends what is shorter than the last wait": {
			client.Config{}, steps{nil, nil, nil, nil, nil, aged(25*s, text("")), aged(25*s, text(""))}, waits{3 * s, 6 * s, 12 * s, 24 * s, 30 * s, 3 * s, 3 * s},
		},
		"the first as long as the reconnection time": {client.Config{}, steps{aged(3*s, cut("")), nil, nil}, waits{3 * s, 3 * s, 6 * s}},
		"the first, shorter":                         {client.Config{}, steps{aged(3*s-1, cut("")), nil}, waits{3 * s, 6 * s}},
		"times of connections do not add up": {
			client.Config{}, steps{nil, nil, aged(2*s, cut("")), aged(2*s, cut("")), nil}, waits{3 * s, 6 * s, 12 * s, 24 * s, 30 * s},
		},

		"the server's time":              {client.Config{}, steps{text("retry: 7000\n\n" + ev)}, waits{7 * s}},
		"the server's, shorter":          {client.Config{}, steps{text("retry: 1000\n\n" + ev)}, waits{s}},
		"in a block without data":        {client.Config{}, steps{cut("retry: 7000\n\n"), nil, nil}, waits{7 * s, 7 * s, 14 * s}},
		"in a block that is cut off":     {client.Config{}, steps{cut("retry: 7000\n"), nil, nil}, waits{7 * s, 7 * s, 14 * s}},
		"in a block that ends too early": {client.Config{}, steps{text("data: x\nretry: 7000\n")}, waits{7 * s}},
		"in a line that ends with CR":    {client.Config{}, steps{cut("retry: 7000\r")}, waits{7 * s}},
		"in a line that is cut off":      {client.Config{}, steps{cut("retry: 7000")}, waits{3 * s}},
		"without the space":              {client.Config{}, steps{text("retry:7000\n" + ev)}, waits{7 * s}},
		"with leading zeros":             {client.Config{}, steps{text("retry: 0007000\n" + ev)}, waits{7 * s}},
		"persists over connections":      {client.Config{}, steps{text("retry: 7000\n" + ev), text(ev), cut(ev), nil, nil}, waits{7 * s, 7 * s, 7 * s, 7 * s, 14 * s}},
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
				var taken []time.Duration // by each step
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
				require.Equal(t, tt.waits, l.waits(), "the delays that OnRetry gets")
				require.Len(t, l.times, len(tt.steps)+1)
				var waited waits
				for i := range tt.steps {
					waited = append(waited, l.times[i+1]-l.times[i]-taken[i])
				}
				require.Equal(t, tt.waits, waited, "the time between the requests")
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

// The loss of a connection that was open for at least the reconnection time is not a
// failure. The backoff starts over with the next failure.
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

// Many gateways end a quiet stream after a fixed time. The waits stay at the reconnection
// time, whether the stream had heartbeats or nothing at all.
func TestGatewayThatEndsQuietStreamsDoesNotSlowTheClientDown(t *testing.T) {
	t.Parallel()
	const life = 30 * time.Second
	heartbeats := func(w http.ResponseWriter, _ *http.Request) {
		for range life / (10 * time.Second) {
			send(w, ": \n\n")
			time.Sleep(10 * time.Second)
		}
		panic(http.ErrAbortHandler)
	}
	for name, step := range map[string]reconnectStep{
		"heartbeats before":      heartbeats,
		"nothing at all":         reconnectAged(life, reconnectCut("")),
		"in order":               reconnectAged(life, reconnectText("")),
		"a heartbeat at the end": reconnectAged(life, reconnectText(": \n\n")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const n = 100
				var steps reconnectSteps
				for range n {
					steps = append(steps, step)
				}
				l := newReconnectLab(t, steps)
				_, err := l.run(t.Context(), client.Config{MaxReconnectionAttempts: client.Unlimited, Jitter: client.DefaultJitter})
				require.NoError(t, err)
				waits := l.waits()
				require.Len(t, waits, n)
				for _, wait := range waits {
					require.GreaterOrEqual(t, wait, client.DefaultReconnectionTime)
					require.LessOrEqual(t, wait, client.DefaultReconnectionTime*3/2)
				}
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
				cfg.OnRetry = func(r client.Failure) {
					if r.Attempt == 2 || cfg.ReconnectionTime == math.MaxInt64 {
						cancel()
					}
				}
				if cfg.Jitter > 0 {
					cfg.OnRetry = func(client.Failure) { cancel() }
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
		asked    time.Duration // 0: at least a century
		status   int
		matches  error // besides a RetryError
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
					OnRetry:                 func(client.Failure) { cancel() }, // the bubble's clock cannot go that far
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

// A wait that is too long does not matter if the client does not reconnect.
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
				for i := 4; i < n+4; i++ { // the backoff grows during the first four
					waited := l.times[i+1] - l.times[i]
					require.Equal(t, l.retries[i].Delay, waited)
					require.GreaterOrEqual(t, waited, tt.base)
					require.LessOrEqual(t, waited, tt.max)
					least, most = min(least, waited), max(most, waited)
				}
				tenth := (tt.max - tt.base) / 10
				require.Less(t, least, tt.base+tenth, "the waits do not use the whole range")
				require.Greater(t, most, tt.max-tenth, "the waits do not use the whole range")
			})
		})
	}
}
