// After the terminal event: the connection is drained for a bounded moment, so that it can
// be used again and the server sees no client that left.

package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// Many LLM APIs end the response a few milliseconds after the terminal event.
func TestConnectionIsUsedAgainAfterATerminalEvent(t *testing.T) {
	const answers = 20
	var mu sync.Mutex
	from := make(map[string]bool)
	left, late := 0, 0 // handlers that saw the client leave, and those that a busy machine kept for too long
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: a\n\ndata: [DONE]\n\n")
		began := time.Now()
		mu.Lock()
		from[r.RemoteAddr] = true
		pause := time.Duration(2+len(from)%4) * time.Millisecond
		mu.Unlock()
		time.Sleep(pause)
		mu.Lock()
		defer mu.Unlock()
		if time.Since(began) > 50*time.Millisecond {
			late++
		}
		if r.Context().Err() != nil {
			left++
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		clear(from)
		left, late = 0, 0
		c := install(srv.Client(), client.Config{Terminal: terminalDone})
		for i := range answers {
			s := session(t, c, srv.URL)
			if i%2 == 0 {
				_, err := collect(s)
				require.NoError(t, err)
				continue
			}
			for ev, err := range s.Incoming() { // leaving the loop at the terminal event does the same
				require.NoError(t, err)
				if terminalDone(ev) {
					break
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		require.LessOrEqual(t, len(from), 1+late, "connections")
		require.LessOrEqual(t, left, late, "handlers that saw the client leave")
	})
}

// drainHead is the head of a stream, and its only event, the terminal one.
const drainHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: [DONE]\n\n"

// A server that holds the response open, or goes on sending, costs the caller 100 ms at
// most. So does the context's end, or Close from another goroutine, at once.
func TestDrainIsBounded(t *testing.T) {
	hold := func(conn net.Conn, _ *http.Request) { _, _ = conn.Read(make([]byte, 1)) } // until the client leaves
	flood := func(conn net.Conn, _ *http.Request) {
		for err := error(nil); err == nil; {
			_, err = io.WriteString(conn, strings.Repeat("x", 4<<10))
		}
	}
	for name, tt := range map[string]struct {
		after func(conn net.Conn, r *http.Request)
		stop  func(s *client.Session, cancel context.CancelFunc) // called after 30 ms, if not nil
		takes time.Duration
	}{
		"held open": {hold, nil, 100 * time.Millisecond},
		"trickle": {func(conn net.Conn, _ *http.Request) {
			hostileDrip(conn, strings.Repeat(":", 10_000), 10*time.Millisecond)
		}, nil, 100 * time.Millisecond},
		"flood": {flood, nil, 0},
		"events": {func(conn net.Conn, _ *http.Request) {
			hostileDrip(conn, strings.Repeat("data: more\n\n", 100), time.Millisecond)
		}, nil, 100 * time.Millisecond},
		"the end":     {func(net.Conn, *http.Request) { time.Sleep(40 * time.Millisecond) }, nil, 40 * time.Millisecond},
		"Close":       {hold, func(s *client.Session, _ context.CancelFunc) { s.Close() }, 30 * time.Millisecond},
		"the context": {hold, func(_ *client.Session, cancel context.CancelFunc) { cancel() }, 30 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			for way, open := range map[string]func(ctx context.Context, hc *http.Client) *client.Session{
				"Session": func(ctx context.Context, hc *http.Client) *client.Session {
					s, err := install(hc, client.Config{Terminal: terminalDone, IdleTimeout: 50 * time.Millisecond, EventTimeout: 50 * time.Millisecond}).Session(ctx, "http://lab/")
					require.NoError(t, err)
					return s
				},
				"ReadResponse": func(ctx context.Context, hc *http.Client) *client.Session {
					resp, err := hc.Get("http://lab/")
					require.NoError(t, err)
					return client.ReadResponse(ctx, resp, client.WithConfig(func(cfg *client.Config) { cfg.Terminal = terminalDone }))
				},
			} {
				t.Run(way, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						hc := requestRawPipes(t, func(conn net.Conn, r *http.Request) {
							io.WriteString(conn, drainHead)
							tt.after(conn, r)
						})
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						s := open(ctx, hc)
						var handedOut time.Time
						for ev, err := range s.Incoming() {
							require.NoError(t, err)
							require.Equal(t, "[DONE]", ev.Data)
							handedOut = time.Now()
							if tt.stop != nil {
								go func() {
									time.Sleep(30 * time.Millisecond)
									tt.stop(s, cancel)
								}()
							}
						}
						require.Equal(t, tt.takes, time.Since(handedOut))
						events, err := collect(s)
						require.NoError(t, err, "the session ended normally")
						require.Empty(t, events)
					})
				})
			}
		})
	}
}

// A session of Read is not drained: its body has no connection behind it, and nothing may
// be able to interrupt a Read of it.
func TestReadIsNotDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, w := io.Pipe()
		go func() { _, err := io.WriteString(w, "data: [DONE]\n\n"); assert.NoError(t, err) }()
		began := time.Now()
		events, err := collect(client.Read(t.Context(), body, client.WithConfig(func(cfg *client.Config) { cfg.Terminal = terminalDone })))
		require.NoError(t, err)
		require.Equal(t, []string{"[DONE]"}, dataOf(events))
		require.Zero(t, time.Since(began))
	})
}

// Close in the loop, at the terminal event, does not wait.
func TestCloseAtTheTerminalEventDoesNotDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hc := requestRawPipes(t, func(conn net.Conn, _ *http.Request) {
			io.WriteString(conn, drainHead)
			_, _ = conn.Read(make([]byte, 1))
		})
		s, err := install(hc, client.Config{Terminal: terminalDone}).Session(t.Context(), "http://lab/")
		require.NoError(t, err)
		began := time.Now()
		for _, err := range s.Incoming() {
			require.NoError(t, err)
			s.Close()
		}
		require.Zero(t, time.Since(began))
	})
}
