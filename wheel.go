package sse

import (
	"sync"
	"time"
)

// wheel is the keep-alive of the detached sessions that have the same period: one
// timer for all, where each would have one that is a twelfth of what it holds. Sessions
// lie in the spoke of the time when they have to be looked at, which is an eighth of the
// period long. So a beat may be that much late.
type wheel struct {
	period time.Duration

	mu     sync.Mutex
	spokes [spokes + 1][]*ServerSession
	at     int // the spoke that was last looked at
	n      int // sessions, in all
	timer  *time.Timer
}

const (
	spokes = 8

	// longestTurn is the longest period of a wheel. For so long it may hold on to sessions
	// that have ended.
	longestTurn = time.Minute
)

// wheels are those of a plugin.
type wheels struct {
	mu sync.Mutex
	by map[time.Duration]*wheel
}

func (ws *wheels) of(period time.Duration) *wheel {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.by[period]
	if w == nil {
		if ws.by == nil {
			ws.by = make(map[time.Duration]*wheel)
		}
		w = &wheel{period: period}
		ws.by[period] = w
	}
	return w
}

func (w *wheel) step() time.Duration { return max(1, w.period/spokes) }

// add has s looked at after d, which is no more than the period.
func (w *wheel) add(s *ServerSession, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ahead := min(spokes, 1+int((d-1)/w.step()))
	spoke := &w.spokes[(w.at+ahead)%len(w.spokes)]
	*spoke = append(*spoke, s)
	w.n++
	if w.n > 1 {
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(w.step(), w.turn)
	} else {
		w.timer.Reset(w.step())
	}
}

// turn looks at the next spoke.
func (w *wheel) turn() {
	w.mu.Lock()
	w.at = (w.at + 1) % len(w.spokes)
	due := w.spokes[w.at]
	w.spokes[w.at] = nil
	if w.n -= len(due); w.n > 0 {
		w.timer.Reset(w.step())
	}
	w.mu.Unlock()
	for _, s := range due {
		s.turned(w)
	}
}

// turned is called when the wheel has come to s. It must not wait for anything.
func (s *ServerSession) turned(w *wheel) {
	if !s.mu.TryLock() { // somebody writes: that is a sign of life, if it succeeds
		w.add(s, w.period)
		return
	}
	defer s.mu.Unlock()
	if s.wheel != w {
		return // it has another heartbeat
	}
	s.wheel = nil
	if s.dueLocked() == ofHeartbeat {
		go s.tick()
	}
}
