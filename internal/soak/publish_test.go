package soak

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/chi-sse/sse"
)

const (
	slots         = 72  // topics at a time
	rate          = 300 // events a second of a mode
	topicLifetime = 250 // events of a mode until one of its topics is given up for a new one
	largest       = 100 << 10
)

// filler is what events are filled with. It has line breaks, and text that is not ASCII.
var filler = strings.Repeat(strings.Repeat("plain text and more of it, ", 40)+"\nžluťoučký kůň, ", 2*largest/1000)

// topicOf returns the topic that slot has now.
func (m *mode) topicOf(slot int) topic { return topic(slot<<16) | topic(m.given[slot].Load()) }

// randomTopic returns a topic. Low slots are busier, and have more followers.
func (m *mode) randomTopic(r *rand.Rand) topic {
	f := r.Float64()
	return m.topicOf(int(f * f * slots))
}

// publish publishes to m's hub until quiet is closed. Several goroutines do.
func (m *mode) publish(r *rand.Rand, quiet <-chan struct{}) {
	mean := time.Duration(float64(2*time.Second) / (rate * m.soak.load))
	for next := time.Now(); ; {
		next = next.Add(exponential(r, mean))
		pause(time.Until(next), quiet)
		select {
		case <-quiet:
			return
		default:
			if time.Since(next) > time.Second { // the machine is busy: no burst afterwards
				next = time.Now()
			}
			m.publishOne(r)
		}
	}
}

func (m *mode) publishOne(r *rand.Rand) {
	t := m.randomTopic(r)
	data := fmt.Sprintf("%v %d ", t, m.number.Add(1))
	size := 0
	switch pick(r, 900, 90, 10) { // 20 B to 100 KB
	case 0:
		size = 20 + r.IntN(500)
	case 1:
		size = int(500 * math.Pow(20, r.Float64()))
	case 2:
		size = int(10_000 * math.Pow(largest/10_000.0, r.Float64()))
	}
	if size > len(data) {
		data += strings.ToValidUTF8(filler[r.IntN(1000):][:size-len(data)], "?")
	}
	e, ev := m.era.Load(), sse.Event{Data: data}
	at := time.Now().UnixNano()
	pos, err := e.hub.Publish(context.Background(), t.String(), ev)
	if err != nil {
		select {
		case <-e.closing: // the hub has been renewed
		default:
			m.soak.fault("%s: publish: %v", m.name, err)
		}
		return
	}
	ev.ID = pos.String()
	frame, _ := ev.AppendText(nil)
	e.ledger.note(entry{pos.Offset, sumOf(data), at, t, uint32(len(frame)), isOdd(data)})
	m.soak.published.Add(1)
	m.soak.publishedBytes.Add(int64(len(frame)))
	if r.IntN(topicLifetime) == 0 { // nobody publishes to it or begins to follow it again
		m.given[t.slot()].Add(1)
		m.soak.topics.Add(1)
	}
}
