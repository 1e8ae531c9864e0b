package sse_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

// countedWrites is a ResponseWriter that keeps what each Write and each flush got.
type countedWrites struct {
	discard
	writes  []string
	flushes int
}

func (w *countedWrites) Write(p []byte) (int, error) {
	w.writes = append(w.writes, string(p))
	return len(p), nil
}

func (w *countedWrites) Flush() { w.flushes++ }

func TestSendAll(t *testing.T) {
	t.Parallel()
	var ends []sse.End
	var sent []sse.Sent
	cfg := sse.Config{
		OnClose: func(_ *sse.ServerSession, e sse.End) { ends = append(ends, e) },
		OnSend:  func(_ *sse.ServerSession, s sse.Sent) { sent = append(sent, s) },
	}
	r := newRouter(cfg)
	large := strings.Repeat("x", 100<<10)
	r.SSE("/", func(s *sse.ServerSession) error {
		testkit.NoError(t, s.SendAll())
		testkit.NoError(t, s.SendAll(sse.Event{Data: "1"}, sse.Event{Name: "n", Data: "2", ID: "2"}))
		testkit.NoError(t, s.SendAll(sse.Event{Data: "a\nb"}, sse.Event{}, sse.Event{ID: "5"}))
		testkit.NoError(t, s.SendAll(sse.Event{Data: large}, sse.Event{Data: "end"}))
		_ = s.Close()
		testkit.ErrorIs(t, s.SendAll(sse.Event{Data: "x"}), sse.ErrClosed)
		return nil
	})
	w := &countedWrites{discard: discard{http.Header{}}}
	r.ServeHTTP(w, newRequest(t, http.MethodGet, "/"))

	require.Equal(t, "data: 1\n\nevent: n\ndata: 2\nid: 2\n\n", w.writes[0])
	require.Equal(t, "data: a\ndata: b\n\ndata: \n\nid: 5\n\n", w.writes[1])
	require.Greater(t, len(w.writes), 3, "a large frame goes out in parts")
	require.Equal(t, "data: "+large+"\n\ndata: end\n\n", strings.Join(w.writes[2:], ""))
	require.Equal(t, 3, w.flushes)
	require.Len(t, sent, 3)
	require.Len(t, ends, 1)
	require.EqualValues(t, 7, ends[0].Events)
}

// If one event is refused, none is sent, and the session is not opened.
func TestSendAllRefuses(t *testing.T) {
	t.Parallel()
	got := sentBy(t, func(s *sse.ServerSession) error {
		err := s.SendAll(sse.Event{Data: "0"}, sse.Event{Data: "1"}, sse.Event{Name: "a\nb"}, sse.Event{Data: "\xff"})
		var index *sse.IndexError
		if assert.ErrorAs(t, err, &index) {
			assert.Equal(t, 2, index.Index)
		}
		var fault *event.FieldError
		if assert.ErrorAs(t, err, &fault) {
			assert.Equal(t, "Name", fault.Field)
		}
		assert.Equal(t, "sse: send: event at index 2: event: Name holds a line feed at byte 1", fmt.Sprint(err))
		s.Header().Set("X-Still", "pending")
		return s.SendAll(sse.Event{Data: "next"})
	})
	require.Equal(t, "data: next\n\n", got)
}
