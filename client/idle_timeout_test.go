// IdleTimeout, over connections and with Read.

package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	const s = time.Second
	silent := func(text string) reconnectStep {
		return func(w http.ResponseWriter, r *http.Request) {
			send(w, "%s", text)
			<-r.Context().Done()
		}
	}
	t.Run("any byte counts", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
				for _, b := range []byte(": a comment\n\n\ndata: x\n: and more of it\n\n") {
					time.Sleep(10*s - 1)
					send(w, "%c", b)
				}
				time.Sleep(10*s - 1)
			}})
			events, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s})
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, dataOf(events))
		})
	})
	t.Run("is a failure", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{silent("data: 1\n\n"), silent(""), silent("data: 2\n"), reconnectText("data: 3\n\n")})
			events, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s, MaxReconnectionAttempts: client.Unlimited})
			require.NoError(t, err)
			require.Equal(t, []string{"1", "3"}, dataOf(events))
			require.Equal(t, []time.Duration{3 * s, 3 * s, 3 * s, 3 * s}, l.waits(), "each connection outlived its wait")
			require.Equal(t, []time.Duration{0, 13 * s, 26 * s, 39 * s, 42 * s}, l.times)
			for _, r := range l.retries[:3] {
				var timeout *client.TimeoutError
				require.ErrorAs(t, r.Err, &timeout)
				require.Equal(t, client.TimeoutError{Option: "IdleTimeout", Limit: 10 * s}, *timeout)
			}
		})
	})
	t.Run("is the error when the attempts are used up", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{silent("data: 1\n\n"), silent(""), silent("data: 2\n\n")})
			_, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s, MaxReconnectionAttempts: 1})
			var end *client.Error
			require.ErrorAs(t, err, &end)
			require.Equal(t, 200, end.Response.StatusCode)
			var timeout *client.TimeoutError
			require.ErrorAs(t, err, &timeout)
			require.Equal(t, client.TimeoutError{Option: "IdleTimeout", Limit: 10 * s}, *timeout)
			var netErr net.Error
			require.ErrorAs(t, err, &netErr)
			require.True(t, netErr.Timeout())
			require.NotErrorIs(t, err, context.Canceled)
			require.EqualError(t, err, "client: gave up after 1 attempt to reconnect (MaxReconnectionAttempts): nothing received for 10s (IdleTimeout)")
			require.Equal(t, 2, l.requests())
		})
	})
	t.Run("does not count the caller's time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
				for i := range 10 {
					send(w, "data: %d\n\n", i)
					time.Sleep(s)
				}
			}})
			session, err := client.Install(l.http, l.config(client.Config{IdleTimeout: 10 * s})).Session(t.Context(), "http://lab/")
			require.NoError(t, err)
			defer session.Close()
			time.Sleep(time.Minute)
			n := 0
			for ev, err := range session.Incoming() {
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(n), ev.Data)
				n++
				time.Sleep(time.Minute)
			}
			require.Equal(t, 10, n)
		})
	})
	t.Run("is not for the head", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(20 * s)
				send(w, "data: x\n\n")
			}})
			events, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s})
			require.NoError(t, err)
			require.Len(t, events, 1)
		})
	})
	t.Run("is none by default", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{reconnectAged(reconnectYear, reconnectText("data: x\n\n"))})
			events, err := l.run(t.Context(), client.Config{})
			require.NoError(t, err)
			require.Len(t, events, 1)
		})
	})
	t.Run("can be the call's", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLab(t, reconnectSteps{silent("")})
			_, err := l.run(t.Context(), client.Config{IdleTimeout: time.Hour}, client.WithConfig(func(cfg *client.Config) { cfg.IdleTimeout = s }))
			var timeout *client.TimeoutError
			require.ErrorAs(t, err, &timeout)
			require.Equal(t, s, timeout.Limit)
			require.Equal(t, s, time.Since(l.start))
		})
	})
	t.Run("frees the connection", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			gone := time.Duration(0)
			l := newReconnectLab(t, reconnectSteps{nil})
			l.steps[0] = func(w http.ResponseWriter, r *http.Request) {
				silent("data: 1\n\n")(w, r)
				gone = time.Since(l.start)
			}
			_, err := l.run(t.Context(), client.Config{IdleTimeout: 10 * s})
			require.Error(t, err)
			synctest.Wait()
			require.Equal(t, 10*s, gone)
		})
	})
}

func TestIdleTimeoutOfRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 10 * time.Second
		body, server := io.Pipe()
		go func() {
			for _, b := range []byte(": a comment\ndata: x\n\n") {
				time.Sleep(limit - 1)
				_, _ = server.Write([]byte{b})
			}
		}()
		s := client.Read(context.Background(), body, client.WithConfig(func(cfg *client.Config) { cfg.IdleTimeout = limit }))
		var seen []string
		var errs []error
		var last time.Time
		for ev, err := range s.Incoming() {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			seen = append(seen, ev.Data)
			time.Sleep(time.Hour)
			last = time.Now()
		}
		require.Equal(t, []string{"x"}, seen)
		require.Equal(t, limit, time.Since(last))
		require.Len(t, errs, 1)
		var end *client.Error
		require.ErrorAs(t, errs[0], &end)
		require.Nil(t, end.Response)
		var timeout *client.TimeoutError
		require.ErrorAs(t, errs[0], &timeout)
		require.Equal(t, client.TimeoutError{Option: "IdleTimeout", Limit: limit}, *timeout)
		_, err := server.Write([]byte("x"))
		require.ErrorIs(t, err, io.ErrClosedPipe, "the body is not closed")
	})
}
