// Read: a session over a body that the test has opened.

package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// readBody counts how often it is closed.
type readBody struct {
	io.Reader
	closed atomic.Int64
}

func (b *readBody) Close() error {
	b.closed.Add(1)
	if closer, ok := b.Reader.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

func TestReadOfAReader(t *testing.T) {
	const stream = "\uFEFFid: 1\nevent: x\ndata: a\n\n: c\n\nretry: 5\n\ndata: b\ndata: c\n\ndata: half"
	want := []client.Event{{ID: "1", Name: "x", Data: "a"}, {ID: "1", Data: "b\nc"}}
	for name, r := range map[string]io.Reader{
		"whole":         strings.NewReader(stream),
		"byte by byte":  iotest.OneByteReader(strings.NewReader(stream)),
		"end at once":   iotest.DataErrReader(strings.NewReader(stream)),
		"with a closer": &readBody{Reader: strings.NewReader(stream)},
	} {
		t.Run(name, func(t *testing.T) {
			s := client.Read(context.Background(), r)
			events, err := collect(s)
			require.NoError(t, err)
			require.Equal(t, want, events)
			require.Equal(t, "1", s.LastEventID())
			require.Nil(t, s.Call())
			events, err = collect(s)
			require.NoError(t, err, "again")
			require.Empty(t, events)
			require.NoError(t, s.Close())
		})
	}
}

func TestReadClosesTheBodyAtItsEnd(t *testing.T) {
	boom := errors.New("boom")
	const stream = "data: a\n\ndata: b\n\n"
	for name, tt := range map[string]struct {
		body  io.Reader
		leave bool
		err   error
	}{
		"normal end": {body: strings.NewReader(stream)},
		"error":      {body: io.MultiReader(strings.NewReader(stream), iotest.ErrReader(boom)), err: boom},
		"loop left":  {body: strings.NewReader(stream), leave: true},
	} {
		t.Run(name, func(t *testing.T) {
			body := &readBody{Reader: tt.body}
			s := client.Read(context.Background(), body)
			var last error
			for _, err := range s.Incoming() {
				if last = err; tt.leave {
					break
				}
			}
			require.EqualValues(t, 1, body.closed.Load())
			s.Close()
			s.Close()
			require.EqualValues(t, 1, body.closed.Load(), "once")
			if tt.err == nil {
				require.NoError(t, last)
				return
			}
			require.ErrorIs(t, last, tt.err)
			var e *client.Error
			require.ErrorAs(t, last, &e)
			require.Nil(t, e.Response)
		})
	}
}

func TestReadThatIsClosedUnread(t *testing.T) {
	body := &readBody{Reader: strings.NewReader("data: a\n\n")}
	s := client.Read(context.Background(), body)
	s.Close()
	require.EqualValues(t, 1, body.closed.Load())
	events, err := collect(s)
	require.Empty(t, events)
	require.Equal(t, client.ErrClosed, err)
}

// An event is handed out as soon as its blank line is read, before the next is written.
func TestReadHandsOutEachEventAtOnce(t *testing.T) {
	testkit.NoLeak(t)
	r, w := io.Pipe()
	next := make(chan struct{}, 1)
	go func() {
		for _, block := range []string{"data: a\n\n", "data: b\r\r", "data: c\r\n\r\n", "data: d\r\n\r"} {
			io.WriteString(w, block)
			<-next
		}
		w.Close()
	}()
	var got []string
	for ev, err := range client.Read(context.Background(), r).Incoming() {
		require.NoError(t, err)
		got = append(got, ev.Data)
		next <- struct{}{}
	}
	require.Equal(t, []string{"a", "b", "c", "d"}, got)
}

func TestReadOfAPipeThatFails(t *testing.T) {
	boom := errors.New("boom")
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, "data: a\n\ndata: b")
		w.CloseWithError(boom)
	}()
	events, err := collect(client.Read(context.Background(), r))
	require.Equal(t, []string{"a"}, dataOf(events))
	require.ErrorIs(t, err, boom)
	require.EqualError(t, err, "client: stream broke off: boom")
}

// Only io.EOF itself is an orderly end. A wrapped io.EOF may come from a broken
// connection.
func TestReadTakesOnlyEOFItselfForTheEnd(t *testing.T) {
	for _, broken := range []error{io.ErrUnexpectedEOF, errors.Join(io.EOF), &os.PathError{Op: "read", Path: "x", Err: io.EOF}} {
		_, err := collect(client.Read(context.Background(), iotest.ErrReader(broken)))
		require.ErrorIs(t, err, broken)
		var e *client.Error
		require.ErrorAs(t, err, &e)
	}
	_, err := collect(client.Read(context.Background(), readNothing{}))
	require.ErrorIs(t, err, io.ErrNoProgress)
}

// readNothing reads no bytes and returns no error.
type readNothing struct{}

func (readNothing) Read([]byte) (int, error) { return 0, nil }

func TestReadOfAResponse(t *testing.T) {
	testkit.NoLeak(t)
	ended := make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: [DONE]\n\n")
		<-r.Context().Done()
		close(ended)
	})
	type message struct{ N int }
	resp, err := srv.Client().Get(srv.URL)
	require.NoError(t, err)
	s := client.Read(context.Background(), resp.Body, client.WithConfig(func(cfg *client.Config) {
		cfg.Terminal = func(ev client.Event) bool { return ev.Data == "[DONE]" }
	}))
	var got []message
	for ev, err := range client.Incoming[message](s) {
		require.NoError(t, err)
		got = append(got, ev.Data)
	}
	require.Equal(t, []message{{1}, {2}}, got)
	<-ended // the session has closed the body
}

// Close in another goroutine ends a loop that waits, over each transport.
func TestReadThatWaitsIsEndedByClose(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: a\n\n")
		<-r.Context().Done()
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		resp, err := srv.Client().Get(srv.URL)
		require.NoError(t, err)
		s := client.Read(context.Background(), resp.Body)
		var errs []error
		for _, err := range s.Incoming() {
			if errs = append(errs, err); err == nil {
				go s.Close()
			}
		}
		require.Equal(t, []error{nil, client.ErrClosed}, errs)
	})
}

func TestReadOfAPipeIsEndedByClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		s := client.Read(context.Background(), r)
		go func() {
			io.WriteString(w, "id: 1\ndata: a\n\n")
			time.Sleep(time.Hour)
			s.Close()
		}()
		began := time.Now()
		events, err := collect(s)
		require.Equal(t, client.ErrClosed, err)
		require.Equal(t, []string{"a"}, dataOf(events))
		require.Equal(t, time.Hour, time.Since(began))
		_, err = io.WriteString(w, "x")
		require.ErrorIs(t, err, io.ErrClosedPipe, "the body is not closed")
	})
}

// After Close, events that were read ahead are not handed out, and do not change the id to
// resume after.
func TestReadKeepsTheIDOfTheLastEventThatWasHandedOut(t *testing.T) {
	s := client.Read(context.Background(), strings.NewReader("id: 1\ndata: a\n\nid: 2\ndata: b\n\n"))
	var got []string
	for ev, err := range s.Incoming() {
		if err != nil {
			require.Equal(t, client.ErrClosed, err)
			continue
		}
		got = append(got, ev.ID)
		s.Close()
	}
	require.Equal(t, []string{"1"}, got)
	require.Equal(t, "1", s.LastEventID())
}

func TestReadIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		body := &readBody{Reader: r}
		s := client.Read(context.Background(), body, client.WithConfig(func(cfg *client.Config) {
			cfg.IdleTimeout = time.Minute
			cfg.BufferPolicy = client.LastEvent
		}))
		go func() {
			for _, piece := range []string{"data: a\n\n", ":", "\n", "\n", "d", "ata: b\n\n"} {
				io.WriteString(w, piece)
				time.Sleep(59 * time.Second)
			}
		}()
		began := time.Now()
		var got []string
		var last error
		for ev, err := range s.Incoming() {
			if last = err; err == nil {
				got = append(got, ev.Data)
				time.Sleep(2 * time.Minute) // the time between reads does not count
			}
		}
		require.Equal(t, []string{"a", "b"}, got)
		var timeout *client.TimeoutError
		require.ErrorAs(t, last, &timeout)
		require.Equal(t, client.TimeoutError{Option: "IdleTimeout", Limit: time.Minute}, *timeout)
		var e *client.Error
		require.ErrorAs(t, last, &e)
		require.Equal(t, "data: b\n\n", strings.TrimLeft(string(e.Body), ":\n"))
		require.EqualValues(t, 1, body.closed.Load())
		// The session waits for one more minute after the second event.
		require.Less(t, time.Since(began), 12*time.Minute)
		time.Sleep(time.Hour) // a timer that is left over would fire
	})
}

func TestReadWithOptionsThatMakeNoSense(t *testing.T) {
	for name, tt := range map[string]struct {
		option client.Option
		about  string
	}{
		"config": {client.WithConfig(func(cfg *client.Config) { cfg.MaxEventSize = -1 }), "MaxEventSize"},
		"id":     {client.WithLastEventID("a\nb"), "WithLastEventID"},
		"header": {client.WithHeader("a b", "c"), "WithHeader"},
	} {
		t.Run(name, func(t *testing.T) {
			body := &readBody{Reader: strings.NewReader("data: a\n\n")}
			s := client.Read(context.Background(), body, tt.option)
			events, err := collect(s)
			require.Empty(t, events)
			var configErr *client.ConfigError
			require.ErrorAs(t, err, &configErr)
			require.Equal(t, tt.about, configErr.Option)
			_, err = collect(s)
			require.ErrorAs(t, err, &configErr, "again")
			s.Close()
			require.EqualValues(t, 1, body.closed.Load())
		})
	}
}

// Read ignores the options about requests and reconnections.
func TestReadIgnoresOptionsOfRequests(t *testing.T) {
	called := func() { assert.Fail(t, "a hook was called") }
	s := client.Read(context.Background(), strings.NewReader("retry: 1\n\ndata: a\n\n"),
		client.WithMethod("no method"),
		client.WithBody("text/plain", strings.NewReader("x")),
		client.WithHeader("X-Test", "x"),
		client.WithAddress("ftp", "host", 1, "/"),
		client.WithConfig(func(cfg *client.Config) {
			cfg.MaxReconnectionAttempts, cfg.Resend = client.Unlimited, client.ResendAlways
			cfg.OnOpen = func(*http.Response) { called() }
			cfg.OnRetry = func(client.Failure) { called() }
			cfg.OnRequest = func(*http.Request) error { called(); return nil }
		}))
	events, err := collect(s)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, dataOf(events))
}

func TestReadHeedsOptionsOfEvents(t *testing.T) {
	s := client.Read(context.Background(), strings.NewReader(": c\n\nretry: 1\n\ndata: a\n\nid\ndata: b\n\n"),
		client.WithLastEventID("7"),
		client.WithConfig(func(cfg *client.Config) { cfg.ShowCommentEvents, cfg.ShowRetryEvents = true, true }))
	require.Equal(t, "7", s.LastEventID())
	events, err := collect(s)
	require.NoError(t, err)
	require.Equal(t, []client.Event{
		{ID: "7", Comment: "c"}, {ID: "7", Retry: time.Millisecond}, {ID: "7", Data: "a"}, {Data: "b", ResetID: true},
	}, events)
}

// An option sees the defaults, as it does with a client.
func TestReadGivesOptionsTheDefaults(t *testing.T) {
	client.Read(context.Background(), strings.NewReader(""), client.WithConfig(func(cfg *client.Config) {
		assert.Equal(t, client.DefaultMaxEventSize, cfg.MaxEventSize)
		assert.NotNil(t, cfg.Deserializer)
		assert.NotNil(t, cfg.Logger)
	}))
}

func TestReadBoundsEvents(t *testing.T) {
	s := client.Read(context.Background(), strings.NewReader("data: a\n\ndata: "+strings.Repeat("x", 100)+"\n\ndata: b\n\n"), client.WithConfig(func(cfg *client.Config) {
		cfg.MaxEventSize = 50
		cfg.BufferPolicy = client.All
	}))
	events, err := collect(s)
	require.Equal(t, []string{"a"}, dataOf(events))
	require.EqualError(t, err, "client: event: line larger than 50 bytes")
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "data: a\n\ndata: "+strings.Repeat("x", 100)+"\n\ndata: b\n\n", string(e.Body))
}

// A second loop at the same time gets an error, because the two would each get parts of
// events.
func TestReadHasOneReader(t *testing.T) {
	s := client.Read(context.Background(), strings.NewReader("data: a\n\ndata: b\n\n"))
	var got []string
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		got = append(got, ev.Data)
		_, err := collect(s)
		require.ErrorContains(t, err, "already running")
	}
	require.Equal(t, []string{"a", "b"}, got)
}

// If the request of a body has a context, the body ends with that context.
func TestReadOfAResponseWhoseContextEnds(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: a\n\n")
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, http.NoBody)
	require.NoError(t, err)
	resp, err := srv.Client().Do(req)
	require.NoError(t, err)
	var errs []error
	for _, err := range client.Read(context.Background(), resp.Body).Incoming() {
		errs = append(errs, err)
		cancel()
	}
	require.Len(t, errs, 2)
	require.ErrorIs(t, errs[1], context.Canceled)
}
