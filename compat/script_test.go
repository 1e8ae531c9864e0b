package compat

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

// frame is one send, and the bytes that are to be on the wire for it.
type frame struct {
	name string
	send func(*sse.ServerSession) error
	wire string
}

// script is what the streams of the matrix send.
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

func event(e sse.Event) func(*sse.ServerSession) error {
	return func(s *sse.ServerSession) error { return s.Send(e) }
}

// scriptBytes is the length of the whole script on the wire.
func scriptBytes() (n int64) {
	for _, f := range script {
		n += int64(len(f.wire))
	}
	return n
}

// lockstep lets a handler and its client play the script in turn: a frame is
// sent only when the one before has been read. Something that holds a frame back
// holds up everything, instead of being fast enough at times.
type lockstep struct {
	read  signal        // one for each frame that the client has read
	pause time.Duration // between the first frame and the second
}

func newLockstep(pause time.Duration) *lockstep {
	return &lockstep{make(signal), pause}
}

// send plays the handler.
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

// receive plays the client, up to the end of the stream. With an event in hand
// it calls meanwhile, if there is one.
func (l *lockstep) receive(t *testing.T, body io.Reader, meanwhile func()) {
	t.Helper()
	for i, f := range script {
		got := make([]byte, len(f.wire))
		n, err := io.ReadFull(body, got)
		if string(got[:n]) != f.wire {
			require.Failf(t, "not what was sent", "%s: %d bytes of %d, %v: %.200q", f.name, n, len(f.wire), err, got[:n])
		}
		if i == 0 && meanwhile != nil {
			meanwhile()
		}
		l.read.give(t)
	}
	rest, err := io.ReadAll(body)
	require.NoError(t, err, "end of the stream")
	require.Empty(t, string(rest), "beyond the last event")
}

// signal is how a client tells a handler to go on.
type signal chan struct{}

// give tells the handler, which must be there.
func (c signal) give(t *testing.T) {
	t.Helper()
	select {
	case c <- struct{}{}:
	case <-time.After(patience):
		require.Fail(t, "the handler is gone")
	}
}

// await waits for the client, which may have failed.
func (c signal) await(s *sse.ServerSession) error {
	select {
	case <-c:
		return nil
	case <-s.Done():
		return fmt.Errorf("waiting for the client: %w", context.Cause(s.Context()))
	case <-time.After(patience):
		return errors.New("the client does not read")
	}
}

// wait lets time pass.
func wait(s *sse.ServerSession, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-s.Done():
		return fmt.Errorf("in a pause: %w", context.Cause(s.Context()))
	}
}

// untilDone waits for the session to end from outside.
func untilDone(s *sse.ServerSession) error {
	select {
	case <-s.Done():
		return nil
	case <-time.After(2 * patience):
		return errors.New("the session does not end")
	}
}
