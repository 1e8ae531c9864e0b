// Which responses open a stream, and what the error of the others holds.

package client_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// refusal asserts that a session at url does not open, and returns its error.
func refusal(t testing.TB, c *client.Client, url string, options ...client.Option) *client.Error {
	t.Helper()
	s, err := c.Session(t.Context(), url, options...)
	require.Nil(t, s, "there is a session and an error: %v", err)
	var ours *client.Error
	require.ErrorAs(t, err, &ours)
	return ours
}

// streamWithType answers with a stream whose Content-Type is value, a []string.
func streamWithType(value *atomic.Value) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = value.Load().([]string)
		io.WriteString(w, "data: x\n\n")
	}
}

func TestContentTypeThatOpens(t *testing.T) {
	var value atomic.Value
	overEach(t, streamWithType(&value), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		c := install(srv.Client(), client.Config{})
		for _, values := range [][]string{
			{"text/event-stream"},
			{"text/event-stream;charset=utf-8"},
			{"text/event-stream; charset=UTF-8"},
			{"text/event-stream ; charset=UTF-8; x=y"},
			{"text/event-stream;"},
			{"text/event-stream; charset=iso-8859-1"}, // WHATWG: a stream is UTF-8 whatever its charset says
			{"Text/Event-Stream"},
			{"TEXT/EVENT-STREAM; CHARSET=utf-8"},
			{"text/event-stream", "text/event-stream"},
		} {
			value.Store(values)
			s := session(t, c, srv.URL)
			require.Equal(t, values, s.Call().Header["Content-Type"])
			events, err := collect(s)
			require.NoError(t, err, values)
			require.Equal(t, []string{"x"}, dataOf(events))
		}
	})
}

func TestContentTypeThatDoesNotOpen(t *testing.T) {
	var value atomic.Value
	overEach(t, streamWithType(&value), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		c := install(srv.Client(), client.Config{
			MaxReconnectionAttempts: client.Unlimited,
			OnRetry:                 func(client.Failure) { assert.Fail(t, "the client tries again") },
			OnOpen:                  func(*http.Response) { assert.Fail(t, "OnOpen was called") },
		})
		for _, tt := range []struct {
			values  []string
			was     string
			message string
		}{
			{[]string{"text/plain"}, "text/plain", "text/plain"},
			{[]string{"text/plain; charset=utf-8"}, "text/plain; charset=utf-8", "text/plain"},
			{[]string{"TEXT/HTML"}, "TEXT/HTML", "text/html"},
			{[]string{"application/json"}, "application/json", "application/json"},
			{[]string{"text/event-stream-2"}, "text/event-stream-2", "text/event-stream-2"},
			{[]string{"text/event-strea"}, "text/event-strea", "text/event-strea"},
			{[]string{"text"}, "text", "text"},
			{[]string{"x; text/event-stream"}, "x; text/event-stream", "x"},
			{[]string{"text/plain", "text/event-stream"}, "text/plain", "text/plain"},
			{[]string{""}, "", "missing"},
			{nil, "", "missing"},
			{[]string{"; charset=utf-8"}, "; charset=utf-8", "missing"},
		} {
			value.Store(tt.values)
			err := refusal(t, c, srv.URL)
			require.EqualError(t, err, "client: expected Content-Type text/event-stream but was "+tt.message)
			var content *client.ContentError
			require.ErrorAs(t, err, &content)
			require.Equal(t, client.ContentError{Header: "Content-Type", Value: tt.was}, *content)
			require.Equal(t, 200, err.Response.StatusCode)
			require.Equal(t, tt.was, err.Response.Header.Get("Content-Type"))
			require.Equal(t, "data: x\n\n", string(err.Body))
		}
	})
}

func TestStatusThatDoesNotOpen(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.Header().Set("Content-Type", "text/event-stream") // which makes no difference
		w.Header().Set("X", "y")
		w.WriteHeader(status)
		if status != http.StatusNotModified {
			io.WriteString(w, "data: x\n\n")
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		c := install(srv.Client(), client.Config{OnOpen: func(*http.Response) { assert.Fail(t, "OnOpen was called") }})
		for _, status := range []int{
			201, 202, 203, 206, 226, 299, 300, 304, 305, 306, 400, 401, 403, 404, 405, 406, 408, 410, 418, 429, 451, 499,
			500, 501, 502, 503, 504, 511, 599, 999,
		} {
			err := refusal(t, c, srv.URL+"?status="+strconv.Itoa(status))
			require.EqualError(t, err, fmt.Sprintf("client: expected status 200 but was %d", status))
			var statusErr *client.StatusError
			require.ErrorAs(t, err, &statusErr)
			require.Equal(t, status, statusErr.Status)
			require.Zero(t, statusErr.RetryAfter)
			require.Equal(t, status, err.Response.StatusCode)
			require.Equal(t, "y", err.Response.Header.Get("X"))
			if status != http.StatusNotModified {
				require.Equal(t, "data: x\n\n", string(err.Body))
			}
		}
	})
}

func TestSuccessWithoutContentOtherThan204DoesNotOpen(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusResetContent) })
	err := refusal(t, install(srv.Client(), client.Config{}), srv.URL)
	require.EqualError(t, err, "client: expected status 200 but was 205")
	require.Empty(t, err.Body)
}

func TestNoContentEndsNormallyAtFirst(t *testing.T) {
	var requests atomic.Int32
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("X", "y")
		w.WriteHeader(http.StatusNoContent)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		requests.Store(0)
		c := install(srv.Client(), client.Config{
			MaxReconnectionAttempts: client.Unlimited,
			Terminal:                func(client.Event) bool { return false },
			OnRetry:                 func(client.Failure) { assert.Fail(t, "the client tries again") },
			OnOpen:                  func(*http.Response) { assert.Fail(t, "OnOpen was called") },
		})
		s := session(t, c, srv.URL)
		require.Equal(t, http.StatusNoContent, s.Call().StatusCode)
		require.Equal(t, "y", s.Call().Header.Get("X"))
		for range 2 { // a second loop ends normally too
			events, err := collect(s)
			require.NoError(t, err)
			require.Empty(t, events)
		}
		ran := false
		require.NoError(t, c.SSE(t.Context(), srv.URL, func(s *client.Session) error {
			ran = true
			for ev, err := range s.Incoming() {
				assert.Fail(t, "the loop had a step", "%v %v", ev, err)
			}
			return nil
		}))
		require.True(t, ran)
		require.EqualValues(t, 2, requests.Load())
	})
}

func TestNoContentEndsNormallyOnReconnection(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.add(r)
		if r.Header.Get("Last-Event-ID") == "2" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		send(w, "id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		before := len(l.all())
		s := session(t, install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited}), srv.URL)
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, dataOf(events))
		require.Len(t, l.all()[before:], 2)
		require.Equal(t, http.StatusNoContent, s.Call().StatusCode)
	})
}

func TestContentEncodingThatIsLeftOnDoesNotOpen(t *testing.T) {
	for name, tt := range map[string]struct {
		encoding string
		message  string // "" if it opens
	}{
		"gzip":              {"gzip", "gzip"},
		"br":                {"BR", "br"},
		"several":           {"gzip, br", "gzip, br"},
		"with identity":     {"identity, gzip", "identity, gzip"},
		"identity":          {"identity", ""},
		"identity, in caps": {"Identity", ""},
		"empty":             {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", tt.encoding)
				streamOf("data: x\n\n")(w, r)
			})
			// If the caller sets Accept-Encoding, the Transport does not decompress.
			option := client.WithHeader("Accept-Encoding", "gzip, br")
			c := install(srv.Client(), client.Config{})
			if tt.message == "" {
				events, err := collect(session(t, c, srv.URL, option))
				require.NoError(t, err)
				require.Equal(t, []string{"x"}, dataOf(events))
				return
			}
			err := refusal(t, c, srv.URL, option)
			require.EqualError(t, err, "client: expected no Content-Encoding but was "+tt.message)
			var content *client.ContentError
			require.ErrorAs(t, err, &content)
			require.Equal(t, client.ContentError{Header: "Content-Encoding", Value: tt.encoding}, *content)
			require.Equal(t, "data: x\n\n", string(err.Body))
		})
	}
}

func TestGzipThatTheTransportAskedForOpens(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		for i := range 3 {
			fmt.Fprintf(z, "data: %d\n\n", i)
			_ = z.Flush()
			_ = http.NewResponseController(w).Flush()
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		events, err := collect(session(t, install(srv.Client(), client.Config{AcceptGzip: true}), srv.URL))
		require.NoError(t, err)
		require.Equal(t, []string{"0", "1", "2"}, dataOf(events))
		require.EqualError(t, refusal(t, install(srv.Client(), client.Config{}), srv.URL), "client: expected status 200 but was 406", "by default")
	})
}

func TestBodyOfARefusalCanBeReadAgain(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/plain" {
			w.Header().Set("Content-Type", "text/plain")
		} else {
			w.WriteHeader(http.StatusBadRequest)
		}
		io.WriteString(w, "Server error")
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		c := install(srv.Client(), client.Config{})
		for _, path := range []string{"/status", "/plain"} {
			err := refusal(t, c, srv.URL+path)
			body, readErr := io.ReadAll(err.Response.Body)
			require.NoError(t, readErr)
			require.NoError(t, err.Response.Body.Close())
			require.Equal(t, "Server error", string(body))
			require.Equal(t, "Server error", string(err.Body))
			require.NotNil(t, err.Response.Request)
			require.Equal(t, path, err.Response.Request.URL.Path)
		}
	})
}

func TestBodyOfARefusalIsBounded(t *testing.T) {
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	for name, total := range map[string]int{
		"below the bound": 64<<10 - 1,
		"at the bound":    64 << 10,
		"beyond it":       64<<10 + 1,
		"endless":         -1,
	} {
		t.Run(name, func(t *testing.T) {
			overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if total >= 0 {
					w.Header().Set("Content-Length", strconv.Itoa(total))
				}
				w.WriteHeader(http.StatusForbidden)
				for sent := 0; sent < total || total < 0; sent += len(chunk) {
					part := chunk
					if total >= 0 {
						part = chunk[:min(len(chunk), total-sent)]
					}
					if _, err := w.Write(part); err != nil {
						return
					}
				}
			}), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				err := refusal(t, install(srv.Client(), client.Config{}), srv.URL)
				want := 64 << 10
				if total >= 0 {
					want = min(total, want)
				}
				require.Len(t, err.Body, want)
				require.True(t, bytes.HasPrefix(err.Body, chunk))
				again, readErr := io.ReadAll(err.Response.Body)
				require.NoError(t, readErr)
				require.True(t, bytes.Equal(err.Body, again))
			})
		})
	}
}

func TestResponseOfAnErrorCanBeDumped(t *testing.T) {
	for name, tt := range map[string]struct {
		h    http.HandlerFunc
		body string
	}{
		"short refusal": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "members only")
		}, "members only"},
		"refusal beyond the bound": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(100<<10))
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, strings.Repeat("x", 100<<10))
		}, strings.Repeat("x", 64<<10)},
		"refusal that breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "members")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "members"},
		"stream of known length": {streamOf("data: a\n\ndata: b\n\n"), ""},
		"stream in chunks":       {func(w http.ResponseWriter, _ *http.Request) { send(w, "data: a\n\n") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, tt.h)
			err := install(srv.Client(), client.Config{}).SSE(t.Context(), srv.URL, func(s *client.Session) error {
				for _, err := range s.Incoming() {
					require.NoError(t, err)
					return errors.New("of the block")
				}
				return nil
			})
			var ours *client.Error
			require.ErrorAs(t, err, &ours)
			require.Equal(t, tt.body, string(ours.Body))
			dump, dumpErr := httputil.DumpResponse(ours.Response, true)
			require.NoError(t, dumpErr)
			require.Contains(t, string(dump), tt.body)
		})
	}
}

func TestOnFailureDecidesWhichStatusIsTriedAgain(t *testing.T) {
	all := []int{201, 205, 206, 300, 304, 400, 401, 403, 404, 408, 410, 425, 429, 499, 500, 501, 502, 503, 504, 505, 507, 520, 599}
	for name, tt := range map[string]struct {
		retry func(client.Failure) client.Decision
		again map[int]bool
	}{
		"default":            {nil, map[int]bool{408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true, 520: true}},
		"of the caller":      {retryOn(func(status int) bool { return status == 404 }), map[int]bool{404: true}},
		"none, as in WHATWG": {retryOn(func(int) bool { return false }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				status, _ := strconv.Atoi(r.URL.Path[1:])
				w.WriteHeader(status)
			})
			c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 2, OnFailure: tt.retry})
			for _, status := range all {
				requests.Store(0)
				err := refusal(t, c, srv.URL+"/"+strconv.Itoa(status))
				require.ErrorContains(t, err, fmt.Sprintf("expected status 200 but was %d", status))
				want := 1
				if tt.again[status] {
					want = 3
				}
				require.Equal(t, want == 3, errors.As(err, new(*client.AttemptsError)))
				require.EqualValues(t, want, requests.Load(), "status %d", status)
			}
		})
	}
}

func TestOnFailureIsNotAskedAboutTheEnd(t *testing.T) {
	var asked []int
	var l requestLog
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch l.add(r) {
		case 1:
			w.WriteHeader(http.StatusNotFound)
		case 2:
			streamOf("data: a\n\n")(w, r)
		case 3:
			w.WriteHeader(http.StatusTeapot)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	c := install(srv.Client(), client.Config{
		MaxReconnectionAttempts: 2,
		OnFailure: func(f client.Failure) client.Decision {
			if status, ok := errors.AsType[*client.StatusError](f.Err); ok {
				asked = append(asked, status.Status)
			}
			return client.Retry()
		},
	})
	events, err := collect(session(t, c, srv.URL))
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, dataOf(events))
	require.Equal(t, []int{404, 418}, asked)
}

func TestRefusalOnReconnectionIsTheSessionsError(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.add(r)
		if r.Header.Get("Last-Event-ID") == "" {
			send(w, "id: 1\ndata: a\n\n")
			return
		}
		w.WriteHeader(http.StatusGone)
		io.WriteString(w, "no more of it")
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		c := install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited, BufferPolicy: client.All})
		s := session(t, c, srv.URL)
		events, err := collect(s)
		require.Equal(t, []string{"a"}, dataOf(events))
		require.EqualError(t, err, "client: expected status 200 but was 410")
		var ours *client.Error
		require.ErrorAs(t, err, &ours)
		require.Equal(t, 410, ours.Response.StatusCode)
		require.Equal(t, "no more of it", string(ours.Body))
		_, again := collect(s)
		require.Equal(t, err, again, "a second loop ended differently")
	})
}

func TestSessionShowsItsResponse(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X", "y")
		streamOf("data: x\n\n")(w, r)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		var opened *http.Response
		c := install(srv.Client(), client.Config{OnOpen: func(r *http.Response) { opened = r }})
		s := session(t, c, srv.URL+"/path")
		require.Same(t, opened, s.Call())
		require.Equal(t, 200, s.Call().StatusCode)
		require.Equal(t, "y", s.Call().Header.Get("X"))
		require.Equal(t, "/path", s.Call().Request.URL.Path)
	})
}

// protoOf returns the Proto of the protocol that overEach runs this test with.
func protoOf(t *testing.T) string {
	t.Helper()
	for _, p := range protocols {
		if strings.HasSuffix(t.Name(), "/"+strings.ReplaceAll(p.Name, " ", "_")) {
			return p.Proto
		}
	}
	require.Fail(t, "no such protocol")
	return ""
}

func TestStreamArrivesOverEachTransport(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := range 100 {
			send(w, "id: %d\ndata: %s\n\n", i, r.Proto)
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		s := session(t, install(srv.Client(), client.Config{}), srv.URL)
		require.Equal(t, protoOf(t), s.Call().Proto)
		require.Equal(t, strings.Contains(srv.URL, "https"), s.Call().TLS != nil)
		events, err := collect(s)
		require.NoError(t, err)
		require.Len(t, events, 100)
		for i, ev := range events {
			require.Equal(t, client.Event{ID: strconv.Itoa(i), Data: protoOf(t)}, ev)
		}
	})
}

func TestRefusalsDoNotUseUpTheConnections(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, strings.Repeat("x", 200<<10))
	})
	srv.Client().Transport.(*http.Transport).MaxConnsPerHost = 1
	c := install(srv.Client(), client.Config{})
	for range 5 {
		require.EqualError(t, refusal(t, c, srv.URL), "client: expected status 200 but was 404")
	}
}

func TestHeadThatIsHostileIsAnError(t *testing.T) {
	for name, answer := range map[string]string{
		"no HTTP":          "220 mail.test ESMTP\r\n",
		"bad status":       "HTTP/1.1 2OO OK\r\n\r\n",
		"bad header":       "HTTP/1.1 200 OK\r\nContent-Type text/event-stream\r\n\r\n",
		"endless head":     "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1<<10)+"\r\n", 11<<10),
		"lengths at odds":  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"nothing":          "",
		"only interim 1xx": strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10),
	} {
		t.Run(name, func(t *testing.T) {
			url := serveRaw(t, func(conn net.Conn, _ *http.Request) { io.WriteString(conn, answer) })
			transport := new(http.Transport)
			defer transport.CloseIdleConnections()
			err := refusal(t, install(&http.Client{Transport: transport}, client.Config{}), url)
			require.Nil(t, err.Response)
			require.Empty(t, err.Body)
			var timeout *client.TimeoutError
			require.NotErrorAs(t, err, &timeout)
		})
	}
}

func TestEarlyHintsAreSkipped(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		streamOf("data: x\n\n")(w, r)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
		require.NoError(t, err)
		require.Equal(t, []string{"x"}, dataOf(events))
	})
}
