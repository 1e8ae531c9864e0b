// Streams that are cut at every byte: no event is lost, repeated, or out of order.

package client_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// resumeLog is a stream of 200 events of many shapes.
type resumeLog struct {
	text   []byte
	events []client.Event
	ends   []int // the offset in text at which each event is complete
	after  map[string]int
}

func newResumeLog() *resumeLog {
	l := &resumeLog{after: map[string]int{"": 0}}
	var b bytes.Buffer
	for i := range 100 {
		ev := client.Event{ID: strconv.Itoa(i), Data: strconv.Itoa(i)}
		eol := "\n"
		switch i % 8 {
		case 1: // such an event is complete at the CR of its blank line
			eol = "\r\n"
		case 2:
			ev.Data += "\n\nc"
		case 3:
			ev.ID, ev.Name, ev.Data = "ä"+ev.ID, "ß", "日😀"
		case 4:
			eol = "\r"
			ev.Name = "x"
		case 5:
			eol = "\r\n"
			ev.Data = "a\nb"
		case 6:
			ev.Data = ""
		}
		if i%5 == 0 {
			b.WriteString(": x" + eol + eol)
		}
		if i%7 == 0 {
			b.WriteString(":" + eol + "x: y" + eol)
		}
		// Some events begin with the id, others end with it.
		if i%2 == 0 {
			b.WriteString("id: " + ev.ID + eol)
		}
		if ev.Name != "" {
			b.WriteString("event: " + ev.Name + eol)
		}
		for line := range strings.SplitSeq(ev.Data, "\n") {
			b.WriteString("data: " + line + eol)
		}
		if i%2 == 1 {
			b.WriteString("id:" + ev.ID + eol)
		}
		b.WriteString(eol)
		l.events = append(l.events, ev)
		l.ends = append(l.ends, b.Len())
		l.after[ev.ID] = b.Len()
	}
	l.text = b.Bytes()
	return l
}

// from returns the text after the event with the Last-Event-ID of r, and whether there is
// none left.
func (l *resumeLog) from(t testing.TB, r *http.Request) (text []byte, done bool) {
	t.Helper()
	ids := r.Header["Last-Event-Id"]
	assert.LessOrEqual(t, len(ids), 1)
	id := ""
	if len(ids) == 1 {
		id = ids[0]
		assert.NotEmpty(t, id)
	}
	at, ok := l.after[id]
	if !assert.True(t, ok, "the client sent an id that it never received: %q", id) {
		return nil, true
	}
	return l.text[at:], at == len(l.text)
}

// complete returns how many events of text[:n] are complete.
func (l *resumeLog) complete(n int) int {
	for i, end := range l.ends {
		// An event is complete without the LF of its last CRLF.
		if end > n && (end-1 > n || !bytes.HasSuffix(l.text[:end], []byte("\r\n"))) {
			return i
		}
	}
	return len(l.ends)
}

// read reads s to its end. It returns an error unless each event came once and in order.
func (l *resumeLog) read(s *client.Session) error {
	i := 0
	for ev, err := range s.Incoming() {
		switch {
		case err != nil:
			return fmt.Errorf("after %d events: %w", i, err)
		case i == len(l.events):
			return fmt.Errorf("one event too many: %+v", ev)
		case ev != l.events[i]:
			return fmt.Errorf("instead of %+v came %+v", l.events[i], ev)
		}
		i++
	}
	if i < len(l.events) {
		return fmt.Errorf("the end came after %d events", i)
	}
	return nil
}

// resumeConfig returns a Config that reconnects at once and forever.
func resumeConfig() client.Config {
	return client.Config{
		MaxReconnectionAttempts: client.Unlimited,
		ReconnectionTime:        1,
		MaxBackoff:              1,
		Jitter:                  -1,
	}
}

// resumeBody is a body that ends with err and is read in pieces.
type resumeBody struct {
	text  []byte
	piece int
	err   error
}

func (b *resumeBody) Read(p []byte) (int, error) {
	if len(b.text) == 0 {
		return 0, b.err
	}
	n := copy(p[:min(len(p), b.piece)], b.text)
	b.text = b.text[n:]
	return n, nil
}

func (*resumeBody) Close() error { return nil }

func TestStreamIsCutAtEveryByte(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct {
		err   error
		piece int
	}{
		"broken":                 {io.ErrUnexpectedEOF, 1 << 20},
		"ended":                  {io.EOF, 1 << 20},
		"broken in small pieces": {io.ErrUnexpectedEOF, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newResumeLog()
			step := 1
			if how.piece < 100 {
				step = 13 // only a sample, to save time
			}
			for cut := 0; cut <= len(l.text); cut += step {
				had, requests := l.complete(cut), 0
				hc := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					requests++
					text, done := l.from(t, r)
					body := &resumeBody{text, how.piece, io.EOF}
					resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, Request: r}
					switch {
					case done:
						resp.StatusCode = http.StatusNoContent
					case requests == 1:
						body.text, body.err = text[:cut], how.err
					case requests == 2:
						id := ""
						if had > 0 {
							id = l.events[had-1].ID
						}
						assert.Equal(t, id, r.Header.Get("Last-Event-Id"))
					}
					return resp, nil
				})}
				err := install(hc, resumeConfig()).SSE(t.Context(), "http://log/", l.read)
				require.NoError(t, err, "cut at byte %d", cut)
				if had < len(l.events) {
					require.Equal(t, 3, requests, "cut at byte %d", cut)
				} else {
					require.Equal(t, 2, requests, "cut at byte %d", cut)
				}
			}
		})
	}
}

// Each connection that begins at the same event is cut one byte later than the one before.
// So the cuts cover each byte of the stream. The ways in which a connection can end take
// turns.
func TestSocketIsCutAtEveryByte(t *testing.T) {
	t.Parallel()
	l := newResumeLog()
	const chunked, end = "Transfer-Encoding: chunked", "0\r\n\r\n"
	chunk := func(text []byte) string {
		if len(text) == 0 {
			return ""
		}
		return fmt.Sprintf("%x\r\n%s\r\n", len(text), text)
	}
	at, n := -1, 0 // the offset at which the last connection began, and its length
	cuts := 0
	url := serveRaw(t, func(conn net.Conn, r *http.Request) {
		text, done := l.from(t, r)
		if done {
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			return
		}
		if begin := len(l.text) - len(text); begin != at {
			at, n = begin, 0
		} else {
			n++
		}
		text = text[:n]
		var framing, body string
		switch cuts % 5 {
		case 0:
			framing, body = chunked, chunk(text)
		case 1:
			framing, body = chunked, chunk(text)+end
		case 2: // cut inside a chunk
			framing, body = chunked, fmt.Sprintf("%x\r\n%s", len(text)+1, text)
		case 3:
			framing, body = "Content-Length: 1000000", string(text)
		case 4:
			framing, body = "Connection: close", string(text)
		}
		cuts++
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"+framing+"\r\n\r\n"+body)
	})
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*testkit.Patience)
	defer cancel()
	require.NoError(t, install(hc, resumeConfig()).SSE(ctx, url, l.read))
	require.GreaterOrEqual(t, cuts, len(l.text))
}

func TestRandomCutsLoseNothing(t *testing.T) {
	t.Parallel()
	l := newResumeLog()
	var losses, refusals atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, done := l.from(t, r)
		switch {
		case done:
			w.WriteHeader(http.StatusNoContent)
			return
		case rand.IntN(4) == 0:
			refusals.Add(1)
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		losses.Add(1)
		text = text[:min(len(text), rand.IntN(500))]
		send(w, "")
		for len(text) > 0 {
			n := 1 + rand.IntN(len(text))
			send(w, "%s", text[:n])
			text = text[n:]
		}
		if rand.IntN(2) == 0 {
			panic(http.ErrAbortHandler)
		}
	})
	overEach(t, handler, func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		losses.Store(0)
		refusals.Store(0)
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 2*testkit.Patience)
			require.NoError(t, install(srv.Client(), resumeConfig()).SSE(ctx, srv.URL, l.read))
			cancel()
		}
		require.Greater(t, losses.Load(), int64(20))
		require.Positive(t, refusals.Load())
	})
}

// The client resumes after the last complete block that set an id. It ignores the id of an
// incomplete event, and remembers an id that came without data.
func TestResumesAfterWhatWasComplete(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		first string
		id    string
	}{
		"an event":                   {"id: 1\ndata: x\n\n", "1"},
		"an event with CR":           {"id: 1\rdata: x\r\r", "1"},
		"half an event":              {"id: 1\ndata: x\n", ""},
		"half an event after a half": {"id: 1\ndata: x\n\nid: 2\ndata: y\n", "1"},
		"an id alone":                {"id: 1\n\n", "1"},
		"an id taken back":           {"id: 1\ndata: x\n\nid\n\n", ""},
		"an id of half a line":       {"id: 12", ""},
		"an event without an id":     {"id: 1\ndata: x\n\ndata: y\n\n", "1"},
		"an id with a NUL":           {"id: 1\ndata: x\n\nid: \x002\ndata: y\n\n", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got = append(got, strings.Join(r.Header["Last-Event-Id"], ", "))
				switch len(got) {
				case 1:
					send(w, "%s", tt.first)
					panic(http.ErrAbortHandler)
				case 2, 3: // these events do not change the id
					send(w, "data: z\n\n")
				default:
					w.WriteHeader(http.StatusNoContent)
				}
			})
			s := session(t, install(srv.Client(), resumeConfig()), srv.URL)
			_, err := collect(s)
			require.NoError(t, err)
			require.Equal(t, []string{"", tt.id, tt.id, tt.id}, got)
			require.Equal(t, tt.id, s.LastEventID())
		})
	}
}

func TestResumesFromTheIDItIsGiven(t *testing.T) {
	t.Parallel()
	l := newResumeLog()
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		text, done := l.from(t, r)
		if done {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		send(w, "%s", text[:min(len(text), 300)])
		panic(http.ErrAbortHandler)
	})
	c := install(srv.Client(), resumeConfig())
	id := ""
	var seen []client.Event
	for len(seen) < len(l.events) {
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		s, err := c.Session(ctx, srv.URL, client.WithLastEventID(id))
		require.NoError(t, err)
		n := 1 + rand.IntN(20)
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			seen = append(seen, ev)
			if n--; n == 0 {
				break
			}
		}
		id = s.LastEventID()
		require.NoError(t, s.Close())
		cancel()
	}
	require.Equal(t, l.events, seen)
}

// Events that were read ahead of a cancellation are not handed out, so the next session
// must get them.
func TestResumesAfterWhatWasHandedOutBeforeTheEnd(t *testing.T) {
	t.Parallel()
	const text = "id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\n"
	for name, stop := range map[string]func(s *client.Session, cancel context.CancelFunc) (leave bool){
		"cancel": func(_ *client.Session, cancel context.CancelFunc) bool { cancel(); return false },
		"Close":  func(s *client.Session, _ context.CancelFunc) bool { s.Close(); return false },
		"break":  func(*client.Session, context.CancelFunc) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				send(w, text)
				<-r.Context().Done()
			})
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			defer cancel()
			s, err := install(srv.Client(), client.Config{}).Session(ctx, srv.URL)
			require.NoError(t, err)
			defer s.Close()
			for ev, err := range s.Incoming() {
				if err != nil {
					break
				}
				require.Equal(t, "1", ev.ID, "an event was handed out after the stop")
				time.Sleep(time.Millisecond)
				if stop(s, cancel) {
					break
				}
			}
			require.Equal(t, "1", s.LastEventID())
		})
	}
}
