// Package chat is a chat room, whose stream package hub broadcasts.
//
// The room has a state, which is its people and its recent messages, and the events
// "message", "joined", "left", and "started" change that state. A new client is sent the
// state, as an event "snapshot", and then each event. A client that lost its connection is
// sent the events that it missed, and so reaches the same state. This includes the list of
// people, because every arrival and departure is an event.
//
// The events are in memory, or in a hub.Log. In a log, the chat continues after a restart,
// and several nodes that share the log are one room.
//
//   - room.go is the room, its stream, and who joins and leaves it.
//   - state.go is the state, and follow.go keeps it up to date with the log.
//   - say.go has the requests that add a message and cut a connection.
package chat

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// topic is the topic that all clients follow.
const topic = "room"

// windowTopic returns a second topic, which only the window with this key follows. The
// server uses the topic to find the window's session.
func windowTopic(key string) string { return "window/" + key }

// Config says where the room's events are.
type Config struct {
	// Log has the room's events, also those of earlier runs. Without one they are in memory,
	// and are lost when the program ends.
	Log hub.Log

	// Node is the name of this program among those that share the Log. It is "" if it is the
	// only one.
	Node string

	// Detached lets the streams live without a goroutine each where that is possible; see
	// hub.Config.Detached.
	Detached bool

	Logger *slog.Logger
}

// Room is a chat room.
type Room struct {
	hub    *hub.Hub
	node   string
	kept   bool // there is a Log
	logger *slog.Logger

	// saying is held while a message is added: its number is one more than that of the
	// last one, and so a node adds one at a time.
	saying sync.Mutex

	// appending is held, without a Log, while an event is published and applied, so that
	// events are applied in their order. A hub with a Log reads them from it in order.
	appending sync.Mutex

	mu    sync.Mutex // guards state
	state state
}

// New opens the room. Shut it down before its Log is closed.
func New(ctx context.Context, cfg Config) (*Room, error) {
	r := &Room{node: cfg.Node, kept: cfg.Log != nil, logger: cfg.Logger}
	hubConfig := hub.Config{Detached: cfg.Detached, OnJoin: r.joined, OnLeave: r.left, Logger: cfg.Logger}
	var err error
	if cfg.Log == nil {
		if r.hub, err = hub.New(hubConfig); err == nil {
			r.state = newState(r.hub.Position())
		}
		return r, err
	}
	hubConfig.Log = followed{cfg.Log, r}
	if r.hub, err = hub.Open(ctx, hubConfig); err != nil {
		return nil, err
	}
	// After a crash, the log does not have an event "left" for each of the people who were
	// in the room. The event "started" is the departure of all those of this node.
	started, err := r.publish("started", started{r.node}, rand.Text())
	if err == nil {
		err = r.hub.Wait(ctx, started)
	}
	if err != nil {
		return nil, errors.Join(err, r.hub.Shutdown(ctx))
	}
	return r, nil
}

// Routes adds the room's stream, and the requests of its page.
func (r *Room) Routes(router *sse.Router) {
	router.SSE("/chat/events", r.events)
	router.Post("/chat/messages", r.say)
	router.Post("/chat/cut", r.cut)
}

// Hub returns the hub of the room.
func (r *Room) Hub() *hub.Hub { return r.hub }

// Kept reports whether the room has a log.
func (r *Room) Kept() bool { return r.kept }

// Person is a window in the room, for as long as one connection lasts. Everybody is told
// its ID. Only the window itself is told its key, because with the key one can cut its
// connection.
type Person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Node string `json:"node,omitempty"` // to which it is connected

	key    string
	joined bool // the event may have been published; only the hooks use it
}

// events serves the stream. The hub does most of it: it reads from the request what the
// client already has, tells the client of a gap if it cannot resume there, and sends the
// events that follow.
//
// A client that sends a name in its URL is one of the people in the room. A client
// without a name, such as curl, gets the same events and is not listed.
func (r *Room) events(s *sse.ServerSession) error {
	sub := hub.Subscription{Topics: []string{topic}, Snapshot: r.snapshot}
	if query := s.Call().URL.Query(); query.Has("name") {
		p := &Person{ID: rand.Text(), Name: strings.TrimSpace(query.Get("name")), Node: r.node, key: rand.Text()}
		if err := check("name", p.Name, MaxName); err != nil {
			return sse.Error(http.StatusBadRequest, err)
		}
		// The window's own topic comes first. The hub joins the topics in order, so the
		// session can be found there when joined sends the key.
		sub.Topics = []string{windowTopic(p.key), topic}
		sub.Info = p
	}
	return r.hub.Serve(s, sub)
}

// snapshot sends the state, and returns the position in the hub's log that it matches.
// Exactly the changes that it lacks come after that position.
func (r *Room) snapshot(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
	// Sending may take a while. It happens after the lock is released, so a slow client
	// delays nobody else.
	st, at := r.State()
	return at, s.SendTyped(sse.TypedEvent{Name: "snapshot", Data: st})
}

// Live is the data of the event "live", after which all events are new ones. It is sent
// to one session and is not in the hub's log, so it has no id.
type Live struct {
	You  string `json:"you,omitempty"`  // the client's own ID; absent for a client without a name
	Key  string `json:"key,omitempty"`  // the client's key for cut
	Node string `json:"node,omitempty"` // which serves the client
}

// started is the data of the event "started".
type started struct {
	Node string `json:"node,omitempty"`
}

// joined adds a client to the room. The hub calls it when the client has been sent
// everything that it missed, and sends the client nothing else until joined returns.
func (r *Room) joined(m *hub.Member, joined string) {
	if joined != topic {
		return
	}
	l := Live{Node: r.node}
	if p, ok := hub.InfoOf[*Person](m); ok {
		l.You, l.Key = p.ID, p.key
		_, err := r.publish("joined", p, "joined/"+p.ID)
		p.joined = err == nil || errors.Is(err, hub.ErrUnknown)
	}
	_ = m.Session().SendTyped(sse.TypedEvent{Name: "live", Data: l}) // if this fails, the hub calls left next
}

// left removes a client from the room. The hub calls it once for each call of joined, for
// any reason that a session may end for.
func (r *Room) left(m *hub.Member, left string, _ error) {
	p, ok := hub.InfoOf[*Person](m)
	if left != topic || !ok || !p.joined {
		return
	}
	if err := r.leave(p); err != nil && !errors.Is(err, sse.ErrShutdown) {
		go func() { // or p would be listed until this node restarts
			for err != nil && !errors.Is(err, sse.ErrShutdown) {
				time.Sleep(time.Second)
				err = r.leave(p)
			}
		}()
	}
}

func (r *Room) leave(p *Person) error {
	_, err := r.publish("left", p, "left/"+p.ID)
	return err
}

// publish publishes an event with data as JSON, and returns its position. If an event with
// the key has been published before, it returns the position of that one. It logs its error,
// unless that is the hub's shutdown.
func (r *Room) publish(name string, data any, key string) (hub.Position, error) {
	e, err := r.hub.EventOf(sse.TypedEvent{Name: name, Data: data})
	if err != nil {
		return hub.Position{}, err
	}
	if !r.kept {
		r.appending.Lock()
		defer r.appending.Unlock()
	}
	p := []hub.Publication{{Topic: topic, Event: e, Key: key}}
	positions, err := r.hub.PublishAll(context.Background(), p)
	if errors.Is(err, hub.ErrUnknown) { // with the key, publishing it again does not publish it twice
		positions, err = r.hub.PublishAll(context.Background(), p)
	}
	if err != nil {
		if !errors.Is(err, sse.ErrShutdown) {
			r.logger.Error("an event of the chat could not be published", "event", name, "error", err)
		}
		return hub.Position{}, err
	}
	if !r.kept {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.state.apply(positions[0], e)
	}
	return positions[0], nil
}
