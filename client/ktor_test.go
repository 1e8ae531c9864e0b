// The files ktor_*_test.go test what Ktor's own tests assert about its SSE client. Each test
// has the number of its row in docs/KTOR.md in its name:
//
//	ktor_request_test.go    18 to 32  set-up and requests
//	ktor_failure_test.go    33 to 40  failures
//	ktor_event_test.go      41 to 48  comments and decoding
//	ktor_reconnect_test.go  49 to 54  reconnection
//	ktor_buffer_test.go     55 to 57  the buffer of what was read
//	ktor_close_test.go      58 to 62  cancellation and resources
//	ktor_parser_test.go     63 to 76  the parser
//
// A test without a number is about something that Ktor's code does and that no test of
// Ktor's asserts. A test with Issue in its name is about a fault that Ktor once had
// (KTOR-…). The rows cover other such faults: 24 has no Content-Length on a GET (9588); 22
// the request's body and type (6659, 6911); 30 logging (6912); 19 plain requests (6614);
// 27 the response's header (6660); 34 failures (6808, 6390); 28 whole-request timeouts
// (6312); 59 to 62 leaving (9102, 9096, 8409); 20 lines of data (7391); 32 a streaming read
// (7910).
//
// [W] marks a test in which the specification differs from Ktor. The client follows the
// specification.
//
// This file holds what those files share.

package client_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// ktorOnDemand serves a stream of three events. It sends one each time next is called, so
// the client must read them one by one.
func ktorOnDemand(t *testing.T) (srv *httptest.Server, next func()) {
	t.Helper()
	wanted := make(chan bool, 1)
	srv = serve(t, ktorDemanded(wanted))
	return srv, func() { wanted <- true }
}

func ktorDemanded(wanted <-chan bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		send(w, "")
		for i := range 3 {
			select {
			case <-wanted:
				send(w, "data: %d\n\n", i)
			case <-r.Context().Done():
				return
			}
		}
	}
}

// ktorFollow reads the three events of ktorOnDemand.
func ktorFollow(t *testing.T, s *client.Session, next func()) {
	t.Helper()
	next()
	i := 0
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(i), ev.Data)
		if i++; i < 3 {
			next()
		}
	}
	require.Equal(t, 3, i)
}

// ktorError asserts that err is a *client.Error, and returns it.
func ktorError(t *testing.T, err error) *client.Error {
	t.Helper()
	var e *client.Error
	require.ErrorAs(t, err, &e)
	return e
}

// ktorOwnError is an error of the caller's block.
type ktorOwnError struct{ text string }

func (e *ktorOwnError) Error() string { return e.text }

// ktorBody returns the body of e. It asserts that e.Body and e.Response hold the same.
func ktorBody(t *testing.T, e *client.Error) string {
	t.Helper()
	body, err := io.ReadAll(e.Response.Body)
	require.NoError(t, err)
	require.NoError(t, e.Response.Body.Close())
	require.Equal(t, string(e.Body), string(body))
	return string(body)
}

const ktorBuffered = "event: a\ndata: 1\n\n: note\ndata: 2\n\ndata: 3\n\ndata: 4\n\n"

// ktorStopped returns the error of an SSE whose block fails after the given number of
// events.
func ktorStopped(t *testing.T, c *client.Client, url string, after int, options ...client.Option) *client.Error {
	t.Helper()
	own := &ktorOwnError{"enough"}
	err := c.SSE(ktorContext(t), url, func(s *client.Session) error {
		n := 0
		if after > 0 {
			for _, err := range s.Incoming() {
				require.NoError(t, err)
				if n++; n == after {
					break
				}
			}
		}
		require.Equal(t, after, n)
		return own
	}, options...)
	require.ErrorIs(t, err, own)
	return ktorError(t, err)
}

// ktorContext returns a context with a deadline, so that a failing test does not hang.
func ktorContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*testkit.Patience)
	t.Cleanup(cancel)
	return ctx
}
