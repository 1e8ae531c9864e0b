// EventTimeout: a stream whose heartbeats go on while its server or model has stalled.

package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// stalled returns a step that sends text, and then a heartbeat every 5 seconds until the
// client leaves.
func stalled(text string) reconnectStep {
	return func(w http.ResponseWriter, r *http.Request) {
		send(w, "%s", text)
		for r.Context().Err() == nil {
			time.Sleep(5 * time.Second)
			send(w, ": heartbeat\n\n")
		}
	}
}

// requireEventTimeout asserts that err is from an EventTimeout of limit.
func requireEventTimeout(t *testing.T, err error, limit time.Duration) {
	t.Helper()
	var timeout *client.TimeoutError
	require.ErrorAs(t, err, &timeout)
	require.Equal(t, client.TimeoutError{Option: "EventTimeout", Limit: limit}, *timeout)
}

func TestEventTimeout(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, cfg := range map[string]client.Config{
		"alone":                    {EventTimeout: 12 * s},
		"with an IdleTimeout":      {EventTimeout: 12 * s, IdleTimeout: 6 * s},
		"with comments shown":      {EventTimeout: 12 * s, ShowCommentEvents: true},
		"equal to the IdleTimeout": {EventTimeout: 12 * s, IdleTimeout: 12 * s},
	} {
		t.Run("heartbeats do not count/"+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newReconnectLab(t, reconnectSteps{stalled("data: 1\n\n")})
				events, err := l.run(t.Context(), cfg)
				requireEventTimeout(t, err, 12*s)
				require.Equal(t, "1", events[0].Data)
				require.Equal(t, 12*s, time.Since(l.start))
			})
		})
	}
	t.Run("starts over with each event", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, r *http.Request) {
				for range 10 {
					send(w, ": heartbeat\n\n")
					time.Sleep(6*s - 1)
					send(w, ": heartbeat\n\n")
					time.Sleep(6 * s)
					send(w, "data: x\n\n")
				}
				stalled("")(w, r)
			}})
			events, err := l.run(t.Context(), client.Config{EventTimeout: 12 * s})
			requireEventTimeout(t, err, 12*s)
			require.Len(t, events, 10)
			require.Equal(t, 10*(12*s-1)+12*s, time.Since(l.start))
		})
	})
	t.Run("a part of an event does not count", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{stalled("id: 1\ndata: x\n")})
			l.steps[0] = func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					send(w, "data: x\n")
					time.Sleep(s)
				}
			}
			_, err := l.run(t.Context(), client.Config{EventTimeout: 12 * s})
			requireEventTimeout(t, err, 12*s)
			require.Equal(t, 12*s, time.Since(l.start))
		})
	})
	t.Run("does not count the caller's time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			defer time.Sleep(time.Minute) // until the writer notices that the session has ended
			body, server := io.Pipe()
			go func() {
				var err error
				for i := 0; err == nil; i++ {
					if i == 5 {
						_, err = io.WriteString(server, "data: x\n\n")
					} else {
						_, err = fmt.Fprintf(server, ": %d\n\n", i)
					}
					time.Sleep(2 * s)
				}
			}()
			session := client.Read(t.Context(), body, client.WithConfig(func(cfg *client.Config) {
				cfg.EventTimeout, cfg.ShowCommentEvents = 13*s, true
			}))
			time.Sleep(time.Hour) // before the loop
			var got []string
			var waited time.Duration // in the loop, since the event
			mark := time.Now()
			for ev, err := range session.Incoming() {
				waited += time.Since(mark)
				if err != nil {
					requireEventTimeout(t, err, 13*s)
					break
				}
				if got = append(got, ev.Data+ev.Comment); !session.Silent() {
					waited = 0
				}
				time.Sleep(time.Second + time.Millisecond) // with each event and each comment
				mark = time.Now()
			}
			require.Equal(t, []string{"0", "1", "2", "3", "4", "x"}, got[:6])
			require.Greater(t, len(got), 6+8, "the session counted the time that the caller took")
			require.Equal(t, 13*s, waited)
		})
	})
	t.Run("is each connection's", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{
				stalled("data: 1\n\n"), stalled(""), nil, stalled("id: 1\n\n"),
				reconnectAged(12*s-1, reconnectText("data: 2\n\n")),
			})
			var closes []bool
			events, err := l.run(t.Context(), client.Config{
				EventTimeout: 12 * s, MaxReconnectionAttempts: client.Unlimited,
				OnRequest: func(r *http.Request) error { closes = append(closes, r.Close); return nil },
			})
			require.NoError(t, err)
			require.Equal(t, []string{"1", "2"}, dataOf(events))
			require.Equal(t, []time.Duration{3 * s, 3 * s, 3 * s, 3 * s, 3 * s}, l.waits(), "a connection that brought heartbeats has not failed")
			for i := range 2 {
				requireEventTimeout(t, l.retries[i].Err, 12*s)
			}
			require.Equal(t, make([]bool, 6), closes, "the connection is not the one to blame")
		})
	})
	t.Run("frees the connection", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			gone := time.Duration(0)
			l := newReconnectLab(t, reconnectSteps{nil})
			l.steps[0] = func(w http.ResponseWriter, r *http.Request) {
				send(w, "data: 1\n\n")
				<-r.Context().Done()
				gone = time.Since(l.start)
			}
			_, err := l.run(t.Context(), client.Config{EventTimeout: 12 * s})
			requireEventTimeout(t, err, 12*s)
			synctest.Wait()
			require.Equal(t, 12*s, gone)
		})
	})
	t.Run("has no timer after the session", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{stalled("data: 1\n\n")})
			var opened *http.Response
			session, err := client.Install(l.http, l.config(client.Config{
				EventTimeout: 12 * s, IdleTimeout: 12 * s,
				OnOpen: func(resp *http.Response) { opened = resp },
			})).Session(t.Context(), "http://lab/")
			require.NoError(t, err)
			of := opened.Request.Context()
			for _, err := range session.Incoming() {
				require.NoError(t, err)
				time.Sleep(time.Hour)
				require.NoError(t, of.Err(), "a timer runs while the caller has the event")
				break
			}
			require.Equal(t, client.ErrClosed, context.Cause(of))
			time.Sleep(time.Hour)
			require.Equal(t, client.ErrClosed, context.Cause(of))
		})
	})
}

func TestEventTimeoutOfRead(t *testing.T) {
	t.Parallel()
	const limit = 10 * time.Second
	for name, read := range map[string]func(body io.ReadCloser, option client.Option) *client.Session{
		"Read": func(body io.ReadCloser, option client.Option) *client.Session {
			return client.Read(context.Background(), body, option)
		},
		"ReadResponse": func(body io.ReadCloser, option client.Option) *client.Session {
			return client.ReadResponse(context.Background(), &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body,
			}, option)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(time.Minute) // until the server notices that the client left
				body, server := io.Pipe()
				go func() {
					_, err := io.WriteString(server, "data: x\n\n")
					for err == nil {
						time.Sleep(time.Second)
						_, err = io.WriteString(server, ":\n")
					}
				}()
				s := read(body, client.WithConfig(func(cfg *client.Config) { cfg.EventTimeout = limit }))
				began := time.Now()
				events, err := collect(s)
				requireEventTimeout(t, err, limit)
				require.Equal(t, []string{"x"}, dataOf(events))
				require.Equal(t, limit, time.Since(began))
				_, err = server.Write([]byte("x"))
				require.ErrorIs(t, err, io.ErrClosedPipe, "the body is not closed")
			})
		})
	}
}

// Nothing can interrupt a Read of a body that cannot be closed. When it returns, what it
// has read is handed out, and then the session ends with the timeout.
func TestTimeoutOfABodyThatCannotBeClosed(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"IdleTimeout", "EventTimeout"} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				body, server := io.Pipe()
				defer server.Close()
				go func() {
					time.Sleep(time.Minute)
					_, _ = io.WriteString(server, "data: late\n\n")
					_, _ = io.WriteString(server, "data: later\n\n")
				}()
				defer body.Close()
				s := client.Read(t.Context(), onlyReader{body}, client.WithConfig(func(cfg *client.Config) {
					if option == "IdleTimeout" {
						cfg.IdleTimeout = time.Second
					} else {
						cfg.EventTimeout = time.Second
					}
				}))
				events, err := collect(s)
				require.Equal(t, []string{"late"}, dataOf(events))
				var timeout *client.TimeoutError
				require.ErrorAs(t, err, &timeout)
				require.Equal(t, client.TimeoutError{Option: option, Limit: time.Second}, *timeout)
				require.Equal(t, "client: "+timeout.Error(), err.Error(), fmt.Sprint(err))
			})
		})
	}
}
