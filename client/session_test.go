// A session that is read more than once, and what SSE returns.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

func TestIncomingTwice(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/end":
			send(w, "data: 1\n\ndata: 2\n\n")
		case "/cut":
			send(w, "data: 1\n\ndata: 2\n\n")
			panic(http.ErrAbortHandler)
		}
	})
	c := install(srv.Client(), client.Config{})
	again := func(t *testing.T, s *client.Session) error {
		t.Helper()
		var errs []error
		for range 3 {
			events, err := collect(s)
			require.Empty(t, events)
			errs = append(errs, err)
		}
		require.Equal(t, errs[0], errs[1])
		require.Equal(t, errs[0], errs[2])
		return errs[0]
	}
	t.Run("after the end", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		events, err := collect(s)
		require.NoError(t, err)
		require.Len(t, events, 2)
		require.NoError(t, again(t, s))
		s.Close()
		require.NoError(t, again(t, s), "the session ended before it was closed")
	})
	t.Run("after 204", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/204")
		require.NoError(t, again(t, s))
	})
	t.Run("after the terminal event", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end", client.WithConfig(func(cfg *client.Config) {
			cfg.Terminal = func(ev client.Event) bool { return ev.Data == "1" }
		}))
		events, err := collect(s)
		require.NoError(t, err)
		require.Len(t, events, 1)
		require.NoError(t, again(t, s))
	})
	t.Run("after an error", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/cut")
		events, err := collect(s)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Len(t, events, 2)
		require.Same(t, err, again(t, s))
		s.Close()
		require.Same(t, err, again(t, s))
	})
	t.Run("after a break", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		for _, err := range s.Incoming() {
			require.NoError(t, err)
			break
		}
		require.Equal(t, client.ErrClosed, again(t, s))
	})
	t.Run("after a panic", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		require.Panics(t, func() {
			for range s.Incoming() { //nolint:errcheck // any error will do
				panic(errCloseWhy)
			}
		})
		require.Equal(t, client.ErrClosed, again(t, s))
	})
	t.Run("after Close", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		require.Equal(t, client.ErrClosed, again(t, s))
	})
	t.Run("while it runs", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		var events []client.Event
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			events = append(events, ev)
			require.ErrorContains(t, again(t, s), "already running")
		}
		require.Equal(t, []string{"1", "2"}, dataOf(events), "the second loop took an event from the first")
		require.NoError(t, again(t, s))
	})
	t.Run("an iterator that is used twice", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		incoming := s.Incoming()
		n := 0
		for range 2 {
			for _, err := range incoming {
				require.NoError(t, err)
				n++
			}
		}
		require.Equal(t, 2, n)
	})
}

func TestWhatSSEReturns(t *testing.T) {
	t.Parallel()
	type block = func(s *client.Session, cancel context.CancelFunc) error
	read := func(s *client.Session) error { _, err := collect(s); return err }
	for name, tt := range map[string]struct {
		block block
		is    []error
		own   bool // whether SSE wraps the error in an *Error
	}{
		"nothing after nothing": {func(*client.Session, context.CancelFunc) error { return nil }, nil, false},
		"nothing after cancel, if the block says so": {func(s *client.Session, cancel context.CancelFunc) error {
			cancel()
			_ = read(s)
			return nil
		}, nil, false},
		"what Incoming says after cancel": {func(s *client.Session, cancel context.CancelFunc) error {
			cancel()
			return read(s)
		}, []error{context.Canceled}, false},
		"what Incoming says, wrapped": {func(s *client.Session, cancel context.CancelFunc) error {
			cancel()
			return fmt.Errorf("my words: %w", read(s))
		}, []error{context.Canceled}, false},
		"the context's error": {func(_ *client.Session, cancel context.CancelFunc) error {
			cancel()
			return context.Canceled
		}, []error{context.Canceled}, false},
		"another's cancellation": {func(*client.Session, context.CancelFunc) error { return context.Canceled }, []error{context.Canceled}, true},
		"an error of its own, after cancel": {func(_ *client.Session, cancel context.CancelFunc) error {
			cancel()
			return errCloseWhy
		}, []error{errCloseWhy}, true},
		"an error of its own": {func(*client.Session, context.CancelFunc) error { return errCloseWhy }, []error{errCloseWhy}, true},
		"ErrClosed": {func(s *client.Session, _ context.CancelFunc) error {
			s.Close()
			return read(s)
		}, []error{client.ErrClosed}, false},
		"an error of its own, after Close": {func(s *client.Session, _ context.CancelFunc) error {
			s.Close()
			return errCloseWhy
		}, []error{errCloseWhy}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				send(w, "data: x\n\n")
				<-r.Context().Done()
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := install(srv.Client(), client.Config{}).SSE(ctx, srv.URL, func(s *client.Session) error { return tt.block(s, cancel) })
			if tt.is == nil {
				require.NoError(t, err)
			}
			for _, target := range tt.is {
				require.ErrorIs(t, err, target)
			}
			own, ok := errors.AsType[*client.Error](err)
			require.Equal(t, tt.own, ok, "%v", err)
			if ok {
				require.Equal(t, http.StatusOK, own.Response.StatusCode)
			}
		})
	}
}

func TestSSEReturnsAnErrorOfTheSessionAsItIs(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		send(w, "data: x\n\n")
		panic(http.ErrAbortHandler)
	})
	c := install(srv.Client(), client.Config{})
	for name, word := range map[string]func(error) error{
		"bare":    func(err error) error { return err },
		"wrapped": func(err error) error { return fmt.Errorf("my words: %w", err) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var own, said error
			err := c.SSE(t.Context(), srv.URL, func(s *client.Session) error {
				_, own = collect(s)
				said = word(own)
				return said
			})
			require.ErrorIs(t, own, io.ErrUnexpectedEOF)
			require.Same(t, said, err)
		})
	}
}
