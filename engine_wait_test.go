package sse_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// A send of the application's may wait for the client. A hub's worker must not wait for that
// send: what it has to write is kept, and Finish writes it.
func TestTryWriteDoesNotWaitForASend(t *testing.T) {
	t.Parallel()
	if overTCP.mayBlock() {
		t.Skip("writes block here")
	}
	var cfg sse.Config
	d := newDetachServer(t, overTCP, cfg)
	s, w := d.connectReturned()
	data := strings.Repeat("x", 8<<20)
	sent := make(chan error, 1)
	go func() { sent <- s.SendData(data) }()
	first := chunk("data: " + data + "\n\n")
	w.expect(first[:50_000]) // the send is under way, and waits

	began := time.Now()
	f := framesOf("a", "b")
	pending, err := s.hub.TryWrite(f)
	require.NoError(t, err)
	require.True(t, pending)
	require.Less(t, time.Since(began), time.Second)
	f.Reset(0) // the buffer is used again
	f.Append([]byte(strings.Repeat("?", 100)))

	finished := make(chan error, 1)
	go func() { finished <- s.hub.Finish() }()
	w.expect(first[50_000:] + chunk("data: a\n\ndata: b\n\n"))
	require.NoError(t, testkit.Receive(t, sent))
	require.NoError(t, testkit.Receive(t, finished))
	require.NoError(t, s.hub.Finish(), "nothing is left")
	s.Close()
	w.expect(lastChunk)
	require.EqualValues(t, 4, d.ended(s).Events)
}

// Frames that were kept go with the session.
func TestTryWriteDoesNotWaitForASendOfASessionThatEnds(t *testing.T) {
	t.Parallel()
	if overTCP.mayBlock() {
		t.Skip("writes block here")
	}
	d := newDetachServer(t, overTCP, sse.Config{WriteTimeout: time.Hour})
	s, w := d.connectReturned()
	data := strings.Repeat("x", 8<<20)
	sent := make(chan error, 1)
	go func() { sent <- s.SendData(data) }()
	w.expect("800008\r\n")
	pending, err := s.hub.TryWrite(framesOf("a"))
	require.NoError(t, err)
	require.True(t, pending)
	s.Close()
	_, err = s.hub.TryWrite(framesOf("b"))
	require.ErrorIs(t, err, sse.ErrClosed)
	s.hub.Interrupt()
	require.Error(t, testkit.Receive(t, sent))
	require.ErrorIs(t, s.hub.Finish(), sse.ErrClosed)
	d.ended(s)
}
