package hub

import (
	"encoding/json"
	"slices"

	"github.com/chi-sse/sse/event"
)

const (
	// GapEvent is the name of the event that tells a client of a gap. Its data is a
	// [Gap] as JSON. Its id is the position from which the stream goes on; but if a
	// snapshot follows, that comes behind the snapshot.
	GapEvent = "gap"

	// GapHeader is the response header that tells of a gap at the opening of a stream.
	// Its value is the [GapReason].
	GapHeader = "Sse-Gap"
)

// GapReason says why a stream has a gap.
type GapReason string

// The reasons for a gap.
const (
	// GapExpired: the log does not have all anymore that came after the client's last
	// event.
	GapExpired GapReason = "expired"

	// GapEpoch: the client's position is one of another hub, or of this one before it
	// was started anew.
	GapEpoch GapReason = "epoch"

	// GapAhead: the client's position is yet to come.
	GapAhead GapReason = "ahead"

	// GapMalformed: the client's last event id is neither a position nor that of an
	// event in the log. An id of the application's own may have been, and have expired.
	GapMalformed GapReason = "malformed"

	// GapSlow: the client, which is connected, is so slow that events have left the log
	// before they could be sent.
	GapSlow GapReason = "slow"
)

var gapReasons = [...]GapReason{GapExpired, GapEpoch, GapAhead, GapMalformed, GapSlow}

// Gap tells a client that it has missed events, as far as can be known, and how the
// stream goes on. A client that keeps state from events should take what it has for
// stale, unless a snapshot follows.
type Gap struct {
	Reason      GapReason `json:"reason"`
	LastEventID string    `json:"lastEventId"` // what the client came with, or had got to
	Position    Position  `json:"position"`    // what the stream goes on behind
	Snapshot    bool      `json:"snapshot"`    // whether one follows
}

func (h *Hub) countGap(reason GapReason) {
	h.stats.gaps[slices.Index(gapReasons[:], reason)].Add(1)
}

// event returns the event that tells of g.
func (g Gap) event() (event.Event, error) {
	data, err := json.Marshal(g)
	return event.Event{ID: g.Position.String(), Name: GapEvent, Data: string(data)}, err
}
