// Config.Terminal: the normal end after the terminal event, and truncation before it.

package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// terminalDone reports whether ev is the terminal event of these tests.
func terminalDone(ev client.Event) bool { return ev.Data == "[DONE]" }

func TestTerminalEventEndsTheSession(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: a\n\ndata: [DONE]\n\ndata: too much\n\n")
		switch r.URL.Path {
		case "/open": // the server does not end the stream
			<-r.Context().Done()
		case "/reset":
			panic(http.ErrAbortHandler)
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		for _, path := range []string{"/ends", "/open", "/reset"} {
			var requests, retries atomic.Int64
			c := install(srv.Client(), client.Config{
				MaxReconnectionAttempts: client.Unlimited, Terminal: terminalDone,
				OnRetry: func(client.Failure) { retries.Add(1) },
				OnOpen:  func(*http.Response) { requests.Add(1) },
			})
			s := session(t, c, srv.URL+path)
			events, err := collect(s)
			if path == "/reset" && len(events) < 2 {
				continue // over HTTP/2 the reset may arrive before the events
			}
			require.NoError(t, err, path)
			require.Equal(t, []string{"a", "[DONE]"}, dataOf(events), path)
			events, err = collect(s)
			require.NoError(t, err, "a second loop ended differently")
			require.Empty(t, events)
			if path != "/reset" {
				require.Zero(t, retries.Load(), path)
				require.EqualValues(t, 1, requests.Load(), path)
			}
		}
	})
}

// The session ends after the terminal event was handed out. If the server does not end the
// response, the client closes the connection with the loop.
func TestTerminalEventClosesTheConnection(t *testing.T) {
	gone := make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: [DONE]\n\n")
		<-r.Context().Done()
		close(gone)
	})
	events, err := collect(session(t, install(srv.Client(), client.Config{Terminal: terminalDone}), srv.URL))
	require.NoError(t, err)
	require.Equal(t, []string{"[DONE]"}, dataOf(events))
	<-gone
}

func TestStreamThatEndsBeforeItsTerminalEventIsTruncated(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: a\n\ndata: [DO")
		if r.URL.Path == "/line" {
			send(w, "NE]\n") // the blank line is missing
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		for _, path := range []string{"/half", "/line"} {
			c := install(srv.Client(), client.Config{Terminal: terminalDone, BufferPolicy: client.LastEvent})
			events, err := collect(session(t, c, srv.URL+path))
			if path == "/line" { // a terminal event counts without its blank line
				require.NoError(t, err)
				require.Equal(t, []string{"a", "[DONE]"}, dataOf(events))
				continue
			}
			require.Equal(t, []string{"a"}, dataOf(events))
			require.ErrorIs(t, err, client.ErrTruncated)
			var e *client.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, http.StatusOK, e.Response.StatusCode)
			require.Equal(t, "data: a\n\ndata: [DO", string(e.Body))
			require.Equal(t, 1, strings.Count(err.Error(), "client: "), err.Error())
		}
	})
}

// A stream without an event is truncated too.
func TestEmptyStreamIsTruncated(t *testing.T) {
	srv := serve(t, streamOf(""))
	events, err := collect(session(t, install(srv.Client(), client.Config{Terminal: terminalDone}), srv.URL))
	require.Empty(t, events)
	require.ErrorIs(t, err, client.ErrTruncated)
}

// ErrTruncated is only for an orderly end, not for a stream that breaks off.
func TestStreamThatBreaksOffIsNotTruncated(t *testing.T) {
	url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\ndata: a\n\n")
	})
	_, err := collect(session(t, install(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, client.Config{Terminal: terminalDone}), url))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotErrorIs(t, err, client.ErrTruncated)
}

func TestReconnectionBeforeTheTerminalEventResumes(t *testing.T) {
	var connections atomic.Int64
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		from := 0
		if id := r.Header.Get("Last-Event-ID"); id != "" {
			var err error
			from, err = strconv.Atoi(id)
			assert.NoError(t, err)
		}
		connections.Add(1)
		send(w, "id: %d\ndata: %d\n\n", from+1, from+1)
		if from == 4 {
			send(w, "data: [DONE]\n\n")
			<-r.Context().Done()
		}
	})
	c := install(srv.Client(), client.Config{Terminal: terminalDone, MaxReconnectionAttempts: 1})
	events, err := collect(session(t, c, srv.URL))
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "3", "4", "5", "[DONE]"}, dataOf(events))
	require.EqualValues(t, 5, connections.Load())
}

// If the attempts are used up without another event, the orderly end is still a
// truncation.
func TestReconnectionsThatBringNothingLeaveTheStreamTruncated(t *testing.T) {
	var connections atomic.Int64
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if connections.Add(1) == 1 {
			send(w, "data: a\n\n")
		}
		send(w, ": nothing\n\n")
	})
	c := install(srv.Client(), client.Config{Terminal: terminalDone, MaxReconnectionAttempts: 3})
	events, err := collect(session(t, c, srv.URL))
	require.Equal(t, []string{"a"}, dataOf(events))
	require.ErrorIs(t, err, client.ErrTruncated)
	require.EqualValues(t, 4, connections.Load())
}

// A 204 says that there are no more events. It ends the session normally, as the first
// response or on a reconnection.
func TestNoContentIsANormalEndBeforeTheTerminalEvent(t *testing.T) {
	var connections atomic.Int64
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if connections.Add(1) == 1 && r.URL.Path == "/later" {
			send(w, "data: a\n\n")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	c := install(srv.Client(), client.Config{Terminal: terminalDone, MaxReconnectionAttempts: client.Unlimited})
	events, err := collect(session(t, c, srv.URL+"/later"))
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, dataOf(events))
	events, err = collect(session(t, c, srv.URL+"/first"))
	require.NoError(t, err)
	require.Empty(t, events)
	require.EqualValues(t, 3, connections.Load())
}

// terminalMessage is the data of an ordinary event.
type terminalMessage struct {
	Text string `json:"text"`
}

func TestIncomingOfATypeLeavesOutATerminalEventThatIsNone(t *testing.T) {
	for name, tt := range map[string]struct {
		stream   string
		terminal func(client.Event) bool
		want     []client.TypedEvent[terminalMessage]
	}{
		"no value": {
			"data: {\"text\":\"a\"}\n\ndata: [DONE]\n\n", terminalDone,
			[]client.TypedEvent[terminalMessage]{{Data: terminalMessage{"a"}}},
		},
		"empty": {
			"data: {\"text\":\"a\"}\n\nevent: end\ndata:\n\n", func(ev client.Event) bool { return ev.Name == "end" },
			[]client.TypedEvent[terminalMessage]{{Data: terminalMessage{"a"}}},
		},
		"a value": {
			"data: {\"text\":\"a\"}\n\nevent: end\ndata: {\"text\":\"bye\"}\n\n", func(ev client.Event) bool { return ev.Name == "end" },
			[]client.TypedEvent[terminalMessage]{{Data: terminalMessage{"a"}}, {Name: "end", Data: terminalMessage{"bye"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				send(w, "%s", tt.stream)
				<-r.Context().Done()
			})
			c := install(srv.Client(), client.Config{Terminal: tt.terminal, MaxReconnectionAttempts: client.Unlimited})
			var got []client.TypedEvent[terminalMessage]
			for ev, err := range client.Incoming[terminalMessage](session(t, c, srv.URL)) {
				require.NoError(t, err)
				got = append(got, ev)
			}
			require.Equal(t, tt.want, got)
		})
	}
}

// An event before the terminal one that cannot be decoded is still an error.
func TestIncomingOfATypeShowsABadEventBeforeTheTerminal(t *testing.T) {
	s := client.Read(context.Background(), strings.NewReader("data: oops\n\ndata: [DONE]\n\n"), client.WithConfig(func(cfg *client.Config) { cfg.Terminal = terminalDone }))
	var errs []error
	for _, err := range client.Incoming[terminalMessage](s) {
		errs = append(errs, err)
	}
	require.Len(t, errs, 1)
	var decodeErr *client.DecodeError
	require.ErrorAs(t, errs[0], &decodeErr)
}

func TestIncomingOfATypeEndsWithATruncation(t *testing.T) {
	s := client.Read(context.Background(), strings.NewReader("data: {\"text\":\"a\"}\n\n"), client.WithConfig(func(cfg *client.Config) { cfg.Terminal = terminalDone }))
	var last error
	n := 0
	for _, err := range client.Incoming[terminalMessage](s) {
		last = err
		n++
	}
	require.Equal(t, 2, n)
	require.ErrorIs(t, last, client.ErrTruncated)
}

// The caller may leave the loop or close the session at the terminal event.
func TestTerminalEventAtWhichTheLoopIsLeft(t *testing.T) {
	srv := serve(t, streamOf("data: [DONE]\n\n"))
	c := install(srv.Client(), client.Config{Terminal: terminalDone})
	err := c.SSE(t.Context(), srv.URL, func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			if terminalDone(ev) {
				break
			}
		}
		return nil
	})
	require.NoError(t, err)

	s := session(t, c, srv.URL)
	for _, err := range s.Incoming() {
		require.NoError(t, err)
		s.Close()
	}
}

// The session ends normally even if its context is done after the terminal event.
func TestTerminalEventBeforeTheContextEnds(t *testing.T) {
	srv := serve(t, streamOf("data: [DONE]\n\n"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := install(srv.Client(), client.Config{Terminal: terminalDone}).Session(ctx, srv.URL)
	require.NoError(t, err)
	var errs []error
	for _, err := range s.Incoming() {
		errs = append(errs, err)
		cancel()
	}
	require.Equal(t, []error{nil}, errs)
}

// If the block returns ErrTruncated, SSE returns it unchanged.
func TestSSEReturnsATruncationAsItIs(t *testing.T) {
	srv := serve(t, streamOf("data: a\n\n"))
	c := install(srv.Client(), client.Config{Terminal: terminalDone})
	var own error
	err := c.SSE(t.Context(), srv.URL, func(s *client.Session) error {
		_, own = collect(s)
		return own
	})
	require.ErrorIs(t, err, client.ErrTruncated)
	require.Same(t, own, err)
}

// Terminal is also called with comments that are shown.
func TestTerminalComment(t *testing.T) {
	s := client.Read(context.Background(), strings.NewReader("data: a\n\n: end\n\ndata: b\n\n"), client.WithConfig(func(cfg *client.Config) {
		cfg.ShowCommentEvents = true
		cfg.Terminal = func(ev client.Event) bool { return ev.Comment == "end" }
	}))
	events, err := collect(s)
	require.NoError(t, err)
	require.Equal(t, []client.Event{{Data: "a"}, {Comment: "end"}}, events)
}
