package chat

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

const (
	// RecentMessages is how many of the past messages a new client gets.
	RecentMessages = 50

	// maxPosted is of how many messages the room knows the IDs.
	maxPosted = 1000
)

// Message is a message in the room. Messages are numbered without gaps, so the page can
// check that none was lost and none came twice.
type Message struct {
	Number int       `json:"number"`
	Time   time.Time `json:"time"`
	Name   string    `json:"name"`
	Text   string    `json:"text"`
	ID     string    `json:"id"` // the sender chooses it; see say
}

// State is the data of the event "snapshot".
type State struct {
	People   []*Person `json:"people"`   // in the order in which they joined
	Messages []Message `json:"messages"` // oldest first
}

// State returns the state of the room, and the position of the last event that is in it.
func (r *Room) State() (State, hub.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := State{People: []*Person{}, Messages: []Message{}} // an empty list must not be null in JSON
	st.People = append(st.People, r.state.people...)        // nobody changes them
	st.Messages = append(st.Messages, r.state.recent...)
	return st, r.state.at
}

// state is what the events up to a position amount to. It depends on nothing else, so it is
// the same on all nodes that have come to that position.
type state struct {
	at     hub.Position
	people []*Person
	said   int       // the last number of a message
	recent []Message // oldest first

	posted map[string]hub.Position // by the messages' IDs
	order  []string                // the keys of posted, oldest first
}

func newState(at hub.Position) state {
	return state{at: at, posted: make(map[string]hub.Position)}
}

// applyAll applies the records of a batch, which may have come before, and moves to its end.
func (s *state) applyAll(b hub.Batch) {
	for _, rec := range b.Records {
		if rec.Kind == hub.EventRecord && rec.Topic == topic && rec.Offset > s.at.Offset {
			s.apply(hub.Position{Epoch: s.at.Epoch, Offset: rec.Offset}, rec.Event)
		}
	}
	s.at.Offset = max(s.at.Offset, b.UpTo)
}

// apply applies the event at pos. It skips one that is not of this program.
func (s *state) apply(pos hub.Position, ev sse.Event) {
	s.at = pos
	var (
		data = []byte(ev.Data)
		m    Message
		p    Person
		node started
	)
	switch {
	case ev.Name == "message" && json.Unmarshal(data, &m) == nil:
		s.remember(m, pos)
	case ev.Name == "joined" && json.Unmarshal(data, &p) == nil:
		s.people = append(s.people, &p)
	case ev.Name == "left" && json.Unmarshal(data, &p) == nil:
		s.people = slices.DeleteFunc(s.people, func(other *Person) bool { return other.ID == p.ID })
	case ev.Name == "started" && json.Unmarshal(data, &node) == nil:
		s.people = slices.DeleteFunc(s.people, func(p *Person) bool { return p.Node == node.Node })
	}
}

// remember adds a message.
func (s *state) remember(m Message, pos hub.Position) {
	s.said = m.Number
	if len(s.recent) == RecentMessages {
		s.recent = slices.Delete(s.recent, 0, 1)
	}
	s.recent = append(s.recent, m)
	if len(s.order) == maxPosted {
		delete(s.posted, s.order[0])
		s.order = s.order[1:]
	}
	s.posted[m.ID] = pos
	s.order = append(s.order, m.ID)
}
