// Fuzz tests: sessions against a second implementation without package client, the
// Last-Event-ID, Retry-After, and the buffer.

package client_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// The limits of the sessions that FuzzClient runs.
const (
	fuzzEventSize = 64
	fuzzAttempts  = 2
	fuzzIdle      = 10 * time.Second
	fuzzDrain     = 100 * time.Millisecond // how long the client reads on after the terminal event
)

// fuzzServer answers requests over pipes. Each byte of its script selects the answer to
// one request.
type fuzzServer struct {
	script    []byte
	bodies    [][]byte
	head, raw []byte
	hold      bool // keep a connection open after an answer of the kind fuzzStalls

	mu       sync.Mutex
	requests []string // the Last-Event-ID of each, or "none"
}

// fuzzKinds is the number of kinds of response.
const fuzzKinds = 20

// fuzzStalls is the kind of response after which the connection stays open.
const fuzzStalls = 14

// response returns the answer to request i.
func (f *fuzzServer) response(i int) []byte {
	if i >= len(f.script) {
		return nil
	}
	step := f.script[i]
	var body []byte
	if len(f.bodies) > 0 {
		body = f.bodies[i%len(f.bodies)]
	}
	const stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	answer := func(head string, body []byte) []byte { return append([]byte(head+"\r\n"), body...) }
	length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
	switch size := int(step)/fuzzKinds + 1; step % fuzzKinds {
	case 0:
		return answer(stream+length(len(body)), body)
	case 1:
		return answer(stream+"Transfer-Encoding: chunked\r\n", append(fuzzChunks(body, size), "0\r\n\r\n"...))
	case 2:
		return answer(stream, body)
	case 3:
		return answer(stream+length(len(body)+size), body)
	case 4:
		return answer(stream+"Transfer-Encoding: chunked\r\n", fuzzChunks(body, size))
	case 5:
		return answer(stream+"Content-Encoding: gzip\r\n", fuzzGzip(body))
	case 6:
		packed := fuzzGzip(body)
		return answer(stream+"Content-Encoding: gzip\r\n", packed[:max(0, len(packed)-size)])
	case 7:
		return answer("HTTP/1.1 204 No Content\r\n", nil)
	case 8:
		status := []int{400, 401, 404, 429, 500, 501, 502, 503, 504, 599, 200, 206, 304}[size-1]
		return answer(fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: text/plain\r\n", status)+length(len(body)), body)
	case 9:
		return answer("HTTP/1.1 503 X\r\nRetry-After: "+fmt.Sprint(size*size*size)+"\r\n"+length(len(body)), body)
	case 10:
		return answer(fmt.Sprintf("HTTP/1.1 %d X\r\nLocation: /\r\n", 300+size%9)+length(0), nil)
	case 11:
		return answer(stream+length(len(body)/2), body)
	case 12:
		return answer("HTTP/1.1 103 X\r\n\r\nHTTP/1.1 100 X\r\n\r\n"+stream+length(len(body)), body)
	case 13:
		return nil
	case fuzzStalls:
		return answer(stream+length(len(body)+size), body)
	case 15:
		return f.raw
	case 16:
		return answer(stream+string(f.head)+"\r\n", body)
	case 17:
		return answer("HTTP/1.1 "+string(f.head)+"\r\n"+length(len(body)), body)
	case 18:
		return answer("HTTP/1.0 200 OK\r\nContent-Type: TEXT/event-Stream ; charset=x\r\n", body)
	default:
		whole := answer(stream+length(len(body)), body)
		return whole[:min(len(whole), size*10)]
	}
}

func fuzzChunks(body []byte, size int) []byte {
	var chunks bytes.Buffer
	for chunk := range slices.Chunk(body, size) {
		fmt.Fprintf(&chunks, "%x\r\n%s\r\n", len(chunk), chunk)
	}
	return chunks.Bytes()
}

func fuzzGzip(body []byte) []byte {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write(body)
	w.Close()
	return packed.Bytes()
}

// dial returns the client's end of a pipe to the server.
func (f *fuzzServer) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		r, err := http.ReadRequest(bufio.NewReader(far))
		if err != nil {
			return
		}
		f.mu.Lock()
		i := len(f.requests)
		f.requests = append(f.requests, fuzzSent(r))
		f.mu.Unlock()
		_, err = far.Write(f.response(i))
		if err == nil && f.hold && f.stalls(i) {
			_, _ = far.Read(make([]byte, 1)) // until the client leaves
		}
	}()
	return near, nil
}

func (f *fuzzServer) stalls(i int) bool {
	return i < len(f.script) && f.script[i]%fuzzKinds == fuzzStalls
}

// fuzzSent returns the Last-Event-ID that r was sent with.
func fuzzSent(r *http.Request) string {
	switch ids := r.Header.Values("Last-Event-ID"); len(ids) {
	case 0:
		return "none"
	case 1:
		return "id " + ids[0]
	default:
		return "too many"
	}
}

// fuzzEnd holds everything that a user sees of a session.
type fuzzEnd struct {
	Events   []client.Event
	End      string
	LastID   string
	Requests []string
	Delays   []time.Duration
	Elapsed  time.Duration
}

func fuzzTerminal(ev client.Event) bool { return ev.Data == "end" }

// withClient runs a session of package client on the server.
func (f *fuzzServer) withClient(t *testing.T, show, terminal bool) (end fuzzEnd) {
	t.Helper()
	f.hold = true
	transport := &http.Transport{DialContext: f.dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	cfg := client.Config{
		MaxReconnectionAttempts: fuzzAttempts, MaxEventSize: fuzzEventSize, IdleTimeout: fuzzIdle, OpenTimeout: time.Hour,
		ReconnectionTime: time.Second, Jitter: -1, BufferPolicy: client.All,
		ShowCommentEvents: show, ShowRetryEvents: show,
		OnRetry: func(r client.Failure) { end.Delays = append(end.Delays, r.Delay) },
	}
	if terminal {
		cfg.Terminal = fuzzTerminal
	}
	began := time.Now()
	s, err := install(&http.Client{Transport: transport}, cfg).Session(t.Context(), "http://fuzz.test/")
	if err == nil {
		errs := 0
		for ev, next := range s.Incoming() {
			require.Zero(t, errs, "something came after the error")
			if err = next; err != nil {
				errs++
				require.Zero(t, ev)
				continue
			}
			end.Events = append(end.Events, ev)
		}
		_, again := collect(s)
		require.Equal(t, err, again, "a second loop ended differently")
		end.LastID = s.LastEventID()
		s.Close()
	}
	end.End, end.Elapsed, end.Requests = fuzzNameOf(t, err), time.Since(began), f.requests
	return end
}

// fuzzNameOf returns the kind of end that err reports.
func fuzzNameOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return "normal"
	}
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.NotErrorIs(t, err, context.Canceled)
	if e.Response != nil {
		body, readErr := io.ReadAll(e.Response.Body)
		require.NoError(t, readErr)
		require.Equal(t, string(e.Body), string(body))
	}
	usedUp := ""
	if used, ok := errors.AsType[*client.AttemptsError](err); ok {
		if usedUp = "used up: "; used.Err == io.EOF {
			return usedUp + "normal"
		}
	}
	for _, name := range []struct {
		name string
		is   bool
	}{
		{"too long a wait", errors.As(err, new(*client.RetryError))},
		{"unsendable id", errors.As(err, new(*client.LastEventIDError))},
		{"too large", errors.As(err, new(*event.TooLargeError))},
		{"status", errors.As(err, new(*client.StatusError))},
		{"content", errors.As(err, new(*client.ContentError))},
		{"truncated", errors.Is(err, client.ErrTruncated)},
	} {
		if name.is {
			return usedUp + name.name
		}
	}
	return usedUp + "broken"
}

// withoutClient does what a session should do, without package client. It uses an
// http.Client, and an event.Decoder over each whole body.
func (f *fuzzServer) withoutClient(t *testing.T, show, terminal bool) (end fuzzEnd) {
	t.Helper()
	transport := &http.Transport{DialContext: f.dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	hc := &http.Client{Transport: transport}
	began := time.Now()
	defer func() { end.Elapsed, end.Requests = time.Since(began), f.requests }()

	var attempts, failures int
	reconnectionTime, opened := time.Second, false
	waited := reconnectionTime // before the current connection
	for {
		if _, ok := fuzzID(end.LastID); !ok {
			end.End = "unsendable id"
			return end
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://fuzz.test/", http.NoBody)
		require.NoError(t, err)
		if id, ok := fuzzID(end.LastID); ok && id != "" {
			req.Header.Set("Last-Event-ID", id)
		}
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := hc.Do(req)
		f.mu.Lock()
		last := len(f.requests) - 1
		f.mu.Unlock()
		cause, again, wait := "broken", true, time.Duration(0)
		switch {
		case err != nil:
			again = resp == nil
			failures++
		case resp.StatusCode == http.StatusNoContent:
			resp.Body.Close()
			end.End = "normal"
			return end
		case resp.StatusCode != http.StatusOK:
			resp.Body.Close()
			cause, again, wait = "status", fuzzRetries(resp), fuzzAsked(resp.Header)
			failures++
		case !strings.EqualFold(strings.Trim(strings.SplitN(resp.Header.Get("Content-Type"), ";", 2)[0], " \t"), "text/event-stream"),
			!strings.EqualFold(strings.Trim(strings.SplitN(resp.Header.Get("Content-Encoding"), ";", 2)[0], " \t"), "identity") && resp.Header.Get("Content-Encoding") != "":
			resp.Body.Close()
			cause, again = "content", false
		default:
			opened = true
			since := time.Now()
			body, broke := io.ReadAll(resp.Body)
			resp.Body.Close()
			if broke == nil {
				broke = io.EOF
			}
			r := io.MultiReader(bytes.NewReader(body), iotest.ErrReader(broke))
			d := event.NewDecoder(r)
			d.Reset(r, end.LastID)
			d.MaxEventSize, d.Comments, d.RetryOnly = fuzzEventSize, show, show
			loud := fuzzLoud(body)
			var ev event.Event
			for {
				ev, err = d.Decode()
				if err != nil {
					break
				}
				end.Events = append(end.Events, ev)
				if loud[d.InputOffset()] {
					attempts = 0
				}
				if terminal && fuzzTerminal(ev) {
					break
				}
			}
			if err == io.EOF && terminal {
				// The event that the end cuts off counts if it is the terminal one.
				whole := event.NewDecoder(nil)
				whole.Reset(io.MultiReader(bytes.NewReader(body), strings.NewReader("\n\n")), end.LastID)
				last, n := client.Event{}, 0
				for ev, err := range whole.All() {
					require.NoError(t, err)
					last, n = ev, n+1
				}
				if n > len(loud) && fuzzTerminal(last) {
					end.Events, end.LastID, end.End = append(end.Events, last), last.ID, "normal"
					return end
				}
			}
			end.LastID = d.LastEventID()
			if asked, ok := d.Retry(); ok {
				reconnectionTime = max(asked, client.DefaultMinRetry)
				if asked > client.DefaultMaxRetry {
					reconnectionTime = asked
				}
			}
			if err == nil {
				end.End = "normal"
				if f.stalls(last) {
					time.Sleep(fuzzDrain)
				}
				return end
			}
			if errors.As(err, new(*event.TooLargeError)) {
				end.End = "too large"
				return end
			}
			if f.stalls(last) {
				time.Sleep(fuzzIdle)
			}
			if err == io.EOF {
				cause = "truncated"
				if !terminal {
					cause = "normal"
				}
			}
			if len(body) > 0 || time.Since(since) >= waited {
				failures = 0
			} else {
				failures++
			}
		}
		delay := reconnectionTime
		for range failures - 1 {
			if delay < client.DefaultMaxBackoff {
				delay = min(2*delay, client.DefaultMaxBackoff)
			}
		}
		delay = max(delay, wait)
		switch {
		case !again:
			end.End = cause
		case attempts == fuzzAttempts:
			end.End = "used up: " + cause
		case reconnectionTime > client.DefaultMaxRetry || wait > client.DefaultMaxRetry:
			end.End = "too long a wait"
		}
		if end.End != "" {
			if !opened {
				end.LastID = ""
			}
			return end
		}
		attempts++
		end.Delays = append(end.Delays, delay)
		waited = delay
		time.Sleep(delay)
	}
}

// fuzzLoud returns the offsets at which the blocks with data end. The other blocks are
// handed out only if comments or retry fields are shown.
func fuzzLoud(body []byte) map[int64]bool {
	loud := make(map[int64]bool)
	for d := event.NewDecoder(bytes.NewReader(body)); ; loud[d.InputOffset()] = true {
		if _, err := d.DecodeRaw(); err != nil {
			return loud
		}
	}
}

// fuzzID returns the Last-Event-ID for id, and whether a header can carry it.
func fuzzID(id string) (value string, ok bool) {
	value = strings.Trim(id, " \t")
	return value, len(value) <= 4<<10 && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F })
}

// fuzzRetries reports whether a client tries again after resp, which opens no stream.
func fuzzRetries(resp *http.Response) bool {
	switch strings.ToLower(resp.Header.Get("X-Should-Retry")) {
	case "true":
		return true
	case "false":
		return false
	}
	return slices.Contains([]int{408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}, resp.StatusCode)
}

// fuzzAsked returns the wait that a response asks for.
func fuzzAsked(h http.Header) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms >= 0 {
		return time.Duration(min(ms, 1<<42) * 1e6)
	}
	return fuzzRetryAfter(h.Get("Retry-After"))
}

// fuzzRetryAfter returns the wait that a Retry-After asks for (RFC 9110 §10.2.3).
func fuzzRetryAfter(value string) time.Duration {
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, _ := new(big.Int).SetString(value, 10)
		if seconds.Cmp(big.NewInt(1<<32)) > 0 {
			return 1 << 32 * time.Second
		}
		return time.Duration(seconds.Int64()) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}

// Whatever a server sends, a session does what withoutClient does: it has the same events,
// requests and waits, and at most one error. The bubble fails a session that hangs or
// leaves a goroutine running.
func FuzzClient(f *testing.F) {
	const events = "id: 1\ndata: a\n\nevent: x\ndata: b\n\n: c\n\nretry: 20\n\n"
	all := make([]byte, fuzzKinds)
	for i := range all {
		all[i] = byte(i)
	}
	f.Add(all, []byte(events), []byte("data: c\r\rdata: d"), []byte("X: y"), []byte("HTTP/1.1 200\r\n\r\n"), false, false)
	for kind := range byte(fuzzKinds) {
		f.Add([]byte{kind, kind + 3*fuzzKinds, 0}, []byte(events), []byte("id\ndata: d\n\nid: \x01\n\n"), []byte("200"), []byte("HTTP/1.0 200 OK\nContent-Type:text/event-stream\n\ndata\n\n"), kind%2 == 0, false)
	}
	f.Add([]byte{0, 0, 0}, []byte("data: end\n\n"), []byte("data: c\n\n"), []byte(""), []byte(""), false, true)
	f.Add([]byte{13, 2, 2}, []byte("data: c\n\n"), []byte("data: end\n\n"), []byte(""), []byte(""), false, true)
	f.Add([]byte{2, 2, 2, 2, 2}, []byte(": c\n\nretry: 5\n\n"), []byte("id: 1\n: c\n\n"), []byte(""), []byte(""), true, false)
	f.Add([]byte{2, 2, 2, 2, 2, 2}, []byte("data: a\n\nretry: 5\n\n"), []byte("retry: 7\n\n"), []byte(""), []byte(""), true, false)
	f.Add([]byte{2, 2, 2, 2, 2}, []byte("retry: 5\ndata\n\n"), []byte(": c\ndata:\n\n"), []byte(""), []byte(""), true, true)
	f.Add([]byte{2, 2}, []byte("data: "+strings.Repeat("x", fuzzEventSize)), []byte(""), []byte(""), []byte(""), true, false)
	f.Add([]byte{2, 2}, []byte("id: "+strings.Repeat("x", 40)+"\ndata: 1\ndata: "+strings.Repeat("x", 30)+"\n\n"), []byte(""), []byte(""), []byte(""), true, false)
	f.Add([]byte{0, 0}, []byte("retry: 99999999999999999\n\n"), []byte(""), []byte(""), []byte(""), true, false)
	f.Add([]byte{9, 9 + 9*fuzzKinds, 9 + 11*fuzzKinds, 0}, []byte("retry: 0\n\n"), []byte(""), []byte(""), []byte(""), false, true)
	f.Add([]byte{17, 17, 0}, []byte(events), []byte(events), []byte("503 X\r\nRetry-After: 99999999999999999999"), []byte(""), false, false)
	f.Add([]byte{17, 17, 0}, []byte(events), []byte(events), []byte("429 X\r\nRetry-After: Sat, 01 Jan 2000 00:01:00 GMT"), []byte(""), false, false)
	f.Add([]byte{17, 17, 0}, []byte(events), []byte(events), []byte("429 X\r\nRetry-After-Ms: 1500.5\r\nRetry-After: 9"), []byte(""), false, false)
	f.Add([]byte{17, 17, 0}, []byte(events), []byte(events), []byte("404 X\r\nX-Should-Retry: True"), []byte(""), false, false)
	f.Add([]byte{17, 17, 0}, []byte(events), []byte(events), []byte("503 X\r\nX-Should-Retry: false"), []byte(""), false, false)
	f.Add([]byte{0, 2, 0}, []byte("id: 1\ndata: a\n\nx\nid: 2\ndata: end"), []byte("data: end\r"), []byte(""), []byte(""), true, true)
	f.Add([]byte{14, 14, 0}, []byte("data: end\n\n"), []byte(""), []byte(""), []byte(""), true, true)
	f.Add([]byte{17, 0}, []byte(events), []byte(events), []byte("302 X\r\nLocation: http://other.test/\x7F"), []byte(""), false, false)
	f.Add([]byte{16, 0}, []byte(events), []byte(events), []byte("Content-Encoding: deflate"), []byte(""), false, false)
	f.Add([]byte{16, 0}, []byte(events), []byte(events), []byte("Content-Length: 5\r\nTransfer-Encoding: chunked"), []byte(""), false, false)
	f.Add([]byte{15, 15}, []byte(events), []byte(events), []byte(""), []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc"), false, false)
	f.Add(bytes.Repeat([]byte{10}, 12), []byte(events), []byte(events), []byte(""), []byte(""), false, false)

	f.Fuzz(func(t *testing.T, script, body1, body2, head, raw []byte, show, terminal bool) {
		script = script[:min(len(script), 24)]
		server := func() *fuzzServer {
			return &fuzzServer{script: script, bodies: [][]byte{body1, body2}, head: head, raw: raw}
		}
		var got, want fuzzEnd
		synctest.Test(t, func(t *testing.T) { got = server().withClient(t, show, terminal) })
		synctest.Test(t, func(t *testing.T) { want = server().withoutClient(t, show, terminal) })
		require.Equal(t, want, got)
	})
}

// Whatever the id of an event is, the session reconnects with it if a header can carry it.
// Otherwise that is a failure, after which the session goes on without the id if OnFailure
// says so.
func FuzzLastEventID(f *testing.F) {
	for _, id := range []string{"", "1", " 1 ", "\t", "a\tb", "é", "\x00", "\x01", "\x7F", "\xFF", "a\x1Bb", "\u0085", "\u2028", strings.Repeat("x", 4096), strings.Repeat("x", 4097), "a\rid: b", "1, 2", "\"q\""} {
		f.Add(id, "")
		f.Add("before", id)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		stream := "id: " + first + "\ndata: x\n\nid: " + second + "\n\n"
		d := event.NewDecoder(strings.NewReader(stream))
		var err error
		for err == nil {
			_, err = d.Decode()
		}
		want := "none"
		id, ok := fuzzID(d.LastEventID())
		if ok && id != "" {
			want = "id " + id
		}
		synctest.Test(t, func(t *testing.T) {
			server := &fuzzServer{script: []byte{0, 7}, bodies: [][]byte{[]byte(stream)}}
			transport := &http.Transport{DialContext: server.dial, DisableKeepAlives: true}
			defer transport.CloseIdleConnections()
			var unsendable []string
			c := install(&http.Client{Transport: transport}, client.Config{MaxReconnectionAttempts: 1, MaxRetry: 1 << 62, OnFailure: func(f client.Failure) client.Decision {
				if err, ok := errors.AsType[*client.LastEventIDError](f.Err); ok {
					require.Equal(t, client.Stop(nil), client.DefaultDecision(f))
					unsendable = append(unsendable, err.ID)
				}
				return client.Retry()
			}})
			s, err := c.Session(t.Context(), "http://fuzz.test/")
			require.NoError(t, err)
			_, err = collect(s)
			require.NoError(t, err)
			require.Equal(t, []string{"none", want}, server.requests)
			if ok {
				require.Empty(t, unsendable)
			} else {
				require.Equal(t, []string{d.LastEventID()}, unsendable)
			}
		})
	})
}

// fuzzTripper answers each request with the response that it returns.
type fuzzTripper func(*http.Request) *http.Response

func (f fuzzTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := f(r)
	resp.Request, resp.Body = r, http.NoBody
	return resp, nil
}

// The client never waits for less time than Retry-After asks, and never longer than
// MaxRetry.
func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{
		"", "0", "1", "007", "86400", "86401", "4294967295", "4294967296", "18446744073709551616", "99999999999999999999999", "99999999999999999999999x",
		"-1", "+1", "1.5", "1e3", "0x10", "1_000", "1, 2", "٣", "soon",
		"Sat, 01 Jan 2000 00:00:30 GMT", "Saturday, 01-Jan-00 00:00:30 GMT", "Sat Jan  1 00:00:30 2000",
		"Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Sun, 02 Jan 2000 00:00:01 GMT", "Sat, 01 Jan 2000 00:00:30 PST",
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		value = textproto.TrimString(value) // as a header's value arrives
		synctest.Test(t, func(t *testing.T) {
			asked := fuzzRetryAfter(value)
			requests := 0
			c := install(&http.Client{Transport: fuzzTripper(func(*http.Request) *http.Response {
				if requests++; requests == 2 {
					return &http.Response{StatusCode: http.StatusNoContent}
				}
				return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {value}}}
			})}, client.Config{MaxReconnectionAttempts: 1, ReconnectionTime: time.Second, Jitter: -1})
			began := time.Now()
			s, err := c.Session(t.Context(), "http://fuzz.test/")
			if asked > client.DefaultMaxRetry {
				var tooLong *client.RetryError
				require.ErrorAs(t, err, &tooLong)
				require.Equal(t, 1, requests)
				require.Zero(t, time.Since(began))
				return
			}
			require.NoError(t, err)
			s.Close()
			require.Equal(t, max(time.Second, asked), time.Since(began))
		})
	})
}

// fuzzCuts reads text in chunks whose lengths cuts gives, starting over at its end.
type fuzzCuts struct {
	text, cuts []byte
	i          int
}

func (c *fuzzCuts) Read(p []byte) (n int, err error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n = len(c.text)
	if len(c.cuts) > 0 {
		n = min(n, int(c.cuts[c.i%len(c.cuts)])+1)
		c.i++
	}
	n = copy(p, c.text[:n])
	c.text = c.text[n:]
	return n, nil
}

// However a stream is cut into reads, and whatever the policy, the buffer holds what
// bufferModel says.
func FuzzBuffer(f *testing.F) {
	for i, stream := range []string{
		"data: a\n\ndata: b\n\ndata: c\n\n",
		"data: a\r\n\r\n: x\r\n\r\ndata: b\r\n\r\nid: 1\r\ndata: c\r\n\r\n",
		"data\r\rdata\r\n\rdata\n\r\ndata\n\n\n\n\r\n",
		"\uFEFFdata: \xFF\n\nretry: 1\n\ndata\n\nda",
	} {
		for n := range 4 {
			f.Add([]byte(stream), []byte{byte(i), byte(n)}, int8(n), uint8(2))
			f.Add([]byte(stream), []byte{0}, int8(-n), uint8(3))
			f.Add([]byte(stream), []byte{}, int8(-128), uint8(n))
		}
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte, n int8, events uint8) {
		policy := client.BufferPolicy(n)
		if n == -128 {
			policy = client.All
		}
		chunks := func() io.Reader { return &fuzzCuts{text: stream, cuts: cuts} }
		total := 0
		for d := event.NewDecoder(chunks()); ; total++ {
			if _, err := d.DecodeRaw(); err != nil {
				break
			}
		}
		handedOut := min(int(events), total)
		require.Equal(t, bufferModel(t, policy, handedOut, stream, chunks()), bufferAfter(t, policy, handedOut, chunks()))
	})
}
