package soak

import (
	"fmt"
	"strings"
	"time"
)

// trace is what a client has seen last, for the report of a fault.
type trace struct {
	notes [48]note
	n     int
}

type note struct {
	at    time.Time
	what  string
	topic topic
	a, b  uint64
}

func (tr *trace) note(what string, t topic, a, b uint64) {
	tr.notes[tr.n%len(tr.notes)] = note{time.Now(), what, t, a, b}
	tr.n++
}

// String returns the newest notes, the oldest of them first.
func (tr *trace) String() string {
	var b strings.Builder
	for i := max(0, tr.n-len(tr.notes)); i < tr.n; i++ {
		x := tr.notes[i%len(tr.notes)]
		fmt.Fprintf(&b, "\n\t%s %s %v %d %d", x.at.Format("05.000"), x.what, x.topic, x.a, x.b)
	}
	return b.String()
}
