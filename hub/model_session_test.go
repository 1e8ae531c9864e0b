package hub

import (
	"bytes"
	"context"
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

// modelKey finds a modelSession in the context of a request.
type modelKey struct{}

// modelSession stands between the hub and a session: it keeps what the hub sends,
// and has writes wait for the client.
type modelSession struct {
	engine.Session
	model   *model
	client  *modelClient
	server  *sse.ServerSession
	w       modelWriter
	sub     Subscription
	cancel  context.CancelFunc // the client leaves
	gate    atomic.Pointer[chan struct{}]
	member  atomic.Pointer[Member]
	sending atomic.Int32
	asking  atomic.Int32

	mu       sync.Mutex
	items    []modelItem // that have not been looked at
	inFlight []byte
	pending  *engine.Frames
	detached bool
	ended    bool
	opened   bool // the handler has got through the opening
	err      error

	// What the model expects. The test's goroutine has it for itself.
	follow   map[string]uint64 // behind which offset
	sent     uint64            // the last offset that it was told
	pos      uint64            // likewise, or up to where nothing was for it
	upTo     uint64            // up to which nothing is missing
	got      map[string]uint64 // the newest by key, for SlowLatest
	id       string            // that the client came with
	wasHead  uint64            // when it came
	vague    bool              // it came while others published
	mustGap  bool
	gap      GapReason // the only one that may be
	snapshot bool      // one is due
	owed     bool      // the client has been promised one earlier
	old      bool      // the snapshot may be older than the log
	begun    bool      // there was an item
	mayEnd   bool
}

type modelItem struct {
	kind     modelKind
	id, data string
	key      string
	pos      Position // of a snapshot
	late     bool     // it was sent after the opening
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

// serve is the handler.
func (m *model) serve(server *sse.ServerSession) error {
	s := server.Context().Value(modelKey{}).(*modelSession)
	err := m.h.Serve(server, s.sub)
	s.mu.Lock()
	detached := s.detached
	s.err = err
	s.mu.Unlock()
	if detached {
		if err != nil {
			m.fault("%s: Serve has detached the session and returned %v", s, err)
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
	s.opened = true // the hub asks when that is done
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
		s.model.fault("%s: two send at a time", s)
	}
	s.keep(f)
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
	return false, s.pass(f)
}

func (s *modelSession) Finish() error {
	s.mu.Lock()
	f := s.pending
	s.pending = nil
	s.mu.Unlock()
	if f == nil {
		s.model.fault("%s: Finish without anything to finish", s)
		return nil
	}
	if gate := s.gate.Load(); gate != nil {
		s.wait(*gate)
	}
	defer s.sending.Add(-1)
	return s.pass(f)
}

func (s *modelSession) wait(gate chan struct{}) {
	select {
	case <-gate:
	case <-s.server.Done():
	}
}

func (s *modelSession) pass(f *engine.Frames) error {
	if pending, err := s.Session.TryWrite(f); err != nil || pending {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight = nil
	return nil
}

// keep takes note of what is sent.
func (s *modelSession) keep(f *engine.Frames) {
	items := modelParse(f.Bytes())
	if len(items) != f.Events {
		s.model.fault("%s: %d events are said to be %d", s, len(items), f.Events)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range items {
		item.late = s.opened
		s.items = append(s.items, item)
	}
	s.inFlight = bytes.Clone(f.Bytes())
}

// letThrough ends a stall.
func (s *modelSession) letThrough() {
	if gate := s.gate.Swap(nil); gate != nil {
		close(*gate)
	}
}

// modelOwner listens to the heartbeats.
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
		for _, item := range modelParse(frame) {
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

// modelParse reads frames of the hub's, of which it knows the form.
func modelParse(frames []byte) (items []modelItem) {
	for block := range strings.SplitSeq(strings.TrimSuffix(string(frames), "\n\n"), "\n\n") {
		item := modelItem{kind: modelIsPosition}
		for line := range strings.SplitSeq(block, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "id":
				item.id = value
				if _, err := ParsePosition(value); err == nil {
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

// modelWriter is a response in memory.
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

// lastID returns the last event id of a client that has read the body, and rest. owed
// says that it has been promised a snapshot, and not been told where that stands.
func (w *modelWriter) lastID(before string, rest []byte) (id string, owed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body := slices.Concat(w.body.Bytes(), rest)
	for block := range strings.SplitSeq(string(body[:bytes.LastIndex(body, []byte("\n\n"))+1]), "\n\n") {
		switch {
		case strings.HasPrefix(block, "event: "+GapEvent+"\n"):
			// An id of the future, which nobody had from the hub, is one of the past when it
			// comes again.
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

// isOpened reports whether the session is beyond its opening, which a client that
// does not read can delay.
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

func (s *modelSession) lastEventID() string { return s.server.LastEventID() }
