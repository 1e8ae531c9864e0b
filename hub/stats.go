package hub

import "sync/atomic"

// Stats reports what a hub holds now, and what it has done since it was made.
type Stats struct {
	Topics    int   // topics that have events in the log, or followers
	Members   int   // sessions that the hub serves
	LogEvents int   // events in the log
	LogSize   int64 // about how much memory the log takes, in bytes

	Published uint64 // events that were published
	Delivered uint64 // events that were sent, counted once for each member
	Evicted   uint64 // events that have left the log

	Gaps  map[GapReason]uint64 // gaps that clients were told of
	Ended uint64               // sessions that SlowEnd has ended

	Invalid uint64 // records of Config.Log that could not be delivered; their clients were told of a gap
}

type counters struct {
	published atomic.Uint64
	ended     atomic.Uint64
	invalid   atomic.Uint64
	gaps      [len(gapReasons)]atomic.Uint64
}

// Stats returns the hub's statistics. The numbers are not all of the same instant.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	st := Stats{
		Topics:    len(h.topics),
		Members:   h.members,
		LogEvents: h.log.entries.len(),
		LogSize:   h.log.size,
		Evicted:   h.log.evicted,
	}
	h.mu.Unlock()
	st.Published = h.stats.published.Load()
	st.Ended = h.stats.ended.Load()
	st.Invalid = h.stats.invalid.Load()
	st.Gaps = make(map[GapReason]uint64)
	for i, reason := range gapReasons {
		if n := h.stats.gaps[i].Load(); n > 0 {
			st.Gaps[reason] = n
		}
	}
	for _, sh := range h.shards {
		st.Delivered += sh.delivered.Load()
	}
	return st
}
