package logtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// These cases run hubs of the Log, with clients over HTTP. The hubs have little memory, so
// that most of what clients have missed is read from the Log.

// node is a hub and its server.
type node struct {
	*hub.Hub
	s   *suite
	url string
}

// open opens a hub of log. Its server has the topics "a" and "b" at "/".
func (s *suite) open(log hub.Log) *node {
	s.Helper()
	quiet := slog.New(slog.DiscardHandler)
	h, err := hub.Open(s.within(), hub.Config{Log: log, LogEvents: 8, Logger: quiet})
	s.must(err, "hub.Open")
	r := sse.Install(chi.NewRouter(), sse.Config{ShutdownSpread: -1, Logger: quiet})
	r.SSE("/", func(session *sse.ServerSession) error {
		return h.Serve(session, hub.Subscription{Topics: []string{"a", "b"}, Start: hub.Beginning})
	})
	srv := httptest.NewServer(r)
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = h.Shutdown(ctx) // clients that do not read are cut off
		srv.Close()
	})
	return &node{h, s, srv.URL}
}

func (n *node) publish(topic, data string) hub.Position {
	n.s.Helper()
	pos, err := n.Publish(n.s.within(), topic, sse.Event{Data: data})
	n.s.must(err, "Publish")
	return pos
}

// reader is a client of a node.
type reader struct {
	s    *suite
	d    *event.Decoder
	body io.Closer
}

// connect connects to n, with the last event id id if it is not "".
func (n *node) connect(id string) *reader {
	n.s.Helper()
	body, status := n.get(id)
	if status != http.StatusOK {
		n.s.Fatalf("a client of a hub got the status %d, want 200", status)
	}
	d := event.NewDecoder(nil)
	d.Reset(body, id)
	return &reader{n.s, d, body}
}

// status returns the status that a client with the last event id id gets.
func (n *node) status(id string) int {
	n.s.Helper()
	_, status := n.get(id)
	return status
}

func (n *node) get(id string) (body io.ReadCloser, status int) {
	n.s.Helper()
	r, err := http.NewRequestWithContext(n.s.within(), http.MethodGet, n.url, http.NoBody)
	n.s.must(err, "a request")
	if id != "" {
		r.Header.Set("Last-Event-ID", id)
	}
	resp, err := http.DefaultClient.Do(r)
	n.s.must(err, "a request")
	n.s.Cleanup(func() { _ = resp.Body.Close() })
	return resp.Body, resp.StatusCode
}

// expect fails the case if the next events have other data.
func (r *reader) expect(data ...string) {
	r.s.Helper()
	for _, want := range data {
		e, err := r.d.Decode()
		r.s.must(err, fmt.Sprintf("reading an event from a hub, which should be %q", want))
		if e.Name == hub.GapEvent || e.Data != want {
			r.s.Fatalf("a client of a hub got the event %+v, want %q", e, want)
		}
	}
}

// expectEnd fails the case if the stream does not end without another event.
func (r *reader) expectEnd() {
	r.s.Helper()
	if e, err := r.d.Decode(); err == nil {
		r.s.Fatalf("a client of a hub got the event %+v, want the end", e)
	}
}

// expectGap fails the case if the next event does not tell of a gap.
func (r *reader) expectGap(reason hub.GapReason) {
	r.s.Helper()
	e, err := r.d.Decode()
	r.s.must(err, "reading an event from a hub")
	var gap hub.Gap
	if e.Name != hub.GapEvent || json.Unmarshal([]byte(e.Data), &gap) != nil || gap.Reason != reason {
		r.s.Fatalf("a client of a hub got the event %+v, want a gap with the reason %q", e, reason)
	}
}

func oneHub(s *suite) {
	s.appendN(s.log, 1, "a")
	one := s.open(s.log)
	live := one.connect("")
	live.expect("0")
	for i := 1; i < 700; i++ {
		one.publish([]string{"a", "b", "other"}[i%3], strconv.Itoa(i))
	}
	wanted := func(r *reader, from int) {
		for i := from; i < 700; i++ {
			if i%3 != 2 {
				r.expect(strconv.Itoa(i))
			}
		}
	}
	wanted(live, 1)
	again := one.connect("")
	again.expect("0")
	wanted(again, 1)
	middle := one.connect("")
	middle.expect("0", "1", "3")
	id := middle.d.LastEventID()
	_ = middle.body.Close()
	wanted(one.connect(id), 4)
	if s.Renew != nil {
		s.Renew(s, s.log)
		live.expectGap(hub.GapEpoch)
		one.publish("a", "new")
		live.expect("new")
		one.connect(id).expectGap(hub.GapEpoch)
	}
}

// finish checks that a topic is finished in each hub of the Log, also in one that is opened later
// and has the last event no longer in memory.
func finish(s *suite) {
	one, two := s.open(s.log), s.open(s.log)
	here, there := one.connect(""), two.connect("")
	first := one.publish("a", "1")
	for _, topic := range []string{"a", "b"} {
		last, err := one.Finish(s.within(), topic, sse.Event{Data: "last of " + topic})
		s.must(err, "Finish")
		s.must(two.Wait(s.within(), last), "Wait for the last event")
	}
	for _, r := range []*reader{here, there} {
		r.expect("1", "last of a", "last of b")
		r.expectEnd()
	}
	for i := range 30 {
		two.publish("other", strconv.Itoa(i))
	}
	for _, n := range []*node{one, two, s.open(s.log)} {
		if _, err := n.Publish(s.within(), "a", sse.Event{Data: "late"}); !errors.Is(err, hub.ErrFinished) {
			s.Fatalf("Publish to a topic that is finished: %v, want ErrFinished", err)
		}
		late := n.connect(first.String())
		late.expect("last of a", "last of b")
		late.expectEnd()
		late = n.connect("")
		late.expect("1", "last of a", "last of b")
		late.expectEnd()
		if status := n.status(late.d.LastEventID()); status != http.StatusNoContent {
			s.Fatalf("a client that has the last event got the status %d, want 204", status)
		}
	}
}

func twoHubs(s *suite) { s.twoHubs(s.log, s.log) }

func twoHubsOfTwoLogs(s *suite) { s.twoHubs(s.log, s.Reopen(s, s.log)) }

func (s *suite) twoHubs(logOfOne, logOfTwo hub.Log) {
	one, two := s.open(logOfOne), s.open(logOfTwo)
	var done sync.WaitGroup
	for _, n := range []*node{one, two} {
		done.Go(func() {
			for i := range 100 {
				if _, err := n.Publish(s.Context(), "a", sse.Event{Data: strconv.Itoa(i)}); err != nil {
					s.Errorf("Publish: %v", err)
				}
			}
		})
	}
	done.Wait()
	end := two.publish("b", "end")
	s.must(one.Wait(s.within(), end), "Wait for what another hub of the Log has published")
	// Both hubs have the same order, and a client can move from one to the other.
	first, second := one.connect(""), two.connect("")
	for i := range 201 {
		want, err := first.d.Decode()
		s.must(err, "reading an event from a hub")
		got, err := second.d.Decode()
		s.must(err, "reading an event from another hub")
		if got != want || want.Name == hub.GapEvent {
			s.Fatalf("two hubs of one Log have different events at index %d: %+v and %+v", i, want, got)
		}
		if i%50 == 20 {
			_ = first.body.Close()
			_ = second.body.Close()
			first, second = two.connect(got.ID), one.connect(want.ID)
		}
	}
	// A kick reaches the members of both, and no event after it does.
	s.eventually(func() bool { return one.Count("a") == 1 && two.Count("a") == 1 }, "one client has joined each hub")
	_, err := one.Kick(s.within(), "a", errors.New("out"))
	s.must(err, "Kick")
	pos := one.publish("a", "after the kick")
	s.must(two.Wait(s.within(), pos), "Wait")
	first.expectEnd()
	second.expectEnd()
}
