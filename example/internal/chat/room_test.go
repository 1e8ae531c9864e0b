package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
)

// open opens the room of a log as one of its nodes.
func open(t *testing.T, log hub.Log, node string) *Room {
	t.Helper()
	r, err := New(t.Context(), Config{Log: log, Node: node, Detached: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.hub.Shutdown(context.Background()) })
	return r
}

// serve serves the room, and returns its URL.
func serve(t *testing.T, r *Room) string {
	t.Helper()
	router := sse.Install(chi.NewRouter(), sse.Config{Logger: slog.New(slog.DiscardHandler)})
	r.Routes(router)
	srv := httptest.NewUnstartedServer(router)
	router.Plugin().Attach(srv.Config)
	srv.Start()
	t.Cleanup(func() {
		_ = srv.Config.Shutdown(context.Background())
		srv.Close()
	})
	return srv.URL
}

// follow opens a stream, and returns its events. It sends lastID as Last-Event-ID, unless that
// is "".
func follow(t *testing.T, site, query, lastID string) (next func() event.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, site+"/chat/events"+query, nil)
	require.NoError(t, err)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	d := event.NewDecoder(resp.Body)
	return func() event.Event {
		t.Helper()
		ev, err := d.Decode()
		require.NoError(t, err)
		return ev
	}
}

// data returns the data of an event, which must have this name.
func data[T any](t *testing.T, ev event.Event, name string) (v T) {
	t.Helper()
	require.Equal(t, name, ev.Name, ev.Data)
	require.NoError(t, json.Unmarshal([]byte(ev.Data), &v))
	return v
}

func postForm(t *testing.T, target string, form url.Values) int {
	t.Helper()
	resp, err := http.PostForm(target, form)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// names returns the names of the people in the room.
func names(r *Room) string {
	st, _ := r.State()
	var all []string
	for _, p := range st.People {
		all = append(all, p.Name+" at "+p.Node)
	}
	return strings.Join(all, ", ")
}

// Several nodes number their messages as one, however they meet.
func TestNodesNumberMessagesWithoutGaps(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(3)
	const each = 50
	var rooms []*Room
	for i := range 3 {
		rooms = append(rooms, open(t, log, fmt.Sprint("n", i+1)))
	}
	var all sync.WaitGroup
	for i, r := range rooms {
		all.Go(func() {
			for n := range each {
				_, err := r.add(fmt.Sprint(i, "/", n), "Teal Otter", "text")
				assert.NoError(t, err)
			}
		})
	}
	all.Wait()

	for _, r := range append(rooms, open(t, log, "n4")) {
		catchUp(t, log, r)
		st, _ := r.State()
		require.Len(t, st.Messages, RecentMessages)
		for i, m := range st.Messages {
			require.Equal(t, 3*each-RecentMessages+i+1, m.Number)
		}
	}
	end := last(t, log)
	batch, err := log.Read(t.Context(), []string{topic}, hub.Position{Epoch: end.Epoch}, end, 1000)
	require.NoError(t, err)
	ids, number := map[string]bool{}, 0
	for _, rec := range batch.Records {
		if rec.Event.Name == "message" {
			var m Message
			require.NoError(t, json.Unmarshal([]byte(rec.Event.Data), &m))
			number++
			require.Equal(t, number, m.Number)
			require.False(t, ids[m.ID], "a message came twice")
			ids[m.ID] = true
		}
	}
	require.Equal(t, 3*each, number)
}

// last returns the position of the last record of a log.
func last(t *testing.T, log hub.Log) hub.Position {
	t.Helper()
	b, err := log.Bounds(t.Context())
	require.NoError(t, err)
	return hub.Position{Epoch: b.Epoch, Offset: b.Last}
}

// catchUp waits until the room has applied all of its log.
func catchUp(t *testing.T, log hub.Log, r *Room) {
	t.Helper()
	require.NoError(t, r.hub.Wait(t.Context(), last(t, log)))
}

// A message that is sent again, to whatever node, is published once, also if it is sent to
// several at the same time, or the answer of the log is lost.
func TestMessageIsPublishedOnce(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	a, b := open(t, log, "n1"), open(t, log, "n2")
	for n := range 50 {
		var both sync.WaitGroup
		var positions [2]hub.Position
		if n%2 == 0 {
			log.LoseAnswer()
		}
		for i, r := range []*Room{a, b} {
			both.Go(func() {
				var err error
				positions[i], err = r.add(fmt.Sprint("id", n), "Teal Otter", "text")
				assert.NoError(t, err)
			})
		}
		both.Wait()
		require.Equal(t, positions[0], positions[1])
		st, _ := a.State()
		require.Equal(t, n+1, st.Messages[len(st.Messages)-1].Number)
	}
	c := open(t, log, "n3") // it knows the IDs from the log
	before, _ := c.State()
	_, err := c.add("id7", "Teal Otter", "text")
	require.NoError(t, err)
	after, _ := c.State()
	require.Equal(t, before, after)

	site := serve(t, c)
	require.Equal(t, http.StatusCreated, postForm(t, site+"/chat/messages", url.Values{"name": {"a"}, "text": {"b"}, "id": {"id7"}}))
	require.Equal(t, http.StatusBadRequest, postForm(t, site+"/chat/messages", url.Values{"name": {"a"}, "text": {"b"}, "id": {strings.Repeat("x", maxID+1)}}))
	after, _ = c.State()
	require.Equal(t, before, after)
}

// A log can remember the key of a message that it no longer has, and that the room therefore
// cannot find.
func TestMessageThatTheLogHasDropped(t *testing.T) {
	t.Parallel()
	log := &forgetful{Log: logtest.NewMemory(1)}
	r := open(t, log, "n1")
	_, err := r.add("id", "Teal Otter", "text")
	require.ErrorContains(t, err, "the message 1 is missing in the log")
}

// forgetful is a log that takes every message for one that it has had.
type forgetful struct{ hub.Log }

func (f *forgetful) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	if records[0].Event.Name != "message" {
		return f.Log.Append(ctx, records)
	}
	b, err := f.Log.Bounds(ctx)
	return []hub.Position{{Epoch: b.Epoch, Offset: b.Last}}, err
}

// The people of all nodes are in the room. Those of a node that has died leave when it is back.
func TestPeopleOfSeveralNodes(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	a, b := open(t, log, "n1"), open(t, log, "n2")
	catchUp(t, log, a)
	otter := follow(t, serve(t, a), "?name=Otter", "")
	require.Empty(t, data[State](t, otter(), "snapshot").People)
	you := data[Live](t, otter(), "live")
	require.Equal(t, "n1", you.Node)
	require.Equal(t, Person{ID: you.You, Name: "Otter", Node: "n1"}, data[Person](t, otter(), "joined"))
	catchUp(t, log, b)
	heron := follow(t, serve(t, b), "?name=Heron", "")
	require.Len(t, data[State](t, heron(), "snapshot").People, 1)
	require.Equal(t, "n2", data[Live](t, heron(), "live").Node)
	require.Equal(t, "Heron", data[Person](t, heron(), "joined").Name)
	require.Equal(t, "Heron", data[Person](t, otter(), "joined").Name)
	require.Equal(t, "Otter at n1, Heron at n2", names(a))
	require.Equal(t, "Otter at n1, Heron at n2", names(b))

	again := open(t, log, "n2")
	require.Equal(t, started{"n2"}, data[started](t, otter(), "started"))
	require.Equal(t, "Otter at n1", names(a))
	require.Equal(t, "Otter at n1", names(again))
}

// A window can be cut by a request to another node.
func TestCutAtAnotherNode(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	a, b := open(t, log, "n1"), open(t, log, "n2")
	site := serve(t, b)
	otter := follow(t, serve(t, a), "?name=Otter", "")
	otter()
	key := data[Live](t, otter(), "live").Key
	require.Equal(t, http.StatusNotFound, postForm(t, site+"/chat/cut", url.Values{"key": {""}}))
	require.Equal(t, http.StatusNoContent, postForm(t, site+"/chat/cut", url.Values{"key": {"of nobody"}}))
	require.Equal(t, http.StatusNoContent, postForm(t, site+"/chat/cut", url.Values{"key": {key}}))
	require.Eventually(t, func() bool { return names(b) == "" }, 10*time.Second, time.Millisecond)
}

// A client resumes at another node.
func TestResumeAtAnotherNode(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	a, b := open(t, log, "n1"), open(t, log, "n2")
	pos, err := a.add("1", "Otter", "seen")
	require.NoError(t, err)
	missed, err := a.add("2", "Otter", "missed")
	require.NoError(t, err)
	require.NoError(t, b.hub.Wait(t.Context(), missed))
	next := follow(t, serve(t, b), "", pos.String())
	require.Equal(t, "missed", data[Message](t, next(), "message").Text)
	require.Equal(t, "n2", data[Live](t, next(), "live").Node)
}

// If the log begins another epoch, the room is what the new log says.
func TestAnotherEpoch(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	r := open(t, log, "n1")
	pos, err := r.add("1", "Otter", "of the past")
	require.NoError(t, err)
	log.Renew()
	var fresh hub.Position
	require.Eventually(t, func() bool {
		fresh, err = r.add("2", "Otter", "of the present")
		return err == nil
	}, 10*time.Second, time.Millisecond)
	require.NotEqual(t, pos.Epoch, fresh.Epoch)
	st, at := r.State()
	require.Equal(t, fresh, at)
	require.Len(t, st.Messages, 1)
	require.Equal(t, "of the present", st.Messages[0].Text)
	next := follow(t, serve(t, r), "", pos.String())
	require.Equal(t, hub.GapEpoch, data[hub.Gap](t, next(), hub.GapEvent).Reason)
	require.Equal(t, st, data[State](t, next(), "snapshot"))
}

// A node that opens late begins with what the log still has, and skips what is not of this
// program.
func TestRestoreWhatIsLeft(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	log.Keep(10)
	r := open(t, log, "n1")
	for n := range 20 {
		_, err := r.add(fmt.Sprint(n), "Otter", "text")
		require.NoError(t, err)
	}
	for _, name := range []string{"message", "joined", "left", "started", "another"} {
		log.Insert(hub.Record{Topic: topic, Event: event.Event{Name: name, Data: `{"id":7}`}})
	}
	late := open(t, log, "n2")
	st, _ := late.State()
	require.NotEmpty(t, st.Messages)
	require.Equal(t, 20, st.Messages[len(st.Messages)-1].Number)
	_, err := late.add("the next", "Otter", "text")
	require.NoError(t, err)
	st, _ = late.State()
	require.Equal(t, 21, st.Messages[len(st.Messages)-1].Number)
}

// A state is made of what the log still has, and a snapshot of it is as new as the log.
func TestSnapshotOfALogThatDropsEvents(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	log.Keep(5)
	r := open(t, log, "n1")
	for n := range 20 {
		_, err := r.add(fmt.Sprint(n), "Otter", "text")
		require.NoError(t, err)
	}
	end := last(t, log)
	var other Room
	require.NoError(t, other.restore(t.Context(), log, end))
	st, at := other.State()
	require.Equal(t, end, at)
	require.Len(t, st.Messages, 5)
	require.Equal(t, 20, st.Messages[4].Number)

	log.Keep(1)
	for range 5 {
		end = log.Insert(hub.Record{Topic: "another", Event: event.Event{Name: "joined", Data: `{"name":"Nobody"}`}})
	}
	require.NoError(t, r.hub.Wait(t.Context(), end))
	data[State](t, follow(t, serve(t, r), "", "")(), "snapshot")
	st, at = r.State()
	require.Equal(t, end, at)
	require.Empty(t, st.People)
}

// A departure that the log does not take is published later.
func TestDepartureIsPublishedLater(t *testing.T) {
	t.Parallel()
	log := &refusing{Log: logtest.NewMemory(1)}
	r := open(t, log, "n1")
	site := serve(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, site+"/chat/events?name=Otter", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Eventually(t, func() bool { return names(r) == "Otter at n1" }, 10*time.Second, time.Millisecond)
	log.refuse(true)
	cancel()
	require.Eventually(t, log.hasRefused, 10*time.Second, time.Millisecond)
	require.Equal(t, "Otter at n1", names(r))
	log.refuse(false)
	require.Eventually(t, func() bool { return names(r) == "" }, 10*time.Second, time.Millisecond)
}

// refusing is a log that can refuse to append.
type refusing struct {
	hub.Log
	mu               sync.Mutex
	refuses, refused bool
}

func (f *refusing) refuse(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuses = yes
}

func (f *refusing) hasRefused() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

func (f *refusing) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	f.mu.Lock()
	refuses := f.refuses
	f.refused = f.refused || refuses
	f.mu.Unlock()
	if refuses {
		return nil, errors.New("no")
	}
	return f.Log.Append(ctx, records)
}
