package hub

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/engine"
)

// modelKey is the key of a modelSession in the context of its request.
type modelKey struct{}

// modelSession wraps a session: it records what the hub sends, and makes writes wait while
// its client does not read. It also holds what the model expects.
type modelSession struct {
	engine.Session
	model   *model
	client  *modelClient
	server  *sse.ServerSession
	w       modelWriter
	sub     Subscription
	cancel  context.CancelFunc            // disconnects the client
	gate    atomic.Pointer[chan struct{}] // writes wait until it is closed; nil: they do not
	member  atomic.Pointer[Member]
	sending atomic.Int32 // writes in progress; at most 1
	asking  atomic.Int32 // calls of Filter in progress; at most 1

	mu       sync.Mutex
	items    []modelItem // that have not been checked
	inFlight []byte      // of the write in progress
	pending  *engine.Frames
	detached bool
	ended    bool
	opened   bool // the hub has opened the session, and may detach it
	err      error
	kicked   bool
	limit    uint64 // the head when Kick had returned

	// What the model expects. Only the test's goroutine uses these.
	follow   map[string]uint64 // by topic: the offset after which it is followed
	sent     uint64            // offset of the last id that the client was sent
	pos      uint64            // offset of the last event, or a later one up to which there was none for it
	upTo     uint64            // offset up to which no event is missing
	got      map[string]uint64 // by key: offset of the newest event, for SlowLatest
	came     string            // the last event id with which the client connected
	id       string            // that, or the one from which the hub resumes
	wasHead  uint64            // the head when the client connected
	catchUp  []uint64          // offsets of older events, of topics that it was subscribed to later, that it must be sent
	vague    bool              // it connected while events were published, so its start is not known
	mustGap  bool              // the next item must be a gap
	gap      GapReason         // the only reason that a gap may have
	snapshot bool              // the next item must be a snapshot
	owed     bool              // an earlier session has promised a snapshot
	old      bool              // the snapshot may be of before the log's oldest event
	begun    bool              // there was an item
	mayEnd   bool              // a step has ended it
}

// modelItem is something that the hub has sent.
type modelItem struct {
	kind     modelKind
	id, data string
	key      string
	pos      Position // of a snapshot; with OwnIDs or IDKey also of a gap
	late     bool     // it was sent after the session was opened
}

type modelKind int

const (
	modelIsEvent modelKind = iota
	modelIsPosition
	modelIsBeat
	modelIsGap
	modelIsSnapshot
)

func init() {
	of := engine.Of
	engine.Of = func(session any) engine.Session {
		its := of(session)
		server := session.(*sse.ServerSession)
		if s, ok := server.Context().Value(modelKey{}).(*modelSession); ok {
			s.Session, s.server = its, server
			return s
		}
		return its
	}
}

// serve is the handler of all requests.
func (m *model) serve(server *sse.ServerSession) error {
	s := server.Context().Value(modelKey{}).(*modelSession)
	err := m.h.Serve(server, s.sub)
	s.mu.Lock()
	detached := s.detached
	s.err = err
	s.mu.Unlock()
	if detached {
		if err != nil {
			m.fault("%s: Serve has detached the session, but returned %v", s, err)
		}
		<-server.Done()
		(*owner)(s.member.Load()).Ended(context.Cause(server.Context()))
	}
	return nil
}

func (s *modelSession) String() string { return s.client.name }

func (s *modelSession) Attach(o engine.Owner) bool {
	s.member.Store((*Member)(o.(*owner)))
	return s.Session.Attach(&modelOwner{s, o})
}

func (s *modelSession) Detach() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = true // the hub calls Detach when the session is open
	s.detached = s.client.mode == modelPending && s.server.Context().Err() == nil
	return s.detached
}

func (s *modelSession) MayBlock() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.detached
}

func (s *modelSession) TryWrite(f *engine.Frames) (pending bool, err error) {
	if s.sending.Add(1) != 1 {
		s.model.fault("%s: two writes at a time", s)
	}
	s.record(f)
	if gate := s.gate.Load(); gate != nil {
		if !s.MayBlock() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.pending = new(engine.Frames)
			s.pending.Reset(0)
			s.pending.Append(f.Bytes())
			s.pending.Events = f.Events
			s.model.addTo(&s.model.totals.Pending)
			return true, nil
		}
		s.model.addTo(&s.model.totals.Held)
		s.wait(*gate)
	}
	defer s.sending.Add(-1)
	return false, s.forward(f)
}

func (s *modelSession) Finish() error {
	s.mu.Lock()
	f := s.pending
	s.pending = nil
	s.mu.Unlock()
	if f == nil {
		s.model.fault("%s: Finish is called, but no write is pending", s)
		return nil
	}
	if gate := s.gate.Load(); gate != nil {
		s.wait(*gate)
	}
	defer s.sending.Add(-1)
	return s.forward(f)
}

func (s *modelSession) wait(gate chan struct{}) {
	select {
	case <-gate:
	case <-s.server.Done():
	}
}

func (s *modelSession) forward(f *engine.Frames) error {
	if pending, err := s.Session.TryWrite(f); err != nil || pending {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight = nil
	return nil
}

// record records what the hub sends.
func (s *modelSession) record(f *engine.Frames) {
	items := modelParse(s.model.h, f.Bytes())
	if len(items) != f.Events {
		s.model.fault("%s: a write has %d events, but Frames.Events is %d", s, len(items), f.Events)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range items {
		item.late = s.opened
		if item.kind == modelIsGap && (s.model.ownIDs || s.model.opaque) { // the client is not told of it
			item.pos = s.member.Load().position()
		}
		s.items = append(s.items, item)
	}
	s.inFlight = bytes.Clone(f.Bytes())
}

// openGate lets the writes continue.
func (s *modelSession) openGate() {
	if gate := s.gate.Swap(nil); gate != nil {
		close(*gate)
	}
}

// modelOwner wraps the session's owner, and records the heartbeats.
type modelOwner struct {
	s *modelSession
	engine.Owner
}

func (o *modelOwner) BeginHeartbeat(dst []byte) ([]byte, bool) {
	frame, ok := o.Owner.BeginHeartbeat(dst)
	if ok {
		if o.s.sending.Add(1) != 1 {
			o.s.model.fault("%s: a heartbeat in the middle of a write", o.s)
		}
		o.s.mu.Lock()
		defer o.s.mu.Unlock()
		for _, item := range modelParse(o.s.model.h, frame) {
			item.kind = modelIsBeat
			o.s.items = append(o.s.items, item)
			o.s.model.addTo(&o.s.model.totals.Beats)
		}
	}
	return frame, ok
}

func (o *modelOwner) EndHeartbeat() {
	o.s.sending.Add(-1)
	o.Owner.EndHeartbeat()
}

func (m *model) addTo(n *int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*n++
}

// modelParse parses frames as h writes them.
func modelParse(h *Hub, frames []byte) (items []modelItem) {
	for block := range strings.SplitSeq(strings.TrimSuffix(string(frames), "\n\n"), "\n\n") {
		item := modelItem{kind: modelIsPosition}
		for line := range strings.SplitSeq(block, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "id":
				item.id = value
				if _, err := h.ParseID(value); err == nil {
					continue
				}
			case "event":
				item.key = value
			case "data":
				item.data = value
			}
			item.kind = modelIsEvent
		}
		if item.key == GapEvent {
			item.kind = modelIsGap
		}
		items = append(items, item)
	}
	return items
}

// modelWriter is an http.ResponseWriter in memory.
type modelWriter struct {
	mu     sync.Mutex
	header http.Header
	body   bytes.Buffer
}

func (w *modelWriter) Header() http.Header              { return w.header }
func (w *modelWriter) WriteHeader(int)                  {}
func (w *modelWriter) FlushError() error                { return nil }
func (w *modelWriter) Flush()                           {}
func (w *modelWriter) SetWriteDeadline(time.Time) error { return nil }
func (w *modelWriter) SetReadDeadline(time.Time) error  { return nil }

func (w *modelWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.body.Write(p)
}

// lastID returns the last event id of a client that had the id before and has read the body
// and rest. owed reports whether a gap event has promised it a snapshot, and no position
// has followed.
func (w *modelWriter) lastID(before string, rest []byte) (id string, owed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body := slices.Concat(w.body.Bytes(), rest)
	for block := range strings.SplitSeq(string(body[:bytes.LastIndex(body, []byte("\n\n"))+1]), "\n\n") {
		switch {
		case strings.HasPrefix(block, "event: "+GapEvent+"\n"):
			// An id ahead of the hub's is not one of its own. By the time the client sends
			// it again, it may be one from the past, without a gap.
			owed = strings.Contains(block, `"snapshot":true`) && !strings.Contains(block, `"reason":"ahead"`)
		case strings.HasPrefix(block, "id: "), strings.Contains(block, "\nid: "):
			owed = false
		}
	}
	d := event.NewDecoder(nil)
	d.Reset(bytes.NewReader(body), before)
	for {
		if _, err := d.Decode(); err != nil {
			return d.LastEventID(), owed
		}
	}
}

// isOpened reports whether the hub has opened the session. A client that does not read can
// delay that.
func (s *modelSession) isOpened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

func (s *modelSession) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// kick kicks s, and notes after which event it must be sent none.
func (s *modelSession) kick() {
	s.member.Load().Kick(errors.New("out"))
	if s.server.SendData("after the kick") == nil {
		s.model.fault("%s: the session accepts a send after it was kicked", s)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.kicked {
		s.kicked, s.limit = true, s.model.h.Position().Offset
	}
}

func (s *modelSession) isKicked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kicked
}

func (s *modelSession) lastEventID() string { return s.server.LastEventID() }
