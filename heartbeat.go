package sse

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/engine"
)

// Heartbeat keeps a session's connection alive: it stops proxies from taking it
// for dead, and lets the server notice that a client is.
//
// Its zero value is a comment, which no client shows. Being there only for the
// line, it is sent after Period without other traffic. With an Event or a Provider
// of its own it is something that clients wait for, and is sent every Period from
// the opening of the session on, beside all else.
type Heartbeat struct {
	// Period is the time between beats. Zero means the default of where it is used:
	// 15 seconds in Config, that of Config in WithHeartbeat, and that of the route in
	// ServerSession.Heartbeat. Negative means no heartbeat. A comment to a session that a
	// hub has detached may be an eighth of it late.
	Period time.Duration

	// Event is sent at each beat. Zero means a comment.
	Event Event

	// Provider is asked for the event at each beat, in place of Event; never for two
	// beats of a session at a time. An event that cannot be sent is logged, and a
	// comment sent for it. A panic ends the session as one of its handler does.
	Provider func() Event
}

const heartbeatComment = "heartbeat"

func (h Heartbeat) custom() bool {
	return h.Provider != nil || h.Event != Event{}
}

func (h Heartbeat) check() error {
	_, err := h.Event.AppendText(nil)
	return err
}

// frame appends the frame of a beat.
func (h Heartbeat) frame(dst []byte) ([]byte, error) {
	switch {
	case h.Provider != nil:
		return h.Provider().AppendText(dst)
	case h.custom():
		return h.Event.AppendText(dst)
	}
	return event.AppendComment(dst, heartbeatComment)
}

// Heartbeat replaces the session's heartbeat. Its first beat is sent at once,
// which opens the session; a negative Period only stops the beats. The error is
// that of the first beat, unless a beat of the old heartbeat is still under way:
// the first then follows it.
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

// beat sends a beat and sets the timer for the next. There is one at a time.
func (s *ServerSession) beat() error {
	if s.ctx.Err() != nil {
		return s.closedError()
	}
	h, owner, ok := s.beginBeat()
	if !ok {
		return nil
	}
	defer s.endBeat()
	buf := frames.get()
	defer frames.put(buf)
	frame, err := h.frame(buf.b)
	if err != nil {
		s.logger().Error("sse: heartbeat event cannot be sent", "error", err)
		if frame, err = (Heartbeat{}).frame(buf.b); err != nil {
			return err
		}
	}
	if owner != nil && !h.custom() { // where any sign of life will do, a hub may have a better one
		if f, ok := owner.BeginHeartbeat(buf.b[:0]); ok {
			defer owner.EndHeartbeat()
			frame = f
		}
	}
	buf.b = frame
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
		next = time.Nanosecond
	}
	s.beating, s.beatAgain = false, false
	s.setTimer(next)
}

// tick is what the session's only timer calls: to open it after its OpenDelay, and
// then for its heartbeat.
func (s *ServerSession) tick() {
	defer func() {
		if v := recover(); v != nil { // of a Provider or a hook
			s.end(&PanicError{v, debug.Stack()})
		}
	}()
	switch s.due() {
	case ofOpenDelay:
		_ = s.write(nil, 0, ofOpenDelay) // its error ends the session
	case ofHeartbeat:
		_ = s.beat() // likewise
	}
}

// due says what the timer has called for, or sets it for later. ofHandler is
// nothing.
func (s *ServerSession) due() writeKind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dueLocked()
}

func (s *ServerSession) dueLocked() writeKind {
	if s.ctx.Err() != nil {
		return ofHandler
	}
	switch h := s.heartbeat; s.state {
	case pending:
		return ofOpenDelay
	case streaming:
		if idle := s.age() - s.lastWrite; !h.custom() && idle < h.Period {
			s.setTimer(h.Period - idle)
		} else if h.Period > 0 && !s.beating {
			return ofHeartbeat
		}
	}
	return ofHandler
}

// setTimer sets the timer, if the session is alive. s.mu is held.
func (s *ServerSession) setTimer(d time.Duration) {
	if d <= 0 || s.state == finished || s.ctx.Err() != nil {
		return
	}
	if s.detached.Load() != nil && !s.heartbeat.custom() && s.heartbeat.Period <= longestTurn {
		if s.timer != nil {
			s.timer.Stop()
			s.timer = nil
		}
		if d == time.Nanosecond {
			go s.tick()
			return
		}
		if w := s.route.plugin.wheels.of(s.heartbeat.Period); s.wheel != w { // else it is on it
			s.wheel = w
			w.add(s, d)
		}
		return
	}
	s.wheel = nil
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.tick)
		return
	}
	s.timer.Reset(d)
}
