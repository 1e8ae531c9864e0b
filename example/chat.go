package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

const (
	// maxName and maxText bound what people say, in characters.
	maxName = 24
	maxText = 500

	// maxForm bounds a request's body, in bytes. It is more than the texts above
	// may take, so that those get an error that says what is wrong with them.
	maxForm = 16 << 10

	// recentMessages is what a newcomer sees of the talk so far.
	recentMessages = 50

	// cutFor is how long a window stays away whose connection was cut.
	cutFor = 5 * time.Second
)

// The room is one topic, which all follow. Each window also follows one of its
// own. Nothing is published there: it is how the server finds the window.
const room = "room"

func windowTopic(key string) string { return "window/" + key }

// chat is a room of people who talk. It is a state, and events that change it:
// "message", "joined" and "left". A newcomer is sent the state, as an event
// "snapshot", and from then on the events. A window that lost its connection is
// sent the events it missed, and so arrives at the same state: at the same list of
// people too, since who comes and goes is in the log like all else.
type chat struct {
	hub *hub.Hub

	// mu is held while the state changes and the change is published. A snapshot
	// that is taken under it therefore stands at one position of the log, and
	// what follows behind that position is just what it lacks.
	mu     sync.Mutex
	people map[*person]struct{}
	issued int       // the last ID of a person
	said   int       // the last number of a message
	recent []message // oldest first
}

// message is one thing said. Its numbers have no holes, which lets the page check
// that none was lost and none came twice.
type message struct {
	Number int       `json:"number"`
	Time   time.Time `json:"time"`
	Name   string    `json:"name"`
	Text   string    `json:"text"`
}

// person is a window that is here, for as long as one connection lasts. All know
// its ID. The key only it knows, since who has that can cut its connection.
type person struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	key  string
}

// state is what a newcomer is told.
type state struct {
	People   []*person `json:"people"`
	Messages []message `json:"messages"`
}

func newChat(detached bool, logger *slog.Logger) (*chat, error) {
	c := &chat{people: make(map[*person]struct{})}
	var err error
	c.hub, err = hub.New(hub.Config{
		Detached: detached,
		OnJoin:   c.joined,
		OnLeave:  c.left,
		Logger:   logger,
	})
	return c, err
}

// events is the stream. The hub does the rest: it finds out where the client was,
// tells of a gap if it cannot go on there, and sends what comes.
//
// Who has a name is one of the people. Without one, as with curl, one looks on.
func (c *chat) events(s *sse.ServerSession) error {
	sub := hub.Subscription{Topics: []string{room}, Snapshot: c.snapshot}
	if query := s.Call().URL.Query(); query.Has("name") {
		p := &person{Name: strings.TrimSpace(query.Get("name")), key: rand.Text()}
		if err := check("name", p.Name, maxName); err != nil {
			return sse.Error(http.StatusBadRequest, err)
		}
		// Its own topic is the first that it joins, so that it can be found there by
		// the time it is told its key.
		sub.Topics = []string{windowTopic(p.key), room}
		sub.Info = p
	}
	return c.hub.Serve(s, sub)
}

// snapshot sends the state, and says at which position of the log it stands.
func (c *chat) snapshot(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
	st := state{People: []*person{}, Messages: []message{}} // lists also when they are empty
	c.mu.Lock()
	for p := range c.people {
		st.People = append(st.People, p) // who is in there does not change anymore
	}
	st.Messages = append(st.Messages, c.recent...)
	at := c.hub.Position()
	c.mu.Unlock()

	// To send may take a while, which is nobody's business but this client's: the
	// lock is free again. Those who came first stand first.
	slices.SortFunc(st.People, func(a, b *person) int { return a.ID - b.ID })
	return at, s.SendTyped(sse.TypedEvent{Name: "snapshot", Data: st})
}

// live is the data of an event that says: what comes from here on is new. It goes
// to one session, not through the log, and so it has no id.
type live struct {
	You int    `json:"you,omitempty"` // the person that the client is
	Key string `json:"key,omitempty"` // for cut
}

// joined is called by the hub when a client has been sent all that it missed, and
// before it is sent anything else.
func (c *chat) joined(m *hub.Member, topic string) {
	if topic != room {
		return
	}
	var l live
	if p, ok := m.Info().(*person); ok {
		c.enter(p)
		l = live{p.ID, p.key}
	}
	_ = m.Session().SendTyped(sse.TypedEvent{Name: "live", Data: l}) // if it fails, left is called next
}

func (c *chat) enter(p *person) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.issued++
	p.ID = c.issued
	c.people[p] = struct{}{}
	_, _ = c.publish("joined", p) // it fails only when the hub has been shut down
}

// left is called by the hub once for each call of joined, whatever has ended the
// session.
func (c *chat) left(m *hub.Member, topic string, _ error) {
	p, ok := m.Info().(*person)
	if topic != room || !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.people, p)
	_, _ = c.publish("left", p) // as above
}

// publish appends an event to the log, whose JSON is data. c.mu is held.
func (c *chat) publish(name string, data any) (hub.Position, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return hub.Position{}, err
	}
	return c.hub.Publish(context.Background(), room, sse.Event{Name: name, Data: string(text)})
}

// say takes a form with a name and a text, and answers with the id of the event
// that it became.
//
// Anybody can use any name here. Where that matters, take it from the login.
func (c *chat) say(w http.ResponseWriter, r *http.Request) {
	if !parseForm(w, r) {
		return
	}
	name, text := strings.TrimSpace(r.PostForm.Get("name")), strings.TrimSpace(r.PostForm.Get("text"))
	if err := errors.Join(check("name", name, maxName), check("text", text, maxText)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pos, err := c.add(name, text)
	if err != nil {
		http.Error(w, "the server is about to restart; try again in a moment", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintln(w, pos)
}

func (c *chat) add(name, text string) (hub.Position, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	msg := message{Number: c.said + 1, Time: time.Now().UTC().Truncate(time.Millisecond), Name: name, Text: text}
	pos, err := c.publish("message", msg)
	if err != nil {
		return pos, err // nobody has seen it: the state stays as it is
	}
	c.said++
	if len(c.recent) == recentMessages {
		c.recent = slices.Delete(c.recent, 0, 1)
	}
	c.recent = append(c.recent, msg)
	return pos, nil
}

// errCut is for the server's log: why the session of a window ended.
var errCut = errors.New("its page asked for it")

// cut ends the session of one window, and has it stay away for a while. The
// browser takes it for a lost connection.
func (c *chat) cut(w http.ResponseWriter, r *http.Request) {
	if !parseForm(w, r) {
		return
	}
	found := false
	for m := range c.hub.Members(windowTopic(r.PostForm.Get("key"))) {
		// It holds until the next connection, which begins with our usual retry.
		_ = m.Session().Send(sse.Event{Retry: cutFor}) // it may have gone by itself
		m.Kick(errCut)
		found = true
	}
	if !found {
		http.Error(w, "this window is not connected", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// parseForm answers the request itself if it returns false.
func parseForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseForm()
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		http.Error(w, fmt.Sprintf("the form is too large: %d bytes are the most", tooLarge.Limit), http.StatusRequestEntityTooLarge)
		return false
	}
	if err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return false
	}
	return true
}

// check says what is wrong with what somebody has typed, in words for them.
func check(field, text string, limit int) error {
	switch n := utf8.RuneCountInString(text); {
	case text == "":
		return fmt.Errorf("the %s is empty", field)
	case !utf8.ValidString(text):
		return fmt.Errorf("the %s is not valid UTF-8", field)
	case n > limit:
		return fmt.Errorf("the %s is too long: %d characters, of at most %d", field, n, limit)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("the %s has a line break or another control character", field)
	}
	return nil
}
