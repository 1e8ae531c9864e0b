package sse

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/scratch"
	"github.com/chi-sse/sse/internal/wheel"
)

// Heartbeat keeps a session's connection alive: proxies do not take the connection for
// dead, and the server notices when the client is.
//
// The zero value sends a comment, which clients do not show. Because a comment only keeps
// the connection alive, it is sent only after Period without other traffic. A heartbeat
// with an Event or a Provider is something that clients wait for. It is sent every Period
// from the opening of the session on, whatever else is sent.
type Heartbeat struct {
	// Period is the time between heartbeats. Zero means the default: 15 seconds in Config,
	// the Period of Config in WithHeartbeat, and the Period of the route in
	// ServerSession.Heartbeat. Negative means no heartbeat. If a hub has detached the
	// session, a comment may come up to an eighth of Period late.
	Period time.Duration

	// Event is sent at each heartbeat. The zero Event means a comment.
	Event Event

	// Provider returns the event of each heartbeat, in place of Event. It is never called
	// for two heartbeats of one session at the same time. If its event cannot be sent, the
	// error is logged, and a comment is sent instead. If it panics, the session ends as if
	// its handler had panicked.
	Provider func() Event
}

const heartbeatComment = "heartbeat"

// custom reports whether clients are meant to see the heartbeat.
func (h Heartbeat) custom() bool {
	return h.Provider != nil || h.Event != Event{}
}

func (h Heartbeat) check() error {
	_, err := h.Event.AppendText(nil)
	return err
}

// appendFrame appends the frame of a heartbeat.
func (h Heartbeat) appendFrame(dst []byte) ([]byte, error) {
	switch {
	case h.Provider != nil:
		return h.Provider().AppendText(dst)
	case h.custom():
		return h.Event.AppendText(dst)
	}
	return event.AppendComment(dst, heartbeatComment)
}

// Heartbeat replaces the session's heartbeat. It sends the first heartbeat at once, which
// opens the session, and returns its error. If a heartbeat of the old kind is under way,
// the first of the new kind follows it, and Heartbeat returns nil. A negative Period only
// stops the heartbeats.
//
// If h.Event cannot be encoded, Heartbeat changes nothing and returns an error that wraps
// [*event.FieldError].
func (s *ServerSession) Heartbeat(h Heartbeat) error {
	if err := h.check(); err != nil {
		return fmt.Errorf("sse: heartbeat: %w", err)
	}
	setDefault(&h.Period, s.route.heartbeat.Period)
	s.mu.Lock()
	s.heartbeat = &h
	s.mu.Unlock()
	if h.Period < 0 {
		return nil
	}
	return s.beat()
}

// beat sends a heartbeat and sets the timer for the next. A session has one under way at a
// time: a second call makes one more follow.
func (s *ServerSession) beat() error {
	if s.ctx.Err() != nil {
		return s.closedError()
	}
	h, owner, ok := s.beginBeat()
	if !ok {
		return nil
	}
	defer s.endBeat()
	buf := scratch.Get()
	defer buf.Put()
	frame, err := h.appendFrame(buf.B)
	if err != nil {
		s.logger().Error("sse: heartbeat event cannot be sent", "error", err)
		if frame, err = (Heartbeat{}).appendFrame(buf.B); err != nil {
			return err
		}
	}
	if owner != nil && !h.custom() { // a hub may have something more useful to send than a comment
		if f, ok := owner.BeginHeartbeat(buf.B[:0]); ok {
			defer owner.EndHeartbeat()
			frame = f
		}
	}
	buf.B = frame
	return s.write(frame, 0, ofHeartbeat)
}

func (s *ServerSession) beginBeat() (h Heartbeat, owner engine.Owner, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beating {
		s.beatAgain = true
		return h, nil, false
	}
	s.beating = true
	return *s.heartbeat, s.owner, true
}

func (s *ServerSession) endBeat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.heartbeat.Period
	if s.beatAgain && next > 0 {
		next = atOnce
	}
	s.beating, s.beatAgain = false, false
	s.setTimer(next)
}

// startHeartbeat sets the timer when the session has opened. s.mu is held.
func (s *ServerSession) startHeartbeat() {
	switch {
	case s.beating: // endBeat sets the timer
	case s.heartbeat.custom() && s.heartbeat.Period > 0:
		s.setTimer(atOnce)
	default:
		s.setTimer(s.heartbeat.Period)
	}
}

// onTimer is what the session's only timer calls: to open the session after its OpenDelay,
// and then to send heartbeats.
func (s *ServerSession) onTimer() {
	defer func() {
		if v := recover(); v != nil { // of a Provider or a hook
			s.end(&PanicError{v, debug.Stack()})
		}
	}()
	s.mu.Lock()
	kind := s.timedWrite()
	s.mu.Unlock()
	switch kind {
	case ofOpenDelay:
		_ = s.write(nil, 0, ofOpenDelay) // an error ends the session
	case ofHeartbeat:
		_ = s.beat() // likewise
	}
}

// timedWrite returns the kind of write that the timer has fired for, or ofHandler for none.
// If there was traffic since the timer was set, timedWrite sets it to what is left of the
// period. s.mu is held.
func (s *ServerSession) timedWrite() writeKind {
	if s.ctx.Err() != nil {
		return ofHandler
	}
	switch h := s.heartbeat; s.state {
	case pending:
		return ofOpenDelay
	case opening, open:
		if idle := sinceEpoch() - s.lastWrite; !h.custom() && idle < h.Period {
			s.setTimer(h.Period - idle)
		} else if h.Period > 0 && !s.beating {
			return ofHeartbeat
		}
	}
	return ofHandler
}

const (
	atOnce = time.Nanosecond // as an argument of setTimer

	// longestShared is the longest period for which sessions share a timer. After a session
	// has ended, its wheel may hold on to it for that time.
	longestShared = time.Minute
)

// setTimer sets the timer, unless d is not positive or the session has ended. s.mu is held.
func (s *ServerSession) setTimer(d time.Duration) {
	if d <= 0 || s.state == closed || s.ctx.Err() != nil {
		return
	}
	if s.sharesTimer && !s.heartbeat.custom() && s.heartbeat.Period <= longestShared {
		s.setSharedTimer(d)
		return
	}
	s.wheel = nil
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.onTimer)
		return
	}
	s.timer.Reset(d)
}

// shareTimer makes the session use a timer together with others: a timer of its own would
// be a twelfth of what an idle detached session takes. Its heartbeat may then be an eighth
// of its period late. s.mu is held.
func (s *ServerSession) shareTimer() {
	s.sharesTimer = true
	if !s.heartbeat.custom() {
		s.setTimer(s.heartbeat.Period)
	}
}

func (s *ServerSession) setSharedTimer(d time.Duration) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if d == atOnce {
		go s.onTimer()
		return
	}
	if w := s.route.plugin.wheels.Of(s.heartbeat.Period); s.wheel != w { // otherwise it waits there already
		s.wheel = w
		w.Add(s, d)
	}
}

// onWheel is called when the session comes up on the wheel w. It must not wait for anything.
func (s *ServerSession) onWheel(w *wheel.Wheel[*ServerSession]) {
	if !s.mu.TryLock() { // a write is under way. If it succeeds, no heartbeat is needed.
		w.Add(s, w.Period())
		return
	}
	defer s.mu.Unlock()
	if s.wheel != w {
		return // the session has got another heartbeat since
	}
	s.wheel = nil
	if s.timedWrite() == ofHeartbeat {
		go s.onTimer()
	}
}
