package compat

// This file defines the script, which is the list of events that the streams of the matrix
// send, and the lockstep in which a handler sends it and a client reads it.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// frame represents one send, and the bytes that it must produce on the wire.
type frame struct {
	name string
	send func(*sse.ServerSession) error
	wire string
}

// script is the list of frames that the streams of the matrix send.
var script = []frame{
	{
		"all fields",
		event(sse.Event{ID: "1", Name: "tick", Data: "hello"}),
		"event: tick\ndata: hello\nid: 1\n\n",
	},
	{
		"a single byte, which nobody could compress",
		event(sse.Event{Data: "."}),
		"data: .\n\n",
	},
	{
		"all line breaks",
		event(sse.Event{Data: "one\r\ntwo\rthree\n\nfive"}),
		"data: one\ndata: two\ndata: three\ndata: \ndata: five\n\n",
	},
	{
		"characters of one to four bytes",
		event(sse.Event{ID: "№ 2", Data: "a ñ ‰ 🚲 日本語\u2028"}),
		"data: a ñ ‰ 🚲 日本語\u2028\nid: № 2\n\n",
	},
	{
		"a comment",
		func(s *sse.ServerSession) error { return s.Comment("still here") },
		": still here\n\n",
	},
	{
		"more than the 4 KiB of net/http's buffers",
		event(sse.Event{Data: strings.Repeat("0123456789abcdef", 320)}),
		"data: " + strings.Repeat("0123456789abcdef", 320) + "\n\n",
	},
	{
		"more than the 64 KiB of an HTTP/2 window",
		event(sse.Event{Name: "big", Data: strings.Repeat("ab\n", 8_000) + "c"}),
		"event: big\n" + strings.Repeat("data: ab\n", 8_000) + "data: c\n\n",
	},
	{
		"a value",
		func(s *sse.ServerSession) error { return s.SendData(map[string]string{"html": "<b>&</b>"}) },
		`data: {"html":"<b>&</b>"}` + "\n\n",
	},
}

// event returns a function that sends e.
func event(e sse.Event) func(*sse.ServerSession) error {
	return func(s *sse.ServerSession) error { return s.Send(e) }
}

// scriptBytes returns the size of the whole script on the wire.
func scriptBytes() (n int64) {
	for _, f := range script {
		n += int64(len(f.wire))
	}
	return n
}

// lockstep makes a handler and its client take turns. The handler sends a frame only after
// the client has read the one before. So if anything holds a frame back, the test fails
// every time, and not only when it is slow.
type lockstep struct {
	read  signal        // sent by the client after each frame that it has read
	pause time.Duration // between the first frame and the second
}

func newLockstep(pause time.Duration) *lockstep {
	return &lockstep{make(signal), pause}
}

// send sends the script, in the handler.
func (l *lockstep) send(s *sse.ServerSession) error {
	for i, f := range script {
		if i == 1 && l.pause > 0 {
			if err := wait(s, l.pause); err != nil {
				return err
			}
		}
		if err := f.send(s); err != nil {
			return fmt.Errorf("send %s: %w", f.name, err)
		}
		if err := l.read.await(s); err != nil {
			return fmt.Errorf("after %s: %w", f.name, err)
		}
	}
	return nil
}

// receive reads the script, in the client, and requires that the stream ends after it. It
// calls meanwhile, if it is not nil, after the first frame.
func (l *lockstep) receive(t *testing.T, body io.Reader, meanwhile func()) {
	t.Helper()
	for i, f := range script {
		got := make([]byte, len(f.wire))
		n, err := io.ReadFull(body, got)
		if string(got[:n]) != f.wire {
			require.Failf(t, "the client did not read what was sent", "%s: %d bytes of %d, %v: %.200q", f.name, n, len(f.wire), err, got[:n])
		}
		if i == 0 && meanwhile != nil {
			meanwhile()
		}
		l.read.give(t)
	}
	rest, err := io.ReadAll(body)
	require.NoError(t, err, "the stream must end properly")
	require.Empty(t, string(rest), "the stream must end after the last event")
}

// signal lets a client tell a handler to continue.
type signal chan struct{}

// give tells the handler to continue. It fails the test if no handler waits.
func (c signal) give(t *testing.T) {
	t.Helper()
	select {
	case c <- struct{}{}:
	case <-time.After(maxWait):
		require.Fail(t, "no handler waits for the client")
	}
}

// await waits for the client. It returns an error if the session ends first or the client
// takes too long.
func (c signal) await(s *sse.ServerSession) error {
	select {
	case <-c:
		return nil
	case <-s.Done():
		return fmt.Errorf("waiting for the client: %w", context.Cause(s.Context()))
	case <-time.After(maxWait):
		return errors.New("the client has not read the last frame")
	}
}

// wait waits for the duration d. It returns an error if the session ends first.
func wait(s *sse.ServerSession, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-s.Done():
		return fmt.Errorf("in a pause: %w", context.Cause(s.Context()))
	}
}

// untilDone waits until something other than the handler ends the session.
func untilDone(s *sse.ServerSession) error {
	select {
	case <-s.Done():
		return nil
	case <-time.After(2 * maxWait):
		return errors.New("the session has not ended")
	}
}
