// MaxReconnectionAttempts: which connections use up an attempt, and what resets the count.

package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

func TestAttemptsAreCounted(t *testing.T) {
	t.Parallel()
	show := func(c *client.Config) { c.ShowCommentEvents, c.ShowRetryEvents = true, true }
	hide := func(*client.Config) {}
	for name, tt := range map[string]struct {
		step reconnectStep
		edit func(*client.Config)
		fine bool // the server ended the stream in order
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
					if tt.fine && n == 0 {
						require.NoError(t, err)
					} else {
						var end *client.Error
						require.ErrorAs(t, err, &end)
						var used *client.AttemptsError
						require.Equal(t, n > 0, errors.As(err, &used))
						if n > 0 {
							require.Equal(t, n, used.Attempts)
							require.Equal(t, tt.fine, used.Err == io.EOF, "%v", used.Err)
						}
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

// An event with empty data is an event, whatever else its block holds.
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
				require.Equal(t, 4, l.requests(), "the session must go on until the 204")
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
					OnRetry: func(client.Failure) {
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
		// The resolver knows without asking that a name too long for the DNS does not exist.
		"an unknown host": {"http://" + strings.Repeat("x", 64) + ".invalid/", func(err error) bool {
			dns, ok := errors.AsType[*net.DNSError](err)
			return ok && dns.IsNotFound
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{0, 1, 3} {
				var retries []client.Failure
				c := install(&http.Client{Transport: transport}, client.Config{
					MaxReconnectionAttempts: n,
					OnRetry:                 func(r client.Failure) { retries = append(retries, r) },
				})
				err := c.SSE(t.Context(), tt.url, func(*client.Session) error {
					t.Error("SSE called the block")
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
		require.Equal(t, 2, n, "the options of an earlier call still apply")
		require.Equal(t, []time.Duration{3 * s}, waits)
	})
}
