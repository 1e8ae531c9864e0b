package soak

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/chi-sse/sse/hub"
)

// era is a hub and what was published to it.
type era struct {
	hub    *hub.Hub
	epoch  uint64
	ledger ledger

	closeLog func() error // closes and removes the hub's file; nil if it has none

	closing chan struct{} // closed before the hub is shut down
	closed  chan struct{} // closed afterwards
}

// lost returns the offset up to which the hub has lost events: what has left its memory, or
// none if that is in a file too.
func (e *era) lost() uint64 {
	if e.closeLog != nil {
		return 0
	}
	return e.hub.Stats().Evicted
}

// topic is the name of a topic in short: a slot, and which of the topics that the slot has had.
type topic uint32

func (t topic) slot() int      { return int(t >> 16) }
func (t topic) String() string { return fmt.Sprintf("t%d.%d", t.slot(), t&0xffff) }

func topicNames(topics []topic) []string {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.String()
	}
	return names
}

// ledger knows the newest events that were published to a hub. It takes the same memory all
// the time, so that the soak itself does not grow.
type ledger struct {
	mu    sync.RWMutex
	ring  [ledgerSize]entry
	noted uint64           // every event up to this offset is noted
	last  map[topic]uint64 // offset of the topic's newest event
}

const ledgerSize = 1 << 15

type entry struct {
	offset uint64
	sum    uint64
	at     int64 // when it was about to be published, in nanoseconds since 1970
	topic  topic
	size   uint32 // of the frame
	odd    bool
}

// note notes an event. Publishers note concurrently, so not in the order of the offsets.
func (l *ledger) note(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring[e.offset%ledgerSize] = e
	l.last[e.topic] = max(l.last[e.topic], e.offset)
	for l.ring[(l.noted+1)%ledgerSize].offset == l.noted+1 {
		l.noted++
	}
}

// await waits until every event up to offset is noted. It reports false if that does not
// happen.
func (l *ledger) await(offset uint64) bool {
	for range 20_000 {
		l.mu.RLock()
		noted := l.noted
		l.mu.RUnlock()
		if noted >= offset {
			return true
		}
		time.Sleep(200 * time.Microsecond)
	}
	return false
}

// get returns the event at offset. It must be one that await has waited for.
func (l *ledger) get(offset uint64) entry {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.ring[offset%ledgerSize]
}

// newest returns the offset of the newest event of t.
func (l *ledger) newest(t topic) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.last[t]
}

// scan calls f for each event after from, up to to. It reports false if the ledger does not
// know all of them.
func (l *ledger) scan(from, to uint64, f func(e *entry)) bool {
	if from >= to {
		return true
	}
	if !l.await(to) {
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for offset := from + 1; offset <= to; offset++ {
		e := &l.ring[offset%ledgerSize]
		if e.offset != offset {
			return false
		}
		f(e)
	}
	return true
}

// oldest returns the lowest offset from which on scan works for sure.
func (l *ledger) oldest() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.noted < ledgerSize-1000 {
		return 0
	}
	return l.noted - (ledgerSize - 1000)
}

var sumSeed = maphash.MakeSeed()

func sumOf(data string) uint64 { return maphash.String(sumSeed, data) }

// isOdd says which events a filter accepts: those whose number is odd. It looks at the data
// alone, as a filter does.
func isOdd(data string) bool {
	_, rest, _ := strings.Cut(data, " ")
	number, _, _ := strings.Cut(rest, " ")
	return number != "" && number[len(number)-1]&1 == 1
}
