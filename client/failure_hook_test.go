// OnFailure: a hook that panics, that takes long, or during which the session is told
// something else; failures that happen once; and what a hook is for.

package client_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// A wait that the server asks for, beyond MaxRetry.
func TestFailureOfAWaitThatIsTooLong(t *testing.T) {
	t.Parallel()
	const asked = 48 * time.Hour
	ended := reconnectText("retry: 172800000\ndata: x\n\n")
	busy := reconnectStatus(503, "Retry-After", "172800")
	own := errors.New("my own")
	for name, tt := range map[string]struct {
		step     reconnectStep
		attempts int
		decide   func(client.Failure) client.Decision
		requests int
		waited   time.Duration
		tooLong  bool // the hook sees a RetryError
		check    func(error) bool
	}{
		"retry":                     {ended, 1, client.DefaultDecision, 1, 0, true, isA[*client.RetryError]()},
		"Retry-After":               {busy, 1, client.DefaultDecision, 1, 0, true, isA[*client.RetryError]()},
		"retry, no attempts":        {ended, 0, client.DefaultDecision, 1, 0, false, reconnectIs(nil)},
		"Retry-After, no attempts":  {busy, 0, client.DefaultDecision, 1, 0, false, isA(func(e *client.Error) bool { return isA[*client.StatusError]()(e.Err) && !isA[*client.RetryError]()(e) })},
		"retry, Retry":              {ended, 1, func(client.Failure) client.Decision { return client.Retry() }, 2, asked, true, reconnectIs(nil)},
		"Retry-After, Retry":        {busy, 1, func(client.Failure) client.Decision { return client.Retry() }, 2, asked, true, reconnectIs(nil)},
		"retry, RetryIn":            {ended, 1, func(client.Failure) client.Decision { return client.RetryIn(time.Hour) }, 2, time.Hour, true, reconnectIs(nil)},
		"Retry-After, RetryIn":      {busy, 1, func(client.Failure) client.Decision { return client.RetryIn(time.Hour) }, 2, time.Hour, true, reconnectIs(nil)},
		"retry, Stop":               {ended, 1, func(client.Failure) client.Decision { return client.Stop(nil) }, 1, 0, true, isA[*client.RetryError]()},
		"Retry-After, Stop":         {busy, 1, func(client.Failure) client.Decision { return client.Stop(own) }, 1, 0, true, reconnectIs(own)},
		"Retry-After, End":          {busy, 1, func(client.Failure) client.Decision { return client.End() }, 1, 0, true, reconnectIs(nil)},
		"Retry-After of a 404":      {reconnectStatus(404, "Retry-After", "172800"), 1, client.DefaultDecision, 1, 0, false, isA(func(e *client.StatusError) bool { return e.Status == 404 })},
		"Retry-After of a 404, but": {reconnectStatus(404, "Retry-After", "172800", "X-Should-Retry", "true"), 1, client.DefaultDecision, 1, 0, true, isA[*client.RetryError]()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, reconnectSteps{tt.step})
				var seen []client.Failure
				_, err := l.run(t.Context(), client.Config{
					MaxReconnectionAttempts: tt.attempts,
					OnFailure:               func(f client.Failure) client.Decision { seen = append(seen, f); return tt.decide(f) },
				})
				took := time.Since(l.start)
				require.True(t, tt.check(err), "%v", err)
				require.NotEmpty(t, seen)
				require.Equal(t, asked, seen[0].Delay, "the wait is shorter than the server asks")
				require.Equal(t, tt.tooLong, isA(func(e *client.RetryError) bool { return e.Asked == asked && e.Limit == 24*time.Hour })(seen[0].Err))
				require.Equal(t, tt.requests, l.requests())
				require.Equal(t, tt.waited, took)
			})
		})
	}
}

// An id that cannot be sent is one failure, and costs no attempt.
func TestFailureOfAnIDThatCannotBeSent(t *testing.T) {
	t.Parallel()
	type decide = func(client.Failure) client.Decision
	own := errors.New("my own")
	lost := isA(func(e *client.LastEventIDError) bool {
		return e.ID == "a\x01" && e.Limit == client.DefaultMaxLastEventID
	})
	for name, tt := range map[string]struct {
		attempts int
		decide   decide
		ids      []string
		waited   time.Duration
		check    func(error) bool
	}{
		"no attempts":        {0, client.DefaultDecision, []string{"1"}, 0, reconnectIs(nil)},
		"default":            {1, client.DefaultDecision, []string{"1"}, 3 * time.Second, lost},
		"default, unlimited": {client.Unlimited, client.DefaultDecision, []string{"1"}, 3 * time.Second, lost},
		"Retry":              {1, func(client.Failure) client.Decision { return client.Retry() }, []string{"1", ""}, 6 * time.Second, reconnectIs(nil)},
		"RetryIn(0)":         {1, func(client.Failure) client.Decision { return client.RetryIn(0) }, []string{"1", ""}, 3 * time.Second, reconnectIs(nil)},
		"Stop(nil)":          {1, func(client.Failure) client.Decision { return client.Stop(nil) }, []string{"1"}, 3 * time.Second, lost},
		"Stop(err)":          {1, func(client.Failure) client.Decision { return client.Stop(own) }, []string{"1"}, 3 * time.Second, reconnectIs(own)},
		"End":                {1, func(client.Failure) client.Decision { return client.End() }, []string{"1"}, 3 * time.Second, reconnectIs(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, reconnectSteps{reconnectText("id: a\x01\ndata: x\n\nid")})
				var seen []client.Failure
				_, err := l.run(t.Context(), client.Config{
					MaxReconnectionAttempts: tt.attempts,
					OnFailure: func(f client.Failure) client.Decision {
						if f.Err == io.EOF {
							return client.DefaultDecision(f)
						}
						seen = append(seen, f)
						return tt.decide(f)
					},
				}, client.WithLastEventID("1"))
				took := time.Since(l.start)
				require.True(t, tt.check(err), "%v", err)
				require.Equal(t, tt.ids, l.ids)
				require.Equal(t, tt.waited, took)
				if tt.attempts == 0 {
					require.Empty(t, seen)
					return
				}
				require.Len(t, seen, 1)
				require.True(t, lost(seen[0].Err), "%v", seen[0].Err)
				require.Nil(t, seen[0].Response)
				require.Equal(t, 1, seen[0].Attempt)
				require.False(t, seen[0].Final)
				if e, ok := errors.AsType[*client.Error](err); ok {
					require.Equal(t, "id", string(e.Body), "the body of the connection before is missing")
					require.Equal(t, 200, e.Response.StatusCode)
				}
			})
		})
	}
}

// Failure.LastEventID is what the next request will carry, whatever the failure is.
func TestFailureHasTheLastEventIDOfTheNextRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, reconnectSteps{
			nil, // refused
			reconnectText("data: x\n\n"),
			reconnectText("id: 1\ndata: x\n\nid: cut off\n"),
			reconnectStatus(503),
			reconnectText("id: 2\n\n"), // an id without an event
			reconnectText("id:  3 \ndata: x\n\n"),
			reconnectText("id: a\x01\ndata: x\n\n"),
			reconnectText("id\n\n"), // resets it
		})
		var next []string
		_, err := l.run(t.Context(), client.Config{
			MaxReconnectionAttempts: client.Unlimited,
			OnFailure: func(f client.Failure) client.Decision {
				if isA[*client.LastEventIDError]()(f.Err) {
					assert.Empty(t, f.LastEventID)
					return client.Retry()
				}
				next = append(next, f.LastEventID)
				return client.DefaultDecision(f)
			},
		}, client.WithLastEventID("0"))
		require.NoError(t, err)
		require.Equal(t, []string{"0", "0", "0", "1", "1", "2", "3", "", ""}, l.ids)
		require.Equal(t, l.ids[1:], next)
	})

	var last string
	s := client.Read(t.Context(), strings.NewReader("id: 1\ndata: x\n\n"), client.WithConfig(func(cfg *client.Config) {
		cfg.OnFailure = func(f client.Failure) client.Decision { last = f.LastEventID; return client.Decision{} }
	}))
	for _, err := range s.Incoming() {
		require.NoError(t, err)
	}
	require.Equal(t, "1", last)
}

// A failure that follows a connection without a response of its own has what that
// connection brought.
func TestErrorAfterARefusedReconnectionHasTheRestOfTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, reconnectSteps{reconnectCut("data: a\n\ndata: b\nda"), nil})
		_, err := l.run(t.Context(), client.Config{MaxReconnectionAttempts: 1, BufferPolicy: client.LastEvent})
		require.ErrorIs(t, err, errRefused)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "data: a\n\ndata: b\nda", string(e.Body))
		require.Equal(t, 200, e.Response.StatusCode)
	})
}

func TestOnFailureThatPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, reconnectSteps{nil, reconnectText("data: x\n\n")})
		panics := true
		c := client.Install(l.http, l.config(client.Config{
			MaxReconnectionAttempts: 5,
			OnFailure: func(client.Failure) client.Decision {
				if panics {
					panic("my own")
				}
				return client.RetryIn(0)
			},
		}))
		require.PanicsWithValue(t, "my own", func() { _, _ = c.Session(t.Context(), "http://lab/") })
		require.PanicsWithValue(t, "my own", func() { l.steps = slices.Insert(l.steps, 1, nil); _, _, _ = c.Do(t.Context(), "http://lab/") })

		panics = false
		s, err := c.Session(t.Context(), "http://lab/")
		require.NoError(t, err)
		panics = true
		require.PanicsWithValue(t, "my own", func() { _, _ = collect(s) })
		_, err = collect(s)
		require.Equal(t, client.ErrClosed, err, "a hook that has panicked must have ended the session")
		require.NoError(t, s.Close())
		l.requireNoMoreRequests()
	})
}

func TestOnFailureThatTakesLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, reconnectSteps{nil, reconnectCut("data: x\n\n"), reconnectText("data: y\n\n")})
		events, err := l.run(t.Context(), client.Config{
			MaxReconnectionAttempts: 5, OpenTimeout: time.Second, IdleTimeout: time.Second, EventTimeout: time.Second,
			OnFailure: func(client.Failure) client.Decision { time.Sleep(time.Hour); return client.Retry() },
		})
		require.NoError(t, err)
		require.Equal(t, []string{"x", "y"}, dataOf(events), "the hook's time must not count against a limit")
		require.Equal(t, []time.Duration{3 * time.Second, 3 * time.Second, 3 * time.Second}, l.waits())
		var want []time.Duration
		for i := range 4 {
			want = append(want, time.Duration(i)*(time.Hour+3*time.Second))
		}
		require.Equal(t, want, l.times, "the wait begins after the hook")
	})
}

// What happens to the session while OnFailure runs takes precedence over its decision.
func TestSessionThatIsStoppedDuringOnFailure(t *testing.T) {
	t.Parallel()
	own := errors.New("my own")
	cause := errors.New("why")
	for stop, tt := range map[string]struct {
		stop func(s *client.Session, cancel context.CancelCauseFunc)
		is   []error
	}{
		"Close":   {func(s *client.Session, _ context.CancelCauseFunc) { s.Close() }, []error{client.ErrClosed}},
		"context": {func(_ *client.Session, cancel context.CancelCauseFunc) { cancel(cause) }, []error{context.Canceled, cause}},
	} {
		for name, decision := range map[string]client.Decision{
			"default": {}, "Retry": client.Retry(), "RetryIn(0)": client.RetryIn(0), "Stop(nil)": client.Stop(nil), "Stop(err)": client.Stop(own), "End": client.End(),
		} {
			for _, attempts := range []int{0, 1, client.Unlimited} {
				t.Run(stop+", "+name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						l := newReconnectLab(t, reconnectSteps{reconnectCut("data: x\n\n")})
						ctx, cancel := context.WithCancelCause(t.Context())
						defer cancel(nil)
						var s *client.Session
						s, err := client.Install(l.http, l.config(client.Config{
							MaxReconnectionAttempts: attempts,
							OnFailure:               func(client.Failure) client.Decision { tt.stop(s, cancel); return decision },
							OnRetry:                 func(client.Failure) { assert.Fail(t, "a session that is stopped does not wait") },
						})).Session(ctx, "http://lab/")
						require.NoError(t, err)
						_, err = collect(s)
						for _, target := range tt.is {
							require.ErrorIs(t, err, target)
						}
						require.NotErrorIs(t, err, own)
						l.requireNoMoreRequests()
					})
				})
			}
		}
	}
}

// Reconnect during OnFailure connects at once and uses up no attempt, unless the hook ends
// the session.
func TestReconnectDuringOnFailure(t *testing.T) {
	t.Parallel()
	own := errors.New("my own")
	for name, tt := range map[string]struct {
		decision client.Decision
		requests int
		check    func(error) bool
	}{
		"default":   {client.Decision{}, 2, reconnectIs(nil)},
		"Retry":     {client.Retry(), 2, reconnectIs(nil)},
		"RetryIn":   {client.RetryIn(time.Hour), 2, reconnectIs(nil)},
		"Stop(nil)": {client.Stop(nil), 1, reconnectIs(io.ErrUnexpectedEOF)},
		"Stop(err)": {client.Stop(own), 1, reconnectIs(own)},
		"End":       {client.End(), 1, reconnectIs(nil)},
	} {
		for _, attempts := range []int{0, 1, client.Unlimited} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					l := newReconnectLab(t, reconnectSteps{reconnectCut("id: 7\ndata: x\n\n")})
					var s *client.Session
					s, err := client.Install(l.http, l.config(client.Config{
						MaxReconnectionAttempts: attempts,
						OnFailure: func(client.Failure) client.Decision {
							assert.NoError(t, s.Reconnect())
							assert.NoError(t, s.Reconnect())
							return tt.decision
						},
						OnRetry: func(client.Failure) { assert.Fail(t, "Reconnect does not wait") },
					})).Session(t.Context(), "http://lab/")
					require.NoError(t, err)
					events, err := collect(s)
					took := time.Since(l.start)
					require.True(t, tt.check(err), "%v", err)
					require.Equal(t, []string{"x"}, dataOf(events))
					require.Equal(t, tt.requests, l.requests())
					require.Zero(t, took)
				})
			})
		}
	}
}

// Reconnect ends a wait, and gives the attempt of that wait back.
func TestReconnectDuringAWaitIsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, slices.Concat(reconnectSteps{reconnectText("data: x\n\n")}, make(reconnectSteps, 9)))
		var attempts []int
		var s *client.Session
		s, err := client.Install(l.http, l.config(client.Config{
			MaxReconnectionAttempts: 2,
			OnFailure: func(f client.Failure) client.Decision {
				attempts = append(attempts, f.Attempt)
				return client.Decision{}
			},
			OnRetry: func(client.Failure) {
				if len(attempts) <= 3 {
					assert.NoError(t, s.Reconnect())
				}
			},
		})).Session(t.Context(), "http://lab/")
		require.NoError(t, err)
		_, err = collect(s)
		require.ErrorAs(t, err, new(*client.AttemptsError))
		require.Equal(t, []int{1, 1, 1, 1, 2, 3}, attempts)
	})
}

// End while a session opens opens it, without events. It has the response that was there.
func TestEndWhileOpening(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		step   reconnectStep
		status int
	}{"refused connection": {nil, 0}, "404": {reconnectStatus(404), 404}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, reconnectSteps{tt.step, tt.step, tt.step})
				c := client.Install(l.http, l.config(client.Config{OnFailure: func(client.Failure) client.Decision { return client.End() }}))
				check := func(s *client.Session) error {
					events, err := collect(s)
					require.NoError(t, err)
					require.Empty(t, events)
					if tt.status == 0 {
						require.Nil(t, s.Call())
					} else {
						require.Equal(t, tt.status, s.Call().StatusCode)
					}
					return nil
				}
				s, err := c.Session(t.Context(), "http://lab/")
				require.NoError(t, err)
				require.NoError(t, check(s))
				require.NoError(t, c.SSE(t.Context(), "http://lab/", check))
				s, resp, err := c.Do(t.Context(), "http://lab/")
				require.NoError(t, err)
				require.Nil(t, resp)
				require.NoError(t, check(s))
			})
		})
	}
}

// An error of OnRequest comes before anything is sent, so OnFailure may have it tried again
// in any ResendMode.
func TestErrorOfOnRequestMayBeTriedAgain(t *testing.T) {
	for name, options := range map[string][]client.Option{
		"GET": nil, "POST": {client.WithBody("text/plain", strings.NewReader("order"))},
	} {
		t.Run(name, func(t *testing.T) {
			var l requestLog
			srv := serve(t, loggedStreams(&l, "data: a\n\n"))
			calls := 0
			c := install(srv.Client(), client.Config{
				MaxReconnectionAttempts: 2,
				OnRequest: func(*http.Request) error {
					if calls++; calls < 3 {
						return errors.New("no token yet")
					}
					return nil
				},
				OnFailure: func(f client.Failure) client.Decision {
					if f.Err == io.EOF {
						return client.End()
					}
					assert.False(t, f.Final)
					return client.RetryIn(0)
				},
			})
			events, err := collect(session(t, c, srv.URL, options...))
			require.NoError(t, err)
			require.Equal(t, []string{"a"}, dataOf(events))
			require.Len(t, l.all(), 1)
		})
	}
}

// A token that has expired is renewed without a wait.
func TestTokenIsRenewedByOnFailure(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.add(r)
		if r.Header.Get("Authorization") != "Bearer new" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		send(w, "id: 7\ndata: a\n\n")
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		token := "old"
		c := client.Install(srv.Client(), client.Config{ // with the default waits of 3 seconds and more
			MaxReconnectionAttempts: 2, // the end of a stream, and then the 401
			Logger:                  slog.New(slog.DiscardHandler),
			OnRequest:               func(r *http.Request) error { r.Header.Set("Authorization", "Bearer "+token); return nil },
			OnFailure: func(f client.Failure) client.Decision {
				if status, ok := errors.AsType[*client.StatusError](f.Err); ok && status.Status == http.StatusUnauthorized && !f.Final {
					token = "new"
					return client.RetryIn(0)
				}
				if f.Err == io.EOF {
					token = "old" // it expires in mid-life too
					return client.RetryIn(0)
				}
				return client.DefaultDecision(f)
			},
		})
		took := time.Hour
		for range 5 { // the best of some, because the machine may be busy
			token = "old"
			began := time.Now()
			require.NoError(t, session(t, c, srv.URL).Close())
			took = min(took, time.Since(began))
		}
		require.Less(t, took, time.Second, "it has waited before it sent the new token")
		t.Logf("opened after %v", took)
		token = "old"
		before, began := len(l.all()), time.Now()
		s := session(t, c, srv.URL)
		n := 0
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			require.Equal(t, "a", ev.Data)
			if n++; n == 2 {
				break
			}
		}
		require.Less(t, time.Since(began), 3*time.Second, "it has waited for the reconnection time")
		var auth []string
		for _, r := range l.all()[before:] {
			auth = append(auth, r.Header.Get("Authorization"))
		}
		require.Equal(t, []string{"Bearer old", "Bearer new", "Bearer old", "Bearer new"}, auth)
	})
}

// A token that the server never accepts costs no more than the attempts.
func TestTokenThatIsNeverAcceptedEndsTheSession(t *testing.T) {
	var l requestLog
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { l.add(r); w.WriteHeader(http.StatusUnauthorized) })
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 3, OnFailure: func(client.Failure) client.Decision { return client.RetryIn(0) }})
	_, err := c.Session(t.Context(), srv.URL)
	var used *client.AttemptsError
	require.ErrorAs(t, err, &used)
	require.ErrorAs(t, err, new(*client.StatusError))
	require.Len(t, l.all(), 4)
}
