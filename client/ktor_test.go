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
)

// ktorOnDemand serves a stream that sends the next of its three events when next is
// called, so that they must come one by one.
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

// ktorFollow reads the events of ktorOnDemand.
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

// ktorError returns err as the *client.Error it must be.
func ktorError(t *testing.T, err error) *client.Error {
	t.Helper()
	var e *client.Error
	require.ErrorAs(t, err, &e)
	return e
}

// ktorOwnError is an error of the user's block.
type ktorOwnError struct{ text string }

func (e *ktorOwnError) Error() string { return e.text }

// ktorBody returns the body of e, which is there twice.
func ktorBody(t *testing.T, e *client.Error) string {
	t.Helper()
	body, err := io.ReadAll(e.Response.Body)
	require.NoError(t, err)
	require.NoError(t, e.Response.Body.Close())
	require.Equal(t, string(e.Body), string(body))
	return string(body)
}

// The buffer of what was read.

const ktorBuffered = "event: a\ndata: 1\n\n: note\ndata: 2\n\ndata: 3\n\ndata: 4\n\n"

// ktorStopped returns the error of a call whose block fails after so many events.
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

// ktorContext is done before a test hangs.
func ktorContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}
