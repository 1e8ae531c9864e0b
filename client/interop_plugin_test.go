// The client with a server of this module's plugin.

package client_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// interopPlugin returns a server of this module's plugin. It counts to a hundred, from the
// id that the client resumes after.
func interopPlugin(t *testing.T, pause <-chan struct{}) (*sse.Router, *httptest.Server) {
	t.Helper()
	r := sse.Install(chi.NewRouter(), sse.Config{Retry: 10 * time.Millisecond, ShutdownSpread: 20 * time.Millisecond})
	r.SSE("/count", func(s *sse.ServerSession) error {
		from := 0
		if id := s.LastEventID(); id != "" {
			n, err := strconv.Atoi(id)
			if err != nil {
				return sse.Error(http.StatusBadRequest, err)
			}
			from = n
		}
		for i := from + 1; i <= 100; i++ {
			if err := s.Send(sse.Event{ID: strconv.Itoa(i), Name: "tick", Data: strconv.Itoa(i) + "\nof 100"}); err != nil {
				return err
			}
			if i == 50 && from < 50 {
				select {
				case <-s.Done():
					return nil
				case <-pause:
				}
			}
		}
		return s.Send(sse.Event{Name: "end"})
	})
	return r, testkit.Serve(t, r)
}

// When a server of the plugin shuts down, the client goes on with the instance that
// replaces it, and misses no event.
func TestClientFollowsThePluginOverAShutdown(t *testing.T) {
	old, oldServer := interopPlugin(t, nil)
	_, newServer := interopPlugin(t, nil)
	var at atomic.Pointer[string]
	at.Store(&oldServer.URL)
	var retries []client.Failure
	c := install(http.DefaultClient, client.Config{
		MaxReconnectionAttempts: 5,
		ShowRetryEvents:         true,
		Terminal:                func(ev client.Event) bool { return ev.Name == "end" },
		OnRequest: func(r *http.Request) error {
			r.URL.Host = strings.TrimPrefix(*at.Load(), "http://")
			return nil
		},
		OnRetry: func(r client.Failure) { retries = append(retries, r) },
	})
	var ids []string
	var told []time.Duration
	s := session(t, c, oldServer.URL+"/count")
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		if ev.Retry != 0 {
			told = append(told, ev.Retry)
		}
		if ev.Name != "tick" {
			continue
		}
		ids = append(ids, ev.ID)
		require.Equal(t, ev.ID+"\nof 100", ev.Data)
		if len(ids) == 50 {
			at.Store(&newServer.URL)
			require.NoError(t, old.Plugin().Shutdown(context.Background()))
		}
	}
	var want []string
	for i := range 100 {
		want = append(want, strconv.Itoa(i+1))
	}
	require.Equal(t, want, ids)
	require.Len(t, retries, 1)
	require.Equal(t, io.EOF, retries[0].Err, "the stream did not end in order")
	require.GreaterOrEqual(t, len(told), 2)
	require.GreaterOrEqual(t, retries[0].Delay, client.DefaultMinRetry)
}

// While the plugin shuts down, it answers clients that are not browsers with 503 and
// Retry-After. The client waits for that time.
func TestClientWaitsAsAServerThatShutsDownAsks(t *testing.T) {
	r, srv := interopPlugin(t, nil)
	require.NoError(t, r.Plugin().Shutdown(context.Background()))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var retry client.Failure
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 5, OnRetry: func(r client.Failure) {
		retry = r
		cancel()
	}})
	_, err := c.Session(ctx, srv.URL+"/count")
	require.ErrorIs(t, err, context.Canceled)
	var status *client.StatusError
	require.ErrorAs(t, retry.Err, &status)
	require.Equal(t, http.StatusServiceUnavailable, status.Status)
	require.GreaterOrEqual(t, status.RetryAfter, time.Second)
	require.GreaterOrEqual(t, retry.Delay, status.RetryAfter)
}

// The error of a session that does not open holds the plugin's answer.
func TestClientShowsThePluginsRefusal(t *testing.T) {
	_, srv := interopPlugin(t, nil)
	_, err := install(srv.Client(), client.Config{}).Session(t.Context(), srv.URL+"/count", client.WithLastEventID("x"))
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.EqualError(t, err, "client: expected status 200 but was 400")
	require.Contains(t, string(e.Body), "invalid syntax")
}
