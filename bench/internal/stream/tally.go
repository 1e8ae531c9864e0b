package stream

// Tally records which events one connection has received. Nearly always these are all
// events up to some number, and then a Tally stores only that number. Only a stream with
// gaps takes more.
type Tally struct {
	next       int // one more than the highest number received
	gaps       []gap
	missing    int // events in gaps
	duplicates int
}

// gap holds the sequence numbers of missing events: from from up to, but not including, to.
type gap struct{ from, to int }

// Start forgets all events and expects base as the first one.
func (t *Tally) Start(base int) { *t = Tally{next: base} }

// Add records event seq and reports whether it is new.
func (t *Tally) Add(seq int) bool {
	switch {
	case seq == t.next:
		t.next++
		return true
	case seq > t.next:
		t.gaps = append(t.gaps, gap{t.next, seq})
		t.missing += seq - t.next
		t.next = seq + 1
		return true
	}
	for i, g := range t.gaps {
		if g.from <= seq && seq < g.to {
			t.gaps[i].to = seq
			if seq+1 < g.to {
				t.gaps = append(t.gaps, gap{seq + 1, g.to})
			}
			t.missing--
			return true
		}
	}
	t.duplicates++
	return false
}

// Next returns one more than the highest number received, or the base if there is none.
func (t *Tally) Next() int { return t.next }

// Missing returns how many of the events below end have not come.
func (t *Tally) Missing(end int) int { return t.missing + max(0, end-t.next) }

// Duplicates returns how many times an event came again.
func (t *Tally) Duplicates() int { return t.duplicates }

// Floor tracks the first event that at least one of n connections still lacks.
type Floor struct {
	n     int     // connections
	base  int     // the first event
	floor int     // the first event that some connection lacks
	count []int32 // at i, how many connections have event base+i
}

// NewFloor returns the Floor of n connections whose first event is base.
func NewFloor(n, base int) *Floor { return &Floor{n: n, base: base, floor: base} }

// Add records that one connection has received event seq for the first time. Events below
// the base do not count.
func (f *Floor) Add(seq int) {
	i := seq - f.base
	if i < 0 {
		return
	}
	for i >= len(f.count) {
		f.count = append(f.count, 0)
	}
	f.count[i]++
	for f.floor-f.base < len(f.count) && int(f.count[f.floor-f.base]) == f.n {
		f.floor++
	}
}

// Floor returns the first event that some connection lacks.
func (f *Floor) Floor() int { return f.floor }
