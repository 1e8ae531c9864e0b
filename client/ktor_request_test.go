// Rows 18 to 32 of docs/KTOR.md: set-up and requests. After them, a request header that
// Ktor's code sends without a test, and faults that Ktor once had (KTOR-6735 and 6327).

package client_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

func TestKtor18UseWithoutInstallNamesIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*client.Client{"nil": nil, "zero": new(client.Client)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := c.Session(t.Context(), "http://localhost/")
			require.ErrorContains(t, err, "client.Install")
			err = c.SSE(t.Context(), "http://localhost/", func(*client.Session) error {
				t.Error("SSE called the block")
				return nil
			})
			require.ErrorContains(t, err, "client.Install")
			require.ErrorAs(t, err, new(*client.ConfigError))
		})
	}
	require.PanicsWithValue(t, "client: Install without an http.Client; use http.DefaultClient", func() {
		client.Install(nil, client.Config{})
	})
}

func TestKtor19OrdinaryRequestsAreUnaffected(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			send(w, "data: open\n\n")
			<-r.Context().Done()
			return
		}
		assert.Empty(t, r.Header.Values("Accept"))
		assert.Empty(t, r.Header.Values("Cache-Control"))
		w.Header().Set("Content-Type", "text/plain")
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
	})
	hc := srv.Client()
	hc.Timeout = time.Hour
	before := *hc
	s := session(t, install(hc, client.Config{}), srv.URL+"/events")
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		require.Equal(t, "open", ev.Data)
		resp, err := hc.Post(srv.URL, "text/plain", strings.NewReader("hello"))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "hello", string(body))
		break
	}
	require.Equal(t, before.Timeout, hc.Timeout)
	require.Nil(t, hc.CheckRedirect)
	require.Same(t, before.Transport, hc.Transport)
}

// [W] Ktor joins lines of data with CRLF. The specification joins them with LF.
func TestKtor20SessionHasTheEventWithAllItsFields(t *testing.T) {
	t.Parallel()
	overEach(t, streamOf("event: hello 0\r\ndata: hello\r\ndata: from server\r\nid: 0\r\n\r\n"),
		func(t *testing.T, srv *httptest.Server) {
			t.Helper()
			s := session(t, install(srv.Client(), client.Config{}), srv.URL)
			events, err := collect(s)
			require.NoError(t, err)
			require.Equal(t, []client.Event{{ID: "0", Name: "hello 0", Data: "hello\nfrom server"}}, events)
		})
}

func TestKtor21TwoSessionsAtOnce(t *testing.T) {
	t.Parallel()
	var both sync.WaitGroup
	both.Add(2)
	h := func(w http.ResponseWriter, r *http.Request) {
		both.Done()
		both.Wait() // until the other session is open too
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil {
			t.Error(err)
		}
		for i := range n {
			send(w, "id: %d\ndata: %d of %d\n\n", i, i, n)
		}
	}
	srv := serve(t, h)
	c := install(srv.Client(), client.Config{})
	var sessions sync.WaitGroup
	for _, n := range []int{100, 50} {
		sessions.Go(func() {
			var events []client.Event
			err := c.SSE(ktorContext(t), srv.URL+"?n="+strconv.Itoa(n), func(s *client.Session) (err error) {
				events, err = collect(s)
				return err
			})
			assert.NoError(t, err) //nolint:testifylint // require is for the test's own goroutine
			assert.Len(t, events, n)
			for i, ev := range events {
				assert.Equal(t, client.Event{ID: strconv.Itoa(i), Data: fmt.Sprintf("%d of %d", i, n)}, ev)
			}
		})
	}
	sessions.Wait()
}

// ktorEcho answers with the method, Content-Type and body of the request.
func ktorEcho(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client left
	}
	send(w, "event: %s %s\ndata: %s\n\n", r.Method, r.Header.Get("Content-Type"), body)
}

func TestKtor22PostWithBodyAndItsType(t *testing.T) {
	t.Parallel()
	overEach(t, http.HandlerFunc(ktorEcho), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		s := session(t, install(srv.Client(), client.Config{}), srv.URL,
			client.WithBody("text/plain; charset=utf-8", strings.NewReader("hello")))
		require.Equal(t, "text/plain; charset=utf-8", s.Call().Request.Header.Get("Content-Type"))
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []client.Event{{Name: "POST text/plain; charset=utf-8", Data: "hello"}}, events)
	})
}

func TestKtor23PostWithoutBody(t *testing.T) {
	t.Parallel()
	overEach(t, http.HandlerFunc(ktorEcho), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		s := session(t, install(srv.Client(), client.Config{}), srv.URL, client.WithMethod(http.MethodPost))
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []client.Event{{Name: "POST "}}, events)
	})
}

// ktorRequest returns the request that options make, as the server receives it.
func ktorRequest(t *testing.T, options ...client.Option) *http.Request {
	t.Helper()
	requests := make(chan *http.Request, 1)
	url := serveRaw(t, func(conn net.Conn, r *http.Request) {
		requests <- r
		fmt.Fprint(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	session(t, install(hc, client.Config{}), url, options...)
	return <-requests
}

func TestKtor24GetHasNoContentLength(t *testing.T) {
	t.Parallel()
	r := ktorRequest(t)
	require.Equal(t, http.MethodGet, r.Method)
	require.NotContains(t, r.Header, "Content-Length")
	require.Empty(t, r.TransferEncoding)
	require.NotContains(t, r.Header, "Content-Type")
}

func TestKtor25PostHasTheLengthOfItsBody(t *testing.T) {
	t.Parallel()
	r := ktorRequest(t, client.WithBody("text/plain", strings.NewReader("hello")))
	require.Equal(t, http.MethodPost, r.Method)
	require.Equal(t, []string{"5"}, r.Header["Content-Length"])
	require.Empty(t, r.TransferEncoding)
}

// Ktor refuses types of body that it cannot write. In Go every io.Reader is allowed, but
// reading from it can fail.
func TestKtor26BodyThatCannotBeSent(t *testing.T) {
	t.Parallel()
	srv := serve(t, ktorEcho)
	failed := errors.New("disk on fire")
	var retries atomic.Int64
	cfg := client.Config{MaxReconnectionAttempts: 5, OnRetry: func(client.Failure) { retries.Add(1) }}
	_, err := install(srv.Client(), cfg).Session(ktorContext(t), srv.URL,
		client.WithBody("text/plain", io.MultiReader(strings.NewReader("hel"), ktorFailing{failed})))
	require.ErrorAs(t, err, new(*client.Error))
	require.ErrorIs(t, err, failed)
	require.Zero(t, retries.Load(), "a POST was sent again without Resend")

	// With Resend there is nothing left of the body to send.
	cfg.Resend = client.ResendAlways
	_, err = install(srv.Client(), cfg).Session(ktorContext(t), srv.URL,
		client.WithBody("text/plain", io.MultiReader(strings.NewReader("hel"), ktorFailing{failed})))
	require.ErrorAs(t, err, new(*client.Error))
	require.ErrorContains(t, err, "the body cannot be sent again")
	require.EqualValues(t, 1, retries.Load())
}

// ktorFailing is a reader whose Read fails with err.
type ktorFailing struct{ err error }

func (f ktorFailing) Read([]byte) (int, error) { return 0, f.err }

func TestKtor27ContentTypeMayHaveACharset(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"text/event-stream; charset=UTF-8", "text/event-stream;charset=utf-8", "Text/Event-Stream"} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", value)
				w.Header().Set("X-Answer", "42")
				io.WriteString(w, "data: hello\n\n")
			})
			s := session(t, install(srv.Client(), client.Config{}), srv.URL)
			require.Equal(t, http.StatusOK, s.Call().StatusCode)
			require.Equal(t, value, s.Call().Header.Get("Content-Type"))
			require.Equal(t, "42", s.Call().Header.Get("X-Answer"))
			events, err := collect(s)
			require.NoError(t, err)
			require.Equal(t, []string{"hello"}, dataOf(events))
		})
	}
}

func TestKtor28WholeRequestTimeoutDoesNotCutAStream(t *testing.T) {
	t.Parallel()
	const timeout = 10 * time.Millisecond
	t.Run("nor does OpenTimeout, which it sets", func(t *testing.T) {
		t.Parallel()
		const timeout = 300 * time.Millisecond
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			send(w, "")
			time.Sleep(2 * timeout)
			send(w, "data: late\n\n")
		})
		hc := srv.Client()
		hc.Timeout = timeout
		opened := 0
		s := session(t, install(hc, client.Config{
			MaxReconnectionAttempts: client.Unlimited, // in case the header is late
			OnOpen:                  func(*http.Response) { opened++ },
		}), srv.URL)
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			require.Equal(t, "late", ev.Data)
			break
		}
		require.Equal(t, 1, opened)
	})
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			for i := range 5 {
				time.Sleep(2 * timeout)
				send(w, "data: %d\n\n", i)
			}
		})
		hc := srv.Client()
		hc.Timeout = timeout
		// No OpenTimeout, so that a late header does not matter.
		s := session(t, install(hc, client.Config{OpenTimeout: -1}), srv.URL)
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, dataOf(events))
	})
	t.Run("until the head it holds", func(t *testing.T) {
		t.Parallel()
		srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		hc := srv.Client()
		hc.Timeout = timeout
		_, err := install(hc, client.Config{}).Session(ktorContext(t), srv.URL)
		var timedOut *client.TimeoutError
		require.ErrorAs(t, err, &timedOut)
		require.Equal(t, client.TimeoutError{Option: "OpenTimeout", Limit: timeout}, *timedOut)
	})
}

func TestKtor29TokenIsRefreshedAfter401(t *testing.T) {
	t.Parallel()
	guarded := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer valid" {
			w.Header().Set("Www-Authenticate", `Bearer realm="events"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		send(w, "data: hello\n\n")
	}
	t.Run("by a RoundTripper", func(t *testing.T) {
		t.Parallel()
		srv := serve(t, guarded)
		hc := srv.Client()
		hc.Transport = &ktorAuth{base: hc.Transport, token: "expired"}
		s := session(t, install(hc, client.Config{}), srv.URL)
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []string{"hello"}, dataOf(events))
	})
	t.Run("by OnRequest", func(t *testing.T) {
		t.Parallel()
		srv := serve(t, guarded)
		tokens := []string{"expired", "valid"}
		s := session(t, install(srv.Client(), client.Config{
			MaxReconnectionAttempts: 1,
			OnFailure:               retryOn(func(status int) bool { return status == http.StatusUnauthorized }),
			OnRequest: func(r *http.Request) error {
				assert.Empty(t, r.Header["Authorization"], "the header of an earlier attempt is still set")
				r.Header.Set("Authorization", "Bearer "+tokens[0])
				tokens = tokens[1:]
				return nil
			},
		}), srv.URL)
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			require.Equal(t, "hello", ev.Data)
			break
		}
		require.Empty(t, tokens)
	})
}

// ktorAuth is a RoundTripper that refreshes its token after a 401.
type ktorAuth struct {
	base  http.RoundTripper
	token string
}

func (a *ktorAuth) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		again := r.Clone(r.Context())
		again.Header.Set("Authorization", "Bearer "+a.token)
		resp, err := a.base.RoundTrip(again)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || a.token == "valid" {
			return resp, err
		}
		resp.Body.Close()
		a.token = "valid"
	}
}

func TestKtor30LoggingOfBodiesDoesNotSwallowTheStream(t *testing.T) {
	t.Parallel()
	t.Run("as they are read", func(t *testing.T) {
		t.Parallel()
		srv, next := ktorOnDemand(t)
		hc := srv.Client()
		var dumped bytes.Buffer
		hc.Transport = ktorDump{hc.Transport, &dumped, func(resp *http.Response) error {
			head, err := httputil.DumpResponse(resp, false)
			dumped.Write(head)
			resp.Body = ktorTee{io.TeeReader(resp.Body, &dumped), resp.Body}
			return err
		}}
		s := session(t, install(hc, client.Config{}), srv.URL, client.WithBody("text/plain", strings.NewReader("question")))
		ktorFollow(t, s, next)
		require.Contains(t, dumped.String(), "question")
		require.Contains(t, dumped.String(), "Content-Type: text/event-stream")
		require.Contains(t, dumped.String(), "data: 2\n\n")
	})
	t.Run("as a whole", func(t *testing.T) {
		t.Parallel()
		srv := serve(t, streamOf("data: 0\n\ndata: 1\n\n"))
		hc := srv.Client()
		var dumped bytes.Buffer
		hc.Transport = ktorDump{hc.Transport, &dumped, func(resp *http.Response) error {
			text, err := httputil.DumpResponse(resp, true)
			dumped.Write(text)
			return err
		}}
		events, err := collect(session(t, install(hc, client.Config{}), srv.URL))
		require.NoError(t, err)
		require.Equal(t, []string{"0", "1"}, dataOf(events))
		require.Contains(t, dumped.String(), "data: 1\n\n")
	})
}

// ktorDump is a RoundTripper that logs requests with their bodies, and calls dump with each
// response.
type ktorDump struct {
	base http.RoundTripper
	log  *bytes.Buffer
	dump func(*http.Response) error
}

func (d ktorDump) RoundTrip(r *http.Request) (*http.Response, error) {
	text, err := httputil.DumpRequestOut(r, true)
	if err != nil {
		return nil, err
	}
	d.log.Write(text)
	resp, err := d.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return resp, d.dump(resp)
}

type ktorTee struct {
	io.Reader
	io.Closer
}

func TestKtor31LoggerDoesNotReadTheStream(t *testing.T) {
	t.Parallel()
	srv, next := ktorOnDemand(t)
	var logged bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := session(t, install(srv.Client(), client.Config{Logger: logger}), srv.URL)
	require.Contains(t, logged.String(), "sse client connected", "the connection is not logged before the first event")
	ktorFollow(t, s, next)
	require.NotContains(t, logged.String(), "data:")
}

func TestKtor32EventsComeAsSoonAsTheyAreFlushed(t *testing.T) {
	t.Parallel()
	wanted := make(chan bool, 1)
	overEach(t, ktorDemanded(wanted), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		s := session(t, install(srv.Client(), client.Config{}), srv.URL)
		ktorFollow(t, s, func() { wanted <- true })
	})
}

func TestKtorRequestHeader(t *testing.T) {
	t.Parallel()
	r := ktorRequest(t)
	require.Equal(t, []string{"text/event-stream"}, r.Header["Accept"])
	require.Equal(t, []string{"no-cache"}, r.Header["Cache-Control"])
	require.NotContains(t, r.Header, "Last-Event-Id")
}

func TestKtorIssue6735ContentTypeIsSentOnce(t *testing.T) {
	t.Parallel()
	body := func() client.Option { return client.WithBody("text/plain", strings.NewReader("{}")) }
	own := client.WithHeader("content-type", "application/json")
	require.Equal(t, []string{"text/plain"}, ktorRequest(t, body()).Header["Content-Type"])
	require.Len(t, ktorRequest(t, own, body()).Header["Content-Type"], 1)
	require.Len(t, ktorRequest(t, body(), own).Header["Content-Type"], 1)
}

func TestKtorIssue6327CompressedStream(t *testing.T) {
	t.Parallel()
	wanted := make(chan bool, 1)
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !assert.Equal(t, "gzip", r.Header.Get("Accept-Encoding")) {
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		ktorDemanded(wanted)(ktorGzip{w, z}, r)
		z.Close()
	})
	s := session(t, install(srv.Client(), client.Config{AcceptGzip: true}), srv.URL)
	ktorFollow(t, s, func() { wanted <- true })
}

// ktorGzip is a ResponseWriter that compresses what is written to it.
type ktorGzip struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (g ktorGzip) Write(p []byte) (int, error) { return g.z.Write(p) }

func (g ktorGzip) FlushError() error {
	return errors.Join(g.z.Flush(), http.NewResponseController(g.ResponseWriter).Flush())
}
