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
	// maxName and maxText are the longest name and text of a message, in characters.
	maxName = 24
	maxText = 500

	// maxForm is the largest body of a request, in bytes. It has room for texts that
	// are too long, so that the error can say by how much.
	maxForm = 16 << 10

	// recentMessages is how many of the past messages a new client gets.
	recentMessages = 50

	// cutFor is how long a window waits before it reconnects after cut.
	cutFor = 5 * time.Second
)

// room is the topic that all clients follow.
const room = "room"

// windowTopic returns a second topic, which only the window with this key follows. No
// event is published there. The server uses the topic to find the window's session.
func windowTopic(key string) string { return "window/" + key }

// chat is a chat room. It has a state, which is its people and its recent messages, and
// the events "message", "joined", and "left" change that state. A new client is sent the
// state, as an event "snapshot", and then each event. A client that lost its connection
// is sent the events that it missed, and so reaches the same state. This includes the
// list of people, because every arrival and departure is an event.
//
// The hub's log is in a file or in memory. In a file, the chat continues after a restart;
// see chatfile.go.
type chat struct {
	hub    *hub.Hub
	kept   bool // the log is in a file
	logger *slog.Logger

	// mu is held while the state changes and the change is published. So a snapshot that
	// is taken under mu matches one position of the hub's log, and exactly the changes
	// that it lacks come after that position. A change is published in a millisecond or
	// so, also if the log is in a file. A busier room would publish several at once.
	mu     sync.Mutex
	at     hub.Position // of the last change of the state
	people map[*person]struct{}
	issued int       // the last ID of a person
	said   int       // the last number of a message
	recent []message // oldest first
}

// message is a message in the room. Messages are numbered without gaps, so the page can
// check that none was lost and none came twice.
type message struct {
	Number int       `json:"number"`
	Time   time.Time `json:"time"`
	Name   string    `json:"name"`
	Text   string    `json:"text"`
}

// person is a window in the room, for as long as one connection lasts. Everybody is told
// its ID. Only the window itself is told its key, because with the key one can cut its
// connection.
type person struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	key  string
}

// state is the data of the event "snapshot".
type state struct {
	People   []*person `json:"people"`
	Messages []message `json:"messages"`
}

// newChat returns the room whose events are in log, or an empty room in memory if log is
// nil. If detached is true, its streams live without a goroutine each where that is
// possible; see hub.Config.Detached.
func newChat(ctx context.Context, log hub.Log, detached bool, logger *slog.Logger) (*chat, error) {
	c := &chat{kept: log != nil, logger: logger, people: make(map[*person]struct{})}
	cfg := hub.Config{
		Log:      log,
		Detached: detached,
		OnJoin:   c.joined,
		OnLeave:  c.left,
		Logger:   logger,
	}
	var err error
	if log == nil {
		if c.hub, err = hub.New(cfg); err == nil {
			c.at = c.hub.Position()
		}
		return c, err
	}
	if c.hub, err = hub.Open(ctx, cfg); err != nil {
		return nil, err
	}
	if err := c.restore(ctx, log); err != nil {
		return nil, errors.Join(err, c.hub.Shutdown(ctx))
	}
	return c, nil
}

// events serves the stream. The hub does most of it: it reads from the request what the
// client already has, tells the client of a gap if it cannot resume there, and sends the
// events that follow.
//
// A client that sends a name in its URL is one of the people in the room. A client
// without a name, such as curl, gets the same events and is not listed.
func (c *chat) events(s *sse.ServerSession) error {
	sub := hub.Subscription{Topics: []string{room}, Snapshot: c.snapshot}
	if query := s.Call().URL.Query(); query.Has("name") {
		p := &person{Name: strings.TrimSpace(query.Get("name")), key: rand.Text()}
		if err := check("name", p.Name, maxName); err != nil {
			return sse.Error(http.StatusBadRequest, err)
		}
		// The window's own topic comes first. The hub joins the topics in order, so the
		// session can be found there when joined sends the key.
		sub.Topics = []string{windowTopic(p.key), room}
		sub.Info = p
	}
	return c.hub.Serve(s, sub)
}

// snapshot sends the state, and returns the position in the hub's log that it matches.
func (c *chat) snapshot(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
	st := state{People: []*person{}, Messages: []message{}} // an empty list must not be null in JSON
	c.mu.Lock()
	for p := range c.people {
		st.People = append(st.People, p) // it does not change while it is in the map
	}
	st.Messages = append(st.Messages, c.recent...)
	at := c.at
	c.mu.Unlock()

	// Sending may take a while. It happens after the lock is released, so a slow client
	// delays nobody else. The people are in the order in which they joined.
	slices.SortFunc(st.People, func(a, b *person) int { return a.ID - b.ID })
	return at, s.SendTyped(sse.TypedEvent{Name: "snapshot", Data: st})
}

// live is the data of the event "live", after which all events are new ones. It is sent
// to one session and is not in the hub's log, so it has no id.
type live struct {
	You int    `json:"you,omitempty"` // the client's own ID; absent for a client without a name
	Key string `json:"key,omitempty"` // the client's key for cut
}

// joined adds a client to the room. The hub calls it when the client has been sent
// everything that it missed, and sends the client nothing else until joined returns.
func (c *chat) joined(m *hub.Member, topic string) {
	if topic != room {
		return
	}
	var l live
	if p, ok := m.Info().(*person); ok {
		c.enter(p)
		l = live{p.ID, p.key}
	}
	_ = m.Session().SendTyped(sse.TypedEvent{Name: "live", Data: l}) // if this fails, the hub calls left next
}

// enter gives p an ID, adds it to the people, and publishes that it joined. If that fails, p
// is not among the people.
func (c *chat) enter(p *person) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.issued++
	p.ID = c.issued
	if c.publish("joined", p) == nil {
		c.people[p] = struct{}{}
	}
}

// left removes a client from the room. The hub calls it once for each call of joined, for
// any reason that a session may end for.
func (c *chat) left(m *hub.Member, topic string, _ error) {
	p, ok := m.Info().(*person)
	if topic != room || !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.people[p]; ok {
		delete(c.people, p)
		_ = c.publish("left", p) // if this fails, publish has logged it
	}
}

// publish appends an event with data as JSON to the hub's log, and makes its position that
// of the state. It logs its error, unless that is the hub's shutdown. The caller must hold
// c.mu.
func (c *chat) publish(name string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	// The key is for an event that may or may not be in the log, because the disk was slow.
	// With the key, publishing it again does not publish it twice.
	p := []hub.Publication{{Topic: room, Event: sse.Event{Name: name, Data: string(text)}, Key: rand.Text()}}
	positions, err := c.hub.PublishAll(context.Background(), p)
	if errors.Is(err, hub.ErrUnknown) {
		positions, err = c.hub.PublishAll(context.Background(), p)
	}
	if err != nil {
		if !errors.Is(err, sse.ErrShutdown) {
			c.logger.Error("an event of the chat could not be published", "event", name, "error", err)
		}
		return err
	}
	c.at = positions[0]
	return nil
}

// say publishes a message from a form with the fields "name" and "text". It answers with
// the event's id.
//
// Any client can use any name here. Where that matters, take the name from the login.
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
		reason := "the message could not be written to the chat's file"
		if errors.Is(err, sse.ErrShutdown) {
			reason = "the server is about to restart"
		}
		http.Error(w, reason+"; try again in a moment", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintln(w, pos)
}

// add adds a message to the state and publishes it.
func (c *chat) add(name, text string) (hub.Position, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	msg := message{Number: c.said + 1, Time: time.Now().UTC().Truncate(time.Millisecond), Name: name, Text: text}
	if err := c.publish("message", msg); err != nil {
		return hub.Position{}, err // nobody is sent the message, so it is not in the state either
	}
	c.remember(msg)
	return c.at, nil
}

// remember adds a message to the state. The caller must hold c.mu.
func (c *chat) remember(msg message) {
	c.said = msg.Number
	if len(c.recent) == recentMessages {
		c.recent = slices.Delete(c.recent, 0, 1)
	}
	c.recent = append(c.recent, msg)
}

// errCut is the error of a session that cut has ended. It appears in the server's log.
var errCut = errors.New("the page asked the server to cut its connection")

// cut ends the session of the window with the key in the form, and makes the window wait
// for cutFor before it reconnects. To the browser it looks like a lost connection.
func (c *chat) cut(w http.ResponseWriter, r *http.Request) {
	if !parseForm(w, r) {
		return
	}
	found := false
	for m := range c.hub.Members(windowTopic(r.PostForm.Get("key"))) {
		// This applies until the window reconnects: each stream starts with the usual
		// retry.
		_ = m.Session().Send(sse.Event{Retry: cutFor}) // fails if the stream has already ended
		m.Kick(errCut)
		found = true
	}
	if !found {
		http.Error(w, "this window is not connected", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// parseForm parses the form in the body of r, and reports whether that worked. If not, it
// has answered the request.
func parseForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseForm()
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		http.Error(w, fmt.Sprintf("the form is too large; it must have at most %d bytes", tooLarge.Limit), http.StatusRequestEntityTooLarge)
		return false
	}
	if err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return false
	}
	return true
}

// check returns an error that tells the user what is wrong with the text of a field, or
// nil. A text must be valid UTF-8 of 1 to limit characters without control characters.
func check(field, text string, limit int) error {
	switch n := utf8.RuneCountInString(text); {
	case text == "":
		return fmt.Errorf("the %s must not be empty", field)
	case !utf8.ValidString(text):
		return fmt.Errorf("the %s must be valid UTF-8", field)
	case n > limit:
		return fmt.Errorf("the %s has %d characters; it must have at most %d", field, n, limit)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("the %s must not have line breaks or other control characters", field)
	}
	return nil
}
