// Servers that break HTTP: slow and endless headers, wrong framing, and connections that
// end badly.

package client_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

// hostilePipe returns an http.Client whose connections are pipes. After the header of a
// request has been read, serve is called with the connection and its number, from 1.
// dials counts the connections.
func hostilePipe(serve func(conn net.Conn, n int)) (hc *http.Client, dials *atomic.Int64) {
	dials = new(atomic.Int64)
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			n := dials.Add(1)
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
					serve(far, int(n))
				}
			}()
			return near, nil
		},
	}}, dials
}

// hostileDrip writes text to conn, one byte each period, until the client leaves.
func hostileDrip(conn net.Conn, text string, period time.Duration) {
	for i := range len(text) {
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
		time.Sleep(period)
	}
}

func TestSlowHeadersAreBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		serve  func(conn net.Conn, n int)
		status int // of the response in the error; 0 if there is none
	}{
		"byte by byte": {func(conn net.Conn, _ int) {
			hostileDrip(conn, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 10_000), time.Second)
		}, 0},
		"endless lines": {func(conn net.Conn, _ int) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(conn, "X: y\r\n"); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}, 0},
		"informational responses": {func(conn net.Conn, _ int) {
			for {
				if _, err := io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}, 0},
		"silence": {func(conn net.Conn, _ int) { _, _ = conn.Read(make([]byte, 1)) }, 0},
		"body of a refusal": {func(conn net.Conn, _ int) {
			io.WriteString(conn, "HTTP/1.1 500 X\r\n\r\n")
			hostileDrip(conn, strings.Repeat("x", 10_000), 3*time.Second)
		}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(time.Minute) // until the server notices that the client left
				hc, dials := hostilePipe(tt.serve)
				c := install(hc, client.Config{
					MaxReconnectionAttempts: 2, OpenTimeout: 10 * time.Second, ReconnectionTime: time.Second, MaxBackoff: time.Second, Jitter: -1,
				})
				began := time.Now()
				_, err := c.Session(t.Context(), "http://hostile.test/")
				require.EqualValues(t, 3, dials.Load())
				var e *client.Error
				require.ErrorAs(t, err, &e)
				if tt.status == 0 {
					require.Equal(t, 32*time.Second, time.Since(began))
					var timeout *client.TimeoutError
					require.ErrorAs(t, err, &timeout)
					require.Equal(t, client.TimeoutError{Option: "OpenTimeout", Limit: 10 * time.Second}, *timeout)
					return
				}
				require.Equal(t, 3500*time.Millisecond, time.Since(began), "half a second for each body")
				require.Equal(t, tt.status, e.Response.StatusCode)
				require.Equal(t, "x", string(e.Body))
				require.True(t, e.Partial)
			})
		})
	}
}

// A stream that arrives byte by byte is not idle. Only MaxEventSize bounds it.
func TestSlowStreamIsBoundedByTheEventSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(time.Minute) // until the server notices that the client left
		hc, dials := hostilePipe(func(conn net.Conn, _ int) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
			hostileDrip(conn, "data: a\n\ndata: "+strings.Repeat("x", 1000), 9*time.Second)
		})
		c := install(hc, client.Config{IdleTimeout: 10 * time.Second, MaxEventSize: 100, MaxReconnectionAttempts: client.Unlimited})
		began := time.Now()
		s, err := c.Session(t.Context(), "http://hostile.test/")
		require.NoError(t, err)
		events, err := collect(s)
		require.Equal(t, []string{"a"}, dataOf(events))
		var tooLarge *event.TooLargeError
		require.ErrorAs(t, err, &tooLarge)
		require.Equal(t, 109*9*time.Second, time.Since(began))
		require.EqualValues(t, 1, dials.Load())
	})
}

func TestStreamThatStallsIsLostAfterTheIdleTimeout(t *testing.T) {
	for name, head := range map[string]string{
		"plain":          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\ndata: b",
		"content length": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\ndata: a\n\n",
		"after a chunk":  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n20",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hc, dials := hostilePipe(func(conn net.Conn, _ int) {
					io.WriteString(conn, head)
					_, _ = conn.Read(make([]byte, 1)) // until the client leaves
				})
				var causes []error
				c := install(hc, client.Config{
					IdleTimeout: time.Minute, MaxReconnectionAttempts: 2, ReconnectionTime: time.Second, MaxBackoff: time.Second, Jitter: -1,
					OnRetry: func(r client.Failure) { causes = append(causes, r.Err) },
				})
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				s, err := c.Session(ctx, "http://hostile.test/")
				require.NoError(t, err)
				events, err := collect(s)
				require.ErrorIs(t, err, context.DeadlineExceeded, "an event resets the attempts, so only the deadline may end the session")
				require.Equal(t, []string{"a", "a", "a", "a", "a"}, dataOf(events))
				require.Equal(t, 5*time.Minute, time.Since(began))
				require.EqualValues(t, 5, dials.Load())
				require.Len(t, causes, 4)
				for _, cause := range causes {
					var timeout *client.TimeoutError
					require.ErrorAs(t, cause, &timeout)
					require.Equal(t, client.TimeoutError{Option: "IdleTimeout", Limit: time.Minute}, *timeout)
				}
			})
		})
	}
}

// Nonsense in place of a response is a failure like any other: the client tries again as
// often as it may, and the last failure is the session's error.
func TestNonsenseInPlaceOfAResponse(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":               "",
		"garbage":               "\x00\x01\x02\xFF nonsense\r\n\r\n",
		"TLS":                   "\x15\x03\x01\x00\x02\x02\x28",
		"HTTP/2":                "\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"SSH":                   "SSH-2.0-OpenSSH_9.6\r\n",
		"events":                "data: a\n\n",
		"half a status line":    "HTTP/1.1 20",
		"closed within headers": "HTTP/1.1 200 OK\r\nContent-Type: text/event-st",
		"header without colon":  "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
		"status of a word":      "HTTP/1.1 abc OK\r\n\r\n",
		"negative length":       "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: -1\r\n\r\n",
		"two lengths":           "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"unknown coding":        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			testkit.NoLeak(t)
			var requests atomic.Int64
			url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
				requests.Add(1)
				io.WriteString(conn, answer)
			})
			c := install(noKeepAlive(t), client.Config{MaxReconnectionAttempts: 2})
			_, err := c.Session(t.Context(), url)
			var e *client.Error
			require.ErrorAs(t, err, &e)
			require.Nil(t, e.Response)
			require.Empty(t, e.Body)
			require.EqualValues(t, 3, requests.Load())
		})
	}
}

// An endless header, or informational responses without end, lead to an error and do not
// fill the memory.
func TestEndlessHeadEndsInAnError(t *testing.T) {
	for name, tt := range map[string]struct{ begin, more string }{
		"a header":                {"HTTP/1.1 200 OK\r\nX: ", strings.Repeat("x", 32<<10)},
		"headers":                 {"HTTP/1.1 200 OK\r\n", strings.Repeat("X: y\r\n", 5000)},
		"informational responses": {"", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
				requests.Add(1)
				_, err := io.WriteString(conn, tt.begin)
				for err == nil {
					_, err = io.WriteString(conn, tt.more)
				}
			})
			hc := noKeepAlive(t)
			hc.Transport.(*http.Transport).MaxResponseHeaderBytes = 1 << 20
			var err error
			allocated := hostileAllocates(func() {
				_, err = install(hc, client.Config{MaxReconnectionAttempts: 1}).Session(t.Context(), url)
			})
			var e *client.Error
			require.ErrorAs(t, err, &e)
			require.Nil(t, e.Response)
			require.EqualValues(t, 2, requests.Load())
			require.Less(t, allocated, uint64(64<<20))
		})
	}
}

func TestHeaderOf10MBIsRefused(t *testing.T) {
	url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX: "+strings.Repeat("x", 10<<20)+"\r\n\r\ndata: a\n\n")
	})
	_, err := install(noKeepAlive(t), client.Config{}).Session(t.Context(), url)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Nil(t, e.Response)
	require.Less(t, len(err.Error()), 1000)
}

// The framing of a body decides whether its stream ended in order. Bytes after it are not
// part of the stream.
func TestFramingOfAStream(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	for name, tt := range map[string]struct {
		answer string
		events []string
		broken bool
	}{
		"content length":                {ok + "Content-Length: 18\r\n\r\ndata: a\n\ndata: b\n\n", []string{"a", "b"}, false},
		"content length too long":       {ok + "Content-Length: 19\r\n\r\ndata: a\n\ndata: b\n\n", []string{"a", "b"}, true},
		"content length far too long":   {ok + "Content-Length: 9223372036854775807\r\n\r\ndata: a\n\n", []string{"a"}, true},
		"content length too short":      {ok + "Content-Length: 17\r\n\r\ndata: a\n\ndata: b\n\n", []string{"a"}, false},
		"content length of zero":        {ok + "Content-Length: 0\r\n\r\ndata: a\n\n", nil, false},
		"chunks":                        {ok + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n0\r\n\r\n", []string{"a"}, false},
		"chunks with a trailer":         {ok + "Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n0\r\nX: y\r\n\r\n", []string{"a"}, false},
		"chunks without an end":         {ok + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n", []string{"a"}, true},
		"half a trailer":                {ok + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n0\r\nX: ", []string{"a"}, true},
		"chunk shorter than it says":    {ok + "Transfer-Encoding: chunked\r\n\r\n10\r\ndata: a\n\n\r\n0\r\n\r\n", []string{"a"}, true},
		"chunk longer than it says":     {ok + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\ndata: b\n\n\r\n0\r\n\r\n", []string{"a"}, true},
		"chunk size that is none":       {ok + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\nx\r\n", []string{"a"}, true},
		"chunk size that is too large":  {ok + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\nffffffffffffffffff\r\n", []string{"a"}, true},
		"negative chunk size":           {ok + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n-1\r\n", []string{"a"}, true},
		"gzip":                          {ok + "Content-Encoding: gzip\r\n\r\n" + string(fuzzGzip([]byte("data: a\n\n"))), []string{"a"}, false},
		"gzip that breaks off":          {ok + "Content-Encoding: gzip\r\n\r\n" + string(fuzzGzip([]byte("data: a\n\n"))[:25]), []string{"a"}, true},
		"gzip that is none":             {ok + "Content-Encoding: gzip\r\n\r\ndata: a\n\n", nil, true},
		"gzip of nothing":               {ok + "Content-Encoding: gzip\r\n\r\n", nil, false},
		"100 before":                    {"HTTP/1.1 100 Continue\r\n\r\n" + ok + "\r\ndata: a\n\n", []string{"a"}, false},
		"103 twice before":              {"HTTP/1.1 103 X\r\nLink: x\r\n\r\nHTTP/1.1 103 X\r\n\r\n" + ok + "\r\ndata: a\n\n", []string{"a"}, false},
		"200 twice, by connection":      {ok + "\r\ndata: a\n\n" + ok + "\r\ndata: b\n\n", []string{"a", "b"}, false},
		"200 twice, by length":          {ok + "Content-Length: 9\r\n\r\ndata: a\n\n" + ok + "Content-Length: 9\r\n\r\ndata: b\n\n", []string{"a"}, false},
		"204 with a body":               {"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\ndata: a\n\n", nil, false},
		"204 with a type and a body":    {"HTTP/1.1 204 No Content\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\n", nil, false},
		"many headers of the same name": {ok + strings.Repeat("Content-Type: text/plain\r\n", 3) + "\r\ndata: a\n\n", []string{"a"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.NoLeak(t)
			url := serveRaw(t, func(conn net.Conn, _ *http.Request) { io.WriteString(conn, tt.answer) })
			events, err := collect(session(t, install(noKeepAlive(t), client.Config{AcceptGzip: true}), url))
			require.Equal(t, tt.events, dataOf(events))
			if !tt.broken {
				require.NoError(t, err)
				return
			}
			var e *client.Error
			require.ErrorAs(t, err, &e)
			require.ErrorContains(t, err, "client: stream broke off: ")
			require.Equal(t, http.StatusOK, e.Response.StatusCode)
		})
	}
}

// If a server sends a second response on the connection, unasked, no later request gets
// it.
func TestAnswerThatNobodyAskedForIsNotTaken(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n"
	var connections atomic.Int64
	url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
		if n := connections.Add(1); n > 1 {
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			return
		}
		io.WriteString(conn, ok+"data: a\n\n"+ok+"data: b\n\n")
		_, _ = conn.Read(make([]byte, 1))
	})
	c := install(noKeepAlive(t), client.Config{MaxReconnectionAttempts: 1})
	events, err := collect(session(t, c, url))
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, dataOf(events))
	require.EqualValues(t, 2, connections.Load())
}

// A handler that panics during a stream resets it, over HTTP/2 too, and the client
// reconnects.
func TestStreamThatIsResetIsResumed(t *testing.T) {
	var connections atomic.Int64
	heard := make(chan bool)
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if connections.Add(1); r.Header.Get("Last-Event-ID") == "2" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		send(w, "id: 1%s\ndata: a\n\n", r.Header.Get("Last-Event-ID"))
		<-heard // otherwise the reset could arrive before the event
		if r.Header.Get("Last-Event-ID") != "" {
			send(w, "id: 2\ndata: b\n\n")
			<-heard
		}
		panic(http.ErrAbortHandler)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		connections.Store(0)
		var causes []error
		c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 1, OnRetry: func(r client.Failure) { causes = append(causes, r.Err) }})
		var got []string
		for ev, err := range session(t, c, srv.URL).Incoming() {
			require.NoError(t, err)
			got = append(got, ev.ID)
			heard <- true
		}
		require.Equal(t, []string{"1", "11", "2"}, got)
		require.EqualValues(t, 3, connections.Load())
		require.Len(t, causes, 2)
		for _, cause := range causes {
			require.ErrorContains(t, cause, "stream broke off")
		}
	})
}

// hostileFrame returns an HTTP/2 frame (RFC 9113 §4.1).
func hostileFrame(kind, flags byte, stream uint32, payload string) string {
	head := make([]byte, 9)
	binary.BigEndian.PutUint32(head, uint32(len(payload))<<8|uint32(kind))
	head[4] = flags
	binary.BigEndian.PutUint32(head[5:], stream)
	return string(head) + payload
}

// hostileReadRequest reads what an HTTP/2 client sends, up to the HEADERS frame of its
// request.
func hostileReadRequest(conn net.Conn) error {
	if _, err := io.CopyN(io.Discard, conn, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return err
	}
	for head := make([]byte, 9); head[3] != 1; {
		if _, err := io.ReadFull(conn, head); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head)>>8)); err != nil {
			return err
		}
	}
	return nil
}

// An HTTP/2 stream can end in more ways. Only END_STREAM is an orderly end.
func TestHTTP2StreamsThatEndBadly(t *testing.T) {
	const contentType = "text/event-stream"
	settings := hostileFrame(4, 0, 0, "")
	// Status 200 and a content-type, encoded with the static table of RFC 7541.
	headers := hostileFrame(1, 4, 1, "\x88\x0F\x10"+string(rune(len(contentType)))+contentType)
	data := hostileFrame(0, 0, 1, "data: a\n\n")
	number := func(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }
	for name, tt := range map[string]struct {
		end    string
		broken bool
	}{
		"END_STREAM":                      {hostileFrame(0, 1, 1, "data: b"), false},
		"trailers":                        {hostileFrame(1, 5, 1, "\x00\x01x\x01y"), false},
		"RST_STREAM by internal error":    {hostileFrame(3, 0, 1, number(2)), true},
		"RST_STREAM by cancel":            {hostileFrame(3, 0, 1, number(8)), true},
		"RST_STREAM by refused stream":    {hostileFrame(3, 0, 1, number(7)), true},
		"GOAWAY that disowns the stream":  {hostileFrame(7, 0, 0, number(0)+number(0)), true},
		"GOAWAY to be calm, and the end":  {hostileFrame(7, 0, 0, number(1)+number(11)), true},
		"GOAWAY in order, and END_STREAM": {hostileFrame(7, 0, 0, number(1)+number(0)) + hostileFrame(0, 1, 1, ""), false},
		"frame that is too large":         {"\xFF\xFF\xFF\x00\x00\x00\x00\x00\x01", true},
		"data for no stream":              {hostileFrame(0, 0, 0, "x"), true},
		"connection closed":               {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			heard, served := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(served)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				io.WriteString(conn, settings)
				if !assert.NoError(t, hostileReadRequest(conn)) {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, conn) }() // until it is closed
				io.WriteString(conn, headers+data)
				select {
				case <-heard:
				case <-t.Context().Done():
				}
				io.WriteString(conn, tt.end)
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			var protocols http.Protocols
			protocols.SetUnencryptedHTTP2(true)
			transport := &http.Transport{Protocols: &protocols}
			t.Cleanup(func() {
				transport.CloseIdleConnections()
				l.Close()
				<-served
			})
			s := session(t, install(&http.Client{Transport: transport}, client.Config{}), "http://"+l.Addr().String())
			var events []client.Event
			for ev, next := range s.Incoming() {
				if err = next; err == nil {
					events = append(events, ev)
					close(heard)
				}
			}
			require.Equal(t, []string{"a"}, dataOf(events))
			if !tt.broken {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "client: stream broke off: ")
			var e *client.Error
			require.ErrorAs(t, err, &e)
		})
	}
}

// When a server shuts down in order, an open stream goes on to its end, and the client
// does not lose an event of it.
func TestServerThatShutsDownInOrderEndsItsStreams(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.Name, func(t *testing.T) {
			down := make(chan struct{})
			srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				send(w, "data: a\n\n")
				<-down
				send(w, "data: b\n\n")
			}, p.Setup, func(srv *httptest.Server) { srv.Config.RegisterOnShutdown(func() { close(down) }) })
			stopped := make(chan error, 1)
			var got []string
			for ev, err := range session(t, install(srv.Client(), client.Config{}), srv.URL).Incoming() {
				require.NoError(t, err)
				if got = append(got, ev.Data); len(got) == 1 {
					go func() { stopped <- srv.Config.Shutdown(context.Background()) }()
				}
			}
			require.Equal(t, []string{"a", "b"}, got)
			require.NoError(t, <-stopped)
		})
	}
}
