package sse

import (
	"context"
	"errors"
	"fmt"

	"github.com/chi-sse/sse/event"
)

// The write path of a session: from an encoded frame to its wire, under the session's lock.
// Nothing reaches the client by another way, but for the farewell (ending.go) and the
// frames of a hub that must not wait (engine.go). Those share the accounting here.

// writeKind is what a write is for.
type writeKind uint8

const (
	ofHandler   writeKind = iota // a send
	ofOpening                    // only to open the session
	ofOpenDelay                  // likewise, unless the handler has the header
	ofHeartbeat
	ofHub // the frames of a hub
)

// seal is an end, or one that has been announced. It says which writes may not begin.
type seal struct {
	cause error // nil for ended: the context has the cause
}

// ended is the seal of a session that has ended. No write may begin.
var ended = new(seal)

// stops reports whether a write of the kind may not begin. Before the end, a hub may still
// write what it had to send before it announced the end.
func (l *seal) stops(kind writeKind) bool { return l == ended || kind != ofHub }

// write writes frame, which holds that many events, and calls the hooks. It opens the
// session if it is not open. A nil frame only opens it.
func (s *ServerSession) write(frame []byte, events int, kind writeKind) error {
	var sent Sent
	opened, err := s.writeFrame(frame, events, kind, &sent)
	if opened || sent.Bytes > 0 {
		s.callHooks(sent, opened)
	}
	return err
}

// callHooks tells of a write for which hooks has been raised. The end of the session waits
// for that, so that OnClose comes last.
func (s *ServerSession) callHooks(sent Sent, opened bool) {
	defer s.hooks.Done()
	cfg := &s.route.plugin.cfg
	if opened && cfg.OnOpen != nil {
		cfg.OnOpen(s)
	}
	if cfg.OnSend != nil {
		cfg.OnSend(s, sent)
	}
}

// writeFrame is the part of write under mu. If there is an OnSend to call, it sets sent to
// the argument. (To return a Sent would copy it twice for each event, mostly for nobody.)
func (s *ServerSession) writeFrame(frame []byte, events int, kind writeKind, sent *Sent) (opened bool, err error) {
	if l := s.seal.Load(); l != nil && l.stops(kind) { // at once, even if a write waits for the client
		return false, s.closedError()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.seal.Load(); s.state == closed || l != nil && l.stops(kind) {
		return false, s.closedError()
	}
	opens := s.state == pending
	switch {
	case opens && kind == ofOpenDelay && (s.headerTaken || s.beating):
		return false, nil // the handler, or the heartbeat, opens the session
	case opens:
		frame = s.firstFrame(frame)
		err = s.openLocked(frame)
	case frame == nil:
		return false, nil
	default:
		s.lastWrite = sinceEpoch()
		if kind == ofHeartbeat && s.wire().clientVanished(s.lastWrite, s.route.writeTimeout) {
			err = errVanished
			break
		}
		err = s.wire().write(frame, s.lastWrite, s.route.writeTimeout)
	}
	err = s.account(len(frame), events, err)
	opened = opens && err == nil
	if s.route.plugin.cfg.OnSend != nil {
		*sent = s.sent(len(frame), kind, err)
	}
	if opened || sent.Bytes > 0 {
		s.hooks.Add(1)
	}
	return opened, err
}

// errVanished is the error of a write to a client that acknowledges nothing any longer.
var errVanished = fmt.Errorf("%w: it acknowledges nothing", ErrClientGone)

// firstFrame returns the frame that opens the session: what goes before frame, and frame.
func (s *ServerSession) firstFrame(frame []byte) []byte {
	var first []byte
	if retry := s.route.retry; retry != 0 {
		first, _ = Event{Retry: retry}.AppendText(first) // checked when it was set
	}
	if frame == nil {
		first, _ = event.AppendComment(first, "open") // cannot fail
	}
	if first == nil {
		return frame
	}
	return append(first, frame...)
}

// openLocked writes the head and the first frame, and starts the heartbeat. If the session is
// going to be detached, net/http writes no more than the first part, and the session's own
// socket writes the rest.
func (s *ServerSession) openLocked(first []byte) error {
	s.state = opening
	s.lastWrite = sinceEpoch()
	part, detaches, timeout := first, s.willDetach(), s.route.writeTimeout
	if detaches {
		part = first[:min(partSize, len(first))]
	}
	if err := s.wire().open(s.Call(), part, s.lastWrite, timeout); err != nil {
		return err
	}
	s.state = open
	if detaches {
		if _, err := s.takeConnection(first[len(part):]); err != nil {
			return err
		}
	}
	s.startHeartbeat()
	return nil
}

// account counts a write of n bytes that holds that many events. If the write failed with
// err, account ends the session, and returns err with ErrClientGone if the client has left.
func (s *ServerSession) account(n, events int, err error) error {
	if err == nil {
		s.bytes.Store(s.bytes.Load() + int64(n)) // costs less than Add
		s.events += int64(events)
		return nil
	}
	if s.clientLeft(err) && !errors.Is(err, ErrClientGone) {
		err = fmt.Errorf("%w: %w", ErrClientGone, err)
	}
	s.state = torn
	s.end(err)
	return err
}

// clientLeft reports whether a write has failed with err because the client has left. If the
// session had ended before that, the end interrupted the write, and its cause says who left.
func (s *ServerSession) clientLeft(err error) bool {
	if cause := context.Cause(s.ctx); cause != nil {
		return errors.Is(cause, ErrClientGone)
	}
	return s.wire().clientLeft(err)
}

// sent returns the argument of OnSend for the write that began last.
func (s *ServerSession) sent(n int, kind writeKind, err error) Sent {
	return Sent{Bytes: n, Duration: sinceEpoch() - s.lastWrite, Heartbeat: kind == ofHeartbeat, Err: err}
}

// closedError returns the error of a write after the end, or after a hub has announced one.
func (s *ServerSession) closedError() error {
	switch l := s.seal.Load(); {
	case l == ended:
		<-s.ctx.Done() // at once: end is about to set the cause
	case l != nil && s.ctx.Err() == nil:
		return &closedError{l.cause}
	}
	cause := context.Cause(s.ctx)
	if cause == nil || cause == ErrClosed { //nolint:errorlint // the sentinel itself
		return ErrClosed
	}
	return &closedError{cause}
}
