package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/lasteventid"
)

// Subscription says what a session is sent, and how.
type Subscription struct {
	// Topics are those the session follows. One that is named twice counts once. More
	// may come by [Member.Subscribe]; but it is in its topics that a member is found, so
	// there should be one to begin with.
	Topics []string

	// Start says where a client begins that has no last event id, or one of no use.
	// Default: Now.
	Start Start

	// Filter reports whether the session is sent m. It is asked once for each event that
	// is due, in order (for SlowLatest the newest first), by one goroutine at a time, and
	// must not wait for anything. Default: all are sent.
	Filter func(m *Message) bool

	// Snapshot sends the state that events are changes of, by s. It is called before the
	// first event, in place of Start, when a client comes without a last event id, and
	// after a gap. at is where the hub stands. Events behind the position it returns
	// follow, so none is lost, and none doubled, if the state was taken at just that
	// position: take both under the lock under which the application changes state and
	// publishes. A snapshot that is taken at at, or fresher where repeating an event does
	// no harm, returns at.
	//
	// An error ends the session. As long as nothing was sent it may be an sse.Error.
	Snapshot func(s *sse.ServerSession, at Position) (Position, error)

	// Slow says what becomes of a client that is so slow that the log loses what is due
	// to it. Default: SlowEnd.
	Slow SlowPolicy

	// Key tells for SlowLatest which events replace which: those with the same key.
	// Default: the topic.
	Key func(m *Message) string

	// Info says who this is. The hub keeps it for [Member.Info].
	Info any
}

// Start is where in the log a client begins.
type Start struct {
	kind  startKind
	after Position
}

type startKind uint8

const (
	atNow startKind = iota
	atBeginning
	atLatest
	atPosition
)

var (
	// Now begins with the next event.
	Now = Start{}

	// Beginning begins with the oldest event in the log.
	Beginning = Start{kind: atBeginning}

	// Latest begins with the newest event of each topic, as far as the log has it.
	Latest = Start{kind: atLatest}
)

// After begins behind p, as for a client that has come with it as its last event id.
func After(p Position) Start { return Start{atPosition, p} }

// SlowPolicy is what becomes of a slow client.
type SlowPolicy uint8

const (
	// SlowEnd ends its session, with a [*SlowError]. The client reconnects, and resumes
	// with what the log has then.
	SlowEnd SlowPolicy = iota

	// SlowSkip goes on with the present: the client is told of the gap, and gets the
	// Snapshot if there is one.
	SlowSkip

	// SlowLatest sends of all that is due at a time only the newest event for each Key,
	// so that a client which falls behind catches up.
	SlowLatest
)

var errBusy = errors.New("the session is served by a hub already")

func (sub Subscription) check() error {
	switch {
	case slices.Contains(sub.Topics, ""):
		return errTopic
	case sub.Slow > SlowLatest:
		return fmt.Errorf("Subscription.Slow is %d, which is no policy", sub.Slow)
	case sub.Key != nil && sub.Slow != SlowLatest:
		return errors.New("Subscription.Key has no effect without SlowLatest")
	}
	return nil
}

// Serve sends s the events of sub until the session ends. It starts behind the
// client's last event id, be it the header or a query parameter such as lastEventId,
// which polyfills use; without one, where sub says. Nothing else should set event ids
// in the session; other sends do no harm.
//
// Serve opens the session, and returns when it has ended, with the cause of
// [sse.ServerSession.Context]. With Config.Detached it returns nil as soon as the
// session can do without it: the handler should then return nil as well, and
// everything that it would do at the end belongs in Config.OnLeave, or
// sse.Config.OnClose.
//
// An error before the session is open, which that of a Snapshot or of a sub that makes
// no sense is, leaves it to the handler to answer.
func (h *Hub) Serve(s *sse.ServerSession, sub Subscription) error {
	if err := sub.check(); err != nil {
		return fmt.Errorf("hub: serve: %w", err)
	}
	m := newMember(h, engine.Of(s), sub)
	m.server = s
	if !m.session.Attach((*owner)(m)) {
		return fmt.Errorf("hub: serve: %w", errBusy)
	}
	detached := false
	defer func() {
		if !detached {
			m.leave(context.Cause(s.Context()))
			m.session.Release()
		}
	}()
	if !h.admit(m, sub.Topics) {
		m.session.End(sse.ErrShutdown)
		return fmt.Errorf("hub: serve: %w", sse.ErrShutdown)
	}
	if h.cfg.Detached {
		m.session.WillDetach()
	}
	if err := m.open(lastEventID(s), sub.Start); err != nil {
		return err
	}
	detached = h.cfg.Detached && m.session.Detach()
	m.announce()
	m.goOn()
	if detached {
		return nil
	}
	m.session.Pack()
	<-s.Done()
	return context.Cause(s.Context())
}

func lastEventID(s *sse.ServerSession) string {
	if id := s.LastEventID(); id != "" {
		return id
	}
	return lasteventid.FromQuery(s.Call().URL.RawQuery)
}

// open opens the session: it tells of a gap, has the snapshot sent, and sends what is
// due. The client then has an id to come back with, whatever happens next.
func (m *Member) open(id string, start Start) error {
	gap := m.place(id, start)
	r := readers.Get().(*reader)
	defer readers.Put(r)
	if gap != nil {
		m.server.Header().Set(GapHeader, string(gap.Reason))
		if err := m.tell(r, *gap); err != nil {
			return err
		}
	}
	snapshot := m.snapshot != nil && (id == "" || gap != nil)
	if snapshot {
		if err := m.sendSnapshot(r); err != nil {
			return err
		}
	}
	for {
		switch m.deliver(m.hub.head.Load(), r) {
		case statusGap: // since the cursor was placed
			m.server.Header().Set(GapHeader, string(GapExpired))
			if err := m.skip(r, GapExpired, m.cursor.Load()); err != nil {
				return err
			}
		case statusEnded:
			return context.Cause(m.server.Context())
		default:
			if id == "" && gap == nil && !snapshot && m.told.Load() == 0 {
				return m.tellPosition(r)
			}
			return m.server.Open() // if nothing was due
		}
	}
}

// place puts the cursor where the client is, or says why it cannot.
func (m *Member) place(id string, start Start) *Gap {
	h := m.hub
	head := h.head.Load()
	gap := Gap{LastEventID: id, Snapshot: m.snapshot != nil}
	pos, known := h.find(id)
	switch {
	case id == "" && (start.kind != atPosition || m.snapshot != nil):
		m.begin(start, head)
		return nil
	case id == "":
		pos, gap.LastEventID = start.after, start.after.String()
	case !known:
		gap.Reason = GapMalformed
	}
	switch {
	case gap.Reason != "":
	case pos.Epoch != h.epoch:
		gap.Reason = GapEpoch
	case pos.Offset > head:
		gap.Reason = GapAhead
	default:
		if _, ok := m.seek(pos.Offset); ok {
			return nil
		}
		gap.Reason = GapExpired
		if m.snapshot == nil { // all that is left
			gap.Position = Position{h.epoch, m.seekFrom(pos.Offset)}
			return &gap
		}
	}
	gap.Position = Position{h.epoch, m.begin(start, head)}
	return &gap
}

// begin puts the cursor where start says, and returns where that is.
func (m *Member) begin(start Start, head uint64) uint64 {
	switch {
	case m.snapshot != nil:
	case start.kind == atBeginning:
		return m.seekFrom(m.hub.oldest())
	case start.kind == atLatest:
		return m.seekLatest(head)
	case start.kind == atPosition && start.after.Epoch == m.hub.epoch && start.after.Offset < head:
		head = start.after.Offset
	}
	return m.seekFrom(head)
}

// oldest returns the offset right before the oldest event in the log.
func (h *Hub) oldest() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.log.entries.len() == 0 {
		return h.head.Load()
	}
	return h.log.entries.at(0).Position.Offset - 1
}

// find returns the position that id stands for.
func (h *Hub) find(id string) (pos Position, known bool) {
	h.mu.Lock()
	e, own := h.log.own[id]
	h.mu.Unlock()
	if own {
		return e.Position, true
	}
	pos, err := ParsePosition(id)
	return pos, err == nil
}
