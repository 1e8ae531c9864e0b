package hub

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/lasteventid"
)

const (
	// GapEvent is the name of the event that tells a client of a gap. Its data is a [Gap]
	// as JSON. Its id is that of the position after which the stream continues. If a snapshot
	// follows, the gap event has no id, and that id comes after the snapshot. With
	// Config.OwnIDs neither has an id: a client that reconnects before its next event is
	// told of the gap again.
	GapEvent = "gap"

	// GapHeader is the response header that tells a client of a gap when its stream opens.
	// Its value is the [GapReason].
	GapHeader = "Sse-Gap"
)

// GapReason says why a stream has a gap.
type GapReason string

// The reasons for a gap.
const (
	// GapExpired: the log no longer holds every event after the client's last one.
	GapExpired GapReason = "expired"

	// GapEpoch: the client's position has another epoch. It is from another hub, or from
	// this one before its process restarted, or from before a change of Config.IDKey.
	GapEpoch GapReason = "epoch"

	// GapAhead: the client's position is after the hub's newest event.
	GapAhead GapReason = "ahead"

	// GapMalformed: the client's last event id has not the form of the hub's, or has more than 4 KiB. With Config.OwnIDs it is
	// not the id of an event that the client's topics have in the log; its event may have
	// left the log.
	GapMalformed GapReason = "malformed"

	// GapReplay: the events after the client's last one are more than Config.MaxReplay.
	GapReplay GapReason = "replay"

	// GapLost: the hub's Log (Config.Log) could not give it all events.
	GapLost GapReason = "lost"

	// GapSlow: the client is connected, and so slow that events have left the log before
	// they could be sent to it.
	GapSlow GapReason = "slow"
)

var gapReasons = [...]GapReason{GapExpired, GapEpoch, GapAhead, GapMalformed, GapReplay, GapLost, GapSlow}

// Gap tells a client that it has, as far as the hub can know, missed events, and how the
// stream continues. A client that keeps state from events should treat that state as stale,
// unless a snapshot follows.
type Gap struct {
	Reason      GapReason `json:"reason"`
	LastEventID string    `json:"lastEventId"`       // the id that the client came with, unless it has more than 4 KiB, or that of the position that it had reached; not the latter with Config.OwnIDs
	Position    Position  `json:"position,omitzero"` // the stream continues after this one; absent with Config.OwnIDs or Config.IDKey
	Snapshot    bool      `json:"snapshot"`          // whether a snapshot follows
}

func (h *Hub) countGap(reason GapReason) {
	h.stats.gaps[slices.Index(gapReasons[:], reason)].Add(1)
}

// event returns the event that tells a client of g. It has no id.
func (g Gap) event() (event.Event, error) {
	data, err := json.Marshal(g)
	return event.Event{Name: GapEvent, Data: string(data)}, err
}

// resumeAfterGap moves m's cursor to offset, or to the lowest later one after which every
// topic's tail is complete. It tells the client of the gap, and sends the snapshot if there
// is one; the cursor then moves to the head first, since a snapshot is of the present. If the
// gap follows a snapshot that was old, it is not sent again. The caller has claimed m.
func (m *Member) resumeAfterGap(r *reader, reason GapReason, offset uint64) error {
	gap := Gap{Reason: reason, LastEventID: m.hub.ID(m.position()), Snapshot: m.snapshot != nil}
	if m.logged != nil && m.logged.old {
		gap.Snapshot, m.logged.old = false, false
	}
	if r.opening != nil {
		if m.hub.cfg.OwnIDs && m.lastID.Load() == 0 {
			gap.LastEventID = r.opening.id
		}
		m.server.Header().Set(GapHeader, string(reason)) // has no effect if something was sent
	}
	if gap.Snapshot {
		offset = m.hub.head.Load()
	}
	m.resumeAt(offset)
	if err := m.resumeAtLast(); err != nil {
		return err
	}
	gap.Position = m.position()
	if err := m.sendGap(r, gap); err != nil {
		return err
	}
	if !gap.Snapshot {
		return nil
	}
	return m.sendSnapshot(r)
}

// position returns m's cursor as a position.
func (m *Member) position() Position { return m.hub.spans.position(m.cursor.Load()) }

// sendGap tells the client of gap. The event's id is the position after which the stream
// continues. Before a snapshot it has no id: a client that is cut off before it has the
// snapshot must not resume as if it had it. With OwnIDs it never has one. The caller has
// claimed m.
func (m *Member) sendGap(r *reader, gap Gap) error {
	m.hub.countGap(gap.Reason)
	m.hub.cfg.Logger.Info("hub: client told of a gap", "reason", gap.Reason, "lastEventId", idForLog(gap.LastEventID), "position", gap.Position, "topics", m.topicsForLog())
	if len(gap.LastEventID) > lasteventid.Max {
		gap.LastEventID = "" // the client would be sent several times what it has sent
	}
	offset, id := m.cursor.Load(), m.hub.ID(gap.Position)
	if m.hub.cfg.OwnIDs || m.hub.idKey != nil {
		gap.Position = Position{}
	}
	ev, err := gap.event()
	switch {
	case err != nil:
		return err
	case gap.Snapshot:
		offset = m.lastID.Load()
	default:
		ev.ID = id
	}
	return m.sendEvent(r, ev, offset)
}

// idForLog returns the beginning of id, which a client may have made up.
func idForLog(id string) string {
	const most = 64
	if len(id) <= most {
		return id
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(id[:most], ""), len(id))
}

// sendPosition sends the cursor as an event's id, without data, so that the client can
// resume before it has received an event. It must not be called without sendsIDOnly. The caller has
// claimed m.
func (m *Member) sendPosition(r *reader) error {
	cursor := m.cursor.Load()
	return m.sendEvent(r, event.Event{ID: m.hub.ID(m.hub.spans.position(cursor))}, cursor)
}

// sendEvent sends an event that is not in the log, and waits for the client if it must.
// offset is the last id that the client then has. The caller has claimed m.
func (m *Member) sendEvent(r *reader, ev event.Event, offset uint64) error {
	frame, err := ev.AppendText(nil)
	if err != nil {
		return err
	}
	pending, err := m.tryFrame(r, frame)
	if err == nil && pending {
		err = m.session.Finish()
	}
	if err == nil {
		m.lastID.Store(offset)
	}
	return err
}
