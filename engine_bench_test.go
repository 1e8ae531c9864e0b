package sse_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// BenchmarkTryWrite writes a hub's frames to a session, through net/http and detached. The
// client reads as fast as it can.
func BenchmarkTryWrite(b *testing.B) {
	ev := sse.Event{ID: "1000", Name: "price", Data: strings.Repeat("x", 100-len("event: price\ndata: \nid: 1000\n\n"))}
	frame, err := ev.MarshalText()
	require.NoError(b, err)
	var f engine.Frames
	f.Reset(1 << 10)
	f.Append(frame)
	write := func(s engine.Session) error {
		pending, err := s.TryWrite(&f)
		if err == nil && pending {
			err = s.Finish()
		}
		return err
	}
	b.Run("net-http", func(b *testing.B) {
		r := sse.Install(chi.NewRouter(), sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			return measureSends(b, len(frame), func() error { return write(engine.Of(s)) })
		})
		drain(b, r)
	})
	b.Run("detached", func(b *testing.B) {
		r := sse.Install(chi.NewRouter(), sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			hub := engine.Of(s)
			hub.WillDetach()
			if err := s.Open(); err != nil || !hub.Detach() {
				b.Error("not detached", err)
				return err
			}
			go func() {
				defer s.Close()
				_ = measureSends(b, len(frame), func() error { return write(hub) })
			}()
			return nil
		})
		drain(b, r)
	})
}

// BenchmarkOpen runs a session that opens and ends, without a connection.
func BenchmarkOpen(b *testing.B) {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error { return s.Open() })
	req := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	b.ReportAllocs()
	for b.Loop() {
		r.ServeHTTP(discardWithDeadlines{discard{make(http.Header)}}, req)
	}
}

type discardWithDeadlines struct{ discard }

func (discardWithDeadlines) SetReadDeadline(time.Time) error  { return nil }
func (discardWithDeadlines) SetWriteDeadline(time.Time) error { return nil }
