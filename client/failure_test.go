// Failures: what OnFailure is told of each kind, and what each of its decisions leads to.

package client_test

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

// failureAnswer answers a request in a way that is a failure.
type failureAnswer func(*http.Request) (*http.Response, error)

// failureKind is one row of the table of failures.
type failureKind struct {
	name   string
	answer failureAnswer
	cfg    func(*client.Config)

	is     func(error) bool // checks Failure.Err
	status int              // of Failure.Response; 0 if there is none
	body   string
	events int
	again  bool          // DefaultDecision retries
	ends   bool          // the server ended the stream in order
	delay  time.Duration // of the first attempt; 0: the reconnection time
	after  time.Duration // how long the connection lasted
	unsent bool          // the failure comes before a request
}

const failureWait = 3 * time.Second // the reconnection time

// failureBody is a body that ends with err after text, or waits until ctx is done if err
// is nil.
type failureBody struct {
	ctx  context.Context
	text string
	err  error
}

func (b *failureBody) Read(p []byte) (int, error) {
	if n := copy(p, b.text); n > 0 {
		b.text = b.text[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (b *failureBody) Close() error { return nil }

// failureOf answers with a response. header has names and values.
func failureOf(status int, body string, end error, header ...string) failureAnswer {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Status: fmt.Sprint(status), Header: testkit.Header(header...), ContentLength: -1,
			Body: &failureBody{r.Context(), body, end}, Request: r, ProtoMajor: 1, ProtoMinor: 1,
		}, nil
	}
}

func failureStream(text string, end error) failureAnswer {
	return failureOf(200, text, end, "Content-Type", "text/event-stream")
}

func failureError(err error) failureAnswer {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// isA returns a check that an error is an E for which all of the conditions hold.
func isA[E error](conditions ...func(E) bool) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[E](err)
		for _, condition := range conditions {
			ok = ok && condition(e)
		}
		return ok
	}
}

var (
	errFailureReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	errFailureDial  = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	errFailureHook  = errors.New("no token")
)

// failureKinds lists every kind of failure.
func failureKinds() []failureKind {
	hidden := func(err error) func(error) bool { return func(got error) bool { return errors.Is(got, err) } }
	timeout := func(option string) func(error) bool {
		return isA(func(e *client.TimeoutError) bool { return e.Option == option })
	}
	content := func(header, value string) func(error) bool {
		return isA(func(e *client.ContentError) bool { return e.Header == header && e.Value == value })
	}
	kinds := []failureKind{
		{name: "dial refused", answer: failureError(errFailureDial), is: hidden(syscall.ECONNREFUSED), again: true},
		{name: "unknown host", answer: failureError(&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}), is: isA[*net.DNSError](), again: true},
		{name: "TLS failure", answer: failureError(x509.UnknownAuthorityError{}), is: isA[x509.UnknownAuthorityError](), again: true},
		{name: "reset before the head", answer: failureError(errFailureReset), is: hidden(syscall.ECONNRESET), again: true},
		{name: "closed before the head", answer: failureError(io.EOF), is: isA[*url.Error](), again: true},
		{
			name: "OpenTimeout", is: timeout("OpenTimeout"), again: true, after: 5 * time.Second,
			answer: func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
		},
		{name: "another type", answer: failureOf(200, "{}", io.EOF, "Content-Type", "application/json"), is: content("Content-Type", "application/json"), status: 200, body: "{}"},
		{name: "html", answer: failureOf(200, "<p>", io.EOF, "Content-Type", "text/html; charset=utf-8"), is: content("Content-Type", "text/html; charset=utf-8"), status: 200, body: "<p>"},
		{name: "no type", answer: failureOf(200, "data: x\n\n", io.EOF), is: content("Content-Type", ""), status: 200, body: "data: x\n\n"},
		{
			name: "Content-Encoding", answer: failureOf(200, "?", io.EOF, "Content-Type", "text/event-stream", "Content-Encoding", "br"),
			is: content("Content-Encoding", "br"), status: 200, body: "?",
		},
		{
			name: "redirect refused", answer: failureOf(302, "", io.EOF, "Location", "ftp://lab/"), status: 302,
			is: func(err error) bool { return strings.Contains(err.Error(), "redirected to a URL that") },
		},
		{
			name: "CheckResponse's own", answer: failureStream("data: x\n\n", io.EOF), status: 200, body: "data: x\n\n", is: hidden(errFailureHook),
			cfg: func(c *client.Config) { c.CheckResponse = func(*http.Response) error { return errFailureHook } },
		},
		{
			name: "OnRequest", answer: failureStream("", io.EOF), is: hidden(errFailureHook), unsent: true,
			cfg: func(c *client.Config) { c.OnRequest = func(*http.Request) error { return errFailureHook } },
		},
		{
			name: "OnRequest with io.EOF", answer: failureStream("", io.EOF), unsent: true,
			is:  func(err error) bool { return err != io.EOF && errors.Is(err, io.EOF) },
			cfg: func(c *client.Config) { c.OnRequest = func(*http.Request) error { return io.EOF } },
		},
		{name: "orderly end", answer: failureStream("data: a\n\ndata: b\n\n", io.EOF), ends: true, status: 200, events: 2, again: true},
		{name: "orderly end without events", answer: failureStream(": x\n\n", io.EOF), ends: true, status: 200, again: true},
		{name: "no event stream", answer: failureStream(`{"error":"quota"}`, io.EOF), ends: true, status: 200, body: `{"error":"quota"}`, again: true},
		{name: "orderly end within an event", answer: failureStream("data: a\n\nid: 5\ndata: b\n", io.EOF), ends: true, status: 200, body: "id: 5\ndata: b\n", events: 1, again: true},
		{name: "broken", answer: failureStream("data: a\n\nda", errFailureReset), is: hidden(syscall.ECONNRESET), status: 200, body: "da", events: 1, again: true},
		{name: "broken without events", answer: failureStream("", io.ErrUnexpectedEOF), is: hidden(io.ErrUnexpectedEOF), status: 200, again: true},
		{name: "idle", answer: failureStream("data: a\n\nda", nil), is: timeout("IdleTimeout"), status: 200, body: "da", events: 1, again: true, after: 7 * time.Second},
		{
			name: "no event", answer: failureStream("data: a\n\n: x\n\n", nil), is: timeout("EventTimeout"), status: 200, events: 1, again: true, after: 6 * time.Second,
			cfg: func(c *client.Config) { c.EventTimeout = 6 * time.Second },
		},
		{
			name: "too large", answer: failureStream("data: a\n\ndata: "+strings.Repeat("x", 200), io.EOF), is: isA[*event.TooLargeError](), status: 200, events: 1,
			body: "data: " + strings.Repeat("x", 200), cfg: func(c *client.Config) { c.MaxEventSize = 100 },
		},
		{
			name: "Retry-After", answer: failureOf(503, "", io.EOF, "Retry-After", "20"), status: 503, again: true, delay: 20 * time.Second,
			is: isA(func(e *client.StatusError) bool { return e.RetryAfter == 20*time.Second }),
		},
		{
			name: "retry-after-ms", answer: failureOf(429, "slow", io.EOF, "retry-after-ms", "4500.5", "Retry-After", "20"), status: 429, body: "slow", again: true, delay: 4500500 * time.Microsecond,
			is: isA(func(e *client.StatusError) bool { return e.RetryAfter == 4500500*time.Microsecond }),
		},
		{name: "x-should-retry: true", answer: failureOf(409, "", io.EOF, "x-should-retry", "true"), status: 409, is: isA[*client.StatusError](), again: true},
		{name: "x-should-retry: TRUE", answer: failureOf(404, "", io.EOF, "x-should-retry", "TRUE"), status: 404, is: isA[*client.StatusError](), again: true},
		{name: "x-should-retry: false", answer: failureOf(503, "", io.EOF, "x-should-retry", "false"), status: 503, is: isA[*client.StatusError]()},
		{name: "x-should-retry: maybe", answer: failureOf(503, "", io.EOF, "x-should-retry", "maybe"), status: 503, is: isA[*client.StatusError](), again: true},
	}
	for _, status := range []int{
		201, 202, 203, 205, 206, 300, 304, 400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 418, 421, 422, 426, 431, 451, 499, 501, 505, 507, 511, 525, 526, 530, 599,
		408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529,
	} {
		again := slices.Contains([]int{408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}, status)
		kinds = append(kinds, failureKind{
			name: fmt.Sprint(status), answer: failureOf(status, "no", io.EOF), status: status, body: "no", again: again,
			is: isA(func(e *client.StatusError) bool { return e.Status == status && e.RetryAfter == 0 }),
		})
	}
	for i := range kinds {
		if kinds[i].ends {
			kinds[i].is = func(err error) bool { return err == io.EOF }
		}
	}
	return kinds
}

// failureRun is what happened in a session, in which every answer is the same failure.
type failureRun struct {
	failures []client.Failure
	bodies   []string // of each Failure.Response; "none" if there is none
	retries  int      // calls of OnRetry
	requests int
	events   int
	elapsed  time.Duration
	err      error
}

// run opens a session whose every request has the answer of k.
func (k failureKind) run(t *testing.T, attempts int, decide func(client.Failure) client.Decision) (r failureRun) {
	t.Helper()
	cfg := client.Config{
		MaxReconnectionAttempts: attempts, ReconnectionTime: failureWait, MaxBackoff: failureWait, Jitter: -1,
		OpenTimeout: 5 * time.Second, IdleTimeout: 7 * time.Second,
	}
	if k.cfg != nil {
		k.cfg(&cfg)
	}
	cfg.OnFailure = func(f client.Failure) client.Decision {
		body := "none"
		if f.Response != nil {
			text, err := io.ReadAll(f.Response.Body)
			require.NoError(t, err)
			body = string(text)
		}
		r.failures, r.bodies = append(r.failures, f), append(r.bodies, body)
		return decide(f)
	}
	cfg.OnRetry = func(f client.Failure) {
		r.retries++
		if f.Response != nil {
			text, err := io.ReadAll(f.Response.Body)
			require.NoError(t, err)
			require.Equal(t, string(f.Body), string(text), "OnFailure has used up the body")
		}
	}
	hc := &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		r.requests++
		return k.answer(req)
	})}
	began := time.Now()
	s, err := install(hc, cfg).Session(t.Context(), "http://lab/")
	if err == nil {
		for _, err = range s.Incoming() {
			if err == nil {
				r.events++
			}
		}
	}
	r.elapsed, r.err = time.Since(began), err
	return r
}

// requireEnd asserts what r returned. usedUp reports that the bound on the attempts ended
// the session.
func (k failureKind) requireEnd(t *testing.T, r failureRun, attempts int, usedUp bool) {
	t.Helper()
	if k.ends && !usedUp {
		require.NoError(t, r.err)
		return
	}
	var e *client.Error
	require.ErrorAs(t, r.err, &e)
	require.Equal(t, k.body, string(e.Body))
	if k.status == 0 {
		require.Nil(t, e.Response)
	} else {
		require.Equal(t, k.status, e.Response.StatusCode)
		text, err := io.ReadAll(e.Response.Body)
		require.NoError(t, err)
		require.Equal(t, k.body, string(text))
	}
	used, ok := e.Err.(*client.AttemptsError) //nolint:errorlint // the outermost one
	require.Equal(t, usedUp, ok, "%v", r.err)
	if !ok {
		require.True(t, k.is(e.Err), "%v", e.Err)
		return
	}
	require.Equal(t, attempts, used.Attempts)
	require.True(t, k.is(used.Err), "%v", used.Err)
}

// failureEnough is how many failures a session with unlimited attempts goes through.
const failureEnough = 4

func TestOnFailureSeesAndDecidesEachFailure(t *testing.T) {
	t.Parallel()
	own := errors.New("my own")
	for _, k := range failureKinds() {
		for _, attempts := range []int{0, 1, 2, client.Unlimited} {
			for name, decide := range map[string]func(client.Failure) client.Decision{
				"default":           func(client.Failure) client.Decision { return client.Decision{} },
				"DefaultDecision":   client.DefaultDecision,
				"Retry":             func(client.Failure) client.Decision { return client.Retry() },
				"RetryIn(0)":        func(client.Failure) client.Decision { return client.RetryIn(0) },
				"RetryIn(-1)":       func(client.Failure) client.Decision { return client.RetryIn(-1) },
				"RetryIn(1 minute)": func(client.Failure) client.Decision { return client.RetryIn(time.Minute) },
				"Stop(nil)":         func(client.Failure) client.Decision { return client.Stop(nil) },
				"Stop(err)":         func(client.Failure) client.Decision { return client.Stop(own) },
				"End":               func(client.Failure) client.Decision { return client.End() },
			} {
				t.Run(fmt.Sprintf("%s, %d attempts, %s", k.name, attempts, name), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						k.testDecision(t, attempts, name, decide, own)
					})
				})
			}
		}
	}
}

func (k failureKind) testDecision(t *testing.T, attempts int, name string, decide func(client.Failure) client.Decision, own error) {
	t.Helper()
	// What must happen, without a look at how the client does it.
	retries, wait := false, cmp.Or(k.delay, failureWait)
	switch name {
	case "default", "DefaultDecision":
		retries = k.again
	case "Retry":
		retries = true
	case "RetryIn(0)", "RetryIn(-1)":
		retries, wait = true, 0
	case "RetryIn(1 minute)":
		retries, wait = true, time.Minute
	}
	endless := retries && (attempts == client.Unlimited || attempts > 0 && k.events > 0) // each event sets the attempts back
	n := 1                                                                               // failures
	if endless {
		n = failureEnough
	} else if retries {
		n = attempts + 1
	}

	seen := 0
	r := k.run(t, attempts, func(f client.Failure) client.Decision {
		if seen++; endless && seen == failureEnough || seen > 20 { // 20: a client that is wrong must not hang the test
			return client.Stop(own)
		}
		return decide(f)
	})

	require.Len(t, r.failures, n)
	for i, f := range r.failures {
		require.True(t, k.is(f.Err), "%v", f.Err)
		require.Equal(t, k.body, string(f.Body))
		require.False(t, f.Partial)
		require.Equal(t, k.events, f.Events)
		require.Equal(t, cmp.Or(k.delay, failureWait), f.Delay)
		if k.events > 0 {
			require.Equal(t, 1, f.Attempt)
		} else {
			require.Equal(t, i+1, f.Attempt)
		}
		require.Equal(t, attempts != client.Unlimited && f.Attempt > attempts, f.Final)
		if k.status == 0 {
			require.Nil(t, f.Response)
			require.Equal(t, "none", r.bodies[i])
		} else {
			require.Equal(t, k.status, f.Response.StatusCode)
			require.Equal(t, k.body, r.bodies[i])
		}
	}
	require.Equal(t, n-1, r.retries)
	require.Equal(t, n*k.events, r.events)
	require.Equal(t, time.Duration(n)*k.after+time.Duration(n-1)*wait, r.elapsed)
	if k.unsent {
		require.Zero(t, r.requests)
	} else {
		require.Equal(t, n, r.requests)
	}

	switch {
	case name == "End":
		require.NoError(t, r.err)
	case name == "Stop(err)", endless:
		require.ErrorIs(t, r.err, own)
		require.EqualError(t, r.err, "client: my own")
		var e *client.Error
		require.ErrorAs(t, r.err, &e)
		require.Equal(t, k.body, string(e.Body))
		require.Equal(t, k.status != 0, e.Response != nil)
	default:
		k.requireEnd(t, r, attempts, retries && attempts > 0)
	}
}
