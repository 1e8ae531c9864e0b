package stream

// Tally says which events one connection has received. Nearly always it is all up to
// some number; only a stream with gaps costs more than that number.
type Tally struct {
	next       int // above all that were received
	gaps       []gap
	missing    int // in gaps
	duplicates int
}

// gap is the numbers from from up to, but without, to.
type gap struct{ from, to int }

// Start forgets everything: the first event to come is base.
func (t *Tally) Start(base int) { *t = Tally{next: base} }

// Add counts event seq, and reports whether it was new.
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

// Next is one more than the highest number received.
func (t *Tally) Next() int { return t.next }

// Missing is how many of the events below end have not come.
func (t *Tally) Missing(end int) int { return t.missing + max(0, end-t.next) }

// Duplicates is how many events came again.
func (t *Tally) Duplicates() int { return t.duplicates }

// Floor knows up to which event all of n connections have received everything.
type Floor struct {
	n     int
	base  int
	floor int
	count []int32 // how many have event base+i
}

// NewFloor returns the floor of n connections that receive base and what follows.
func NewFloor(n, base int) *Floor { return &Floor{n: n, base: base, floor: base} }

// Add counts one connection that has received event seq, for the first time.
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

// Floor is the first event that some connection lacks.
func (f *Floor) Floor() int { return f.floor }
