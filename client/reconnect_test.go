// Reconnection: the hooks and log that report it, the parser between two connections, and
// the cases without a retry.

package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

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
		require.Equal(t, []time.Duration{3 * s, 3 * s, 3 * s, 7 * s, 6 * s, 3 * s, 3 * s, 6 * s}, l.waits())
		var attempts []int
		for _, r := range l.retries {
			attempts = append(attempts, r.Attempt)
		}
		require.Equal(t, []int{1, 1, 1, 2, 3, 1, 2, 3}, attempts)
		cause := func(i int) error { return l.retries[i].Err }
		require.ErrorIs(t, cause(0), errRefused)
		require.Equal(t, io.EOF, cause(1), "it must be io.EOF itself")
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

func TestLoggerLevels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := testkit.NewLog()
		l := newReconnectLab(t, reconnectSteps{nil, reconnectText("data: 1\n\n"), reconnectText(""), reconnectCut("data: 2\n\n"), reconnectStatus(503)})
		_, err := l.run(t.Context(), client.Config{
			MaxReconnectionAttempts: client.Unlimited,
			Logger:                  log.Logger(),
		})
		require.NoError(t, err)
		var lines []string
		for _, e := range log.Entries("") {
			line := e.Level.String() + " " + e.Message
			for _, key := range []string{"attempt", "delay"} {
				if value, ok := e.Attrs[key]; ok {
					line += " " + value.String()
				}
			}
			lines = append(lines, line)
		}
		require.Equal(t, []string{
			"WARN sse client reconnects 1 3s",
			"DEBUG sse client connected",
			"DEBUG sse client reconnects 1 3s",
			"DEBUG sse client connected",
			"DEBUG sse client reconnects 2 3s",
			"DEBUG sse client connected",
			"WARN sse client reconnects 1 3s",
			"WARN sse client reconnects 2 3s",
		}, lines)
	})
}

// An incomplete line or block of a lost connection must not affect the next one.
func TestEachConnectionHasAFreshParser(t *testing.T) {
	t.Parallel()
	const bom = "\xEF\xBB\xBF"
	for name, tt := range map[string]struct {
		first, second string
		data          []string
		id            string // the id that the second connection resumes after
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
						require.Zero(t, ev, "an error comes with an event")
						errs = append(errs, err)
					} else {
						require.Empty(t, errs, "an event comes after an error")
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
