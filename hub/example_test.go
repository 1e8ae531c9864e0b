package hub_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// get reads a stream until its body contains the text until.
func get(url, lastEventID, until string) (body string) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		panic(err)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); !strings.Contains(body, until) && lines.Scan(); {
		body += lines.Text() + "\n"
	}
	return body
}

// A client that reconnects gets the events that it missed, and then new ones. The hub reads
// both from its log in the same way.
func Example() {
	h, err := hub.New(hub.Config{})
	if err != nil {
		panic(err)
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/prices/{symbol}", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"price/" + chi.URLParam(s.Call(), "symbol")}})
	})
	srv := httptest.NewServer(r)
	defer srv.Close()

	ctx := context.Background()
	seen, _ := h.Publish(ctx, "price/ACME", sse.Event{Name: "price", Data: "41"})
	_, _ = h.Publish(ctx, "price/OTHER", sse.Event{Name: "price", Data: "7"})
	_, _ = h.Publish(ctx, "price/ACME", sse.Event{Name: "price", Data: "42"})

	body := get(srv.URL+"/prices/ACME", seen.String(), "42")
	fmt.Print(body)

	_ = h.Shutdown(ctx)
	// Output:
	// event: price
	// data: 42
}

// A new client gets the state, and then each later change to it, once.
func ExampleSubscription_snapshot() {
	h, err := hub.New(hub.Config{})
	if err != nil {
		panic(err)
	}
	var board struct { // each event is a change of the board, published under its lock
		sync.Mutex
		lines []string
	}
	add := func(line string) {
		board.Lock()
		defer board.Unlock()
		if _, err := h.Publish(context.Background(), "board", sse.Event{Name: "added", Data: line}); err == nil {
			board.lines = append(board.lines, line)
		}
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/board", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{
			Topics: []string{"board"},
			Snapshot: func(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
				board.Lock()
				lines, pos := strings.Join(board.lines, "\n"), h.Position()
				board.Unlock()
				return pos, s.Send(sse.Event{Name: "board", Data: lines})
			},
		})
	})
	srv := httptest.NewServer(r)
	defer srv.Close()

	add("one")
	add("two")
	fmt.Print(get(srv.URL+"/board", "", "two"))

	_ = h.Shutdown(context.Background())
	// Output:
	// event: board
	// data: one
	// data: two
}

// Each user has a topic, so that other requests can find that user's sessions.
func ExampleHub_Members() {
	joined := make(chan struct{}, 2)
	h, err := hub.New(hub.Config{
		OnJoin: func(m *hub.Member, topic string) {
			user, _ := hub.InfoOf[string](m)
			fmt.Println(user, "joins", topic)
			joined <- struct{}{}
		},
	})
	if err != nil {
		panic(err)
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/events", func(s *sse.ServerSession) error {
		user := s.Call().URL.Query().Get("user")
		return h.Serve(s, hub.Subscription{Topics: []string{"user/" + user}, Info: user})
	})
	r.Post("/rooms/{room}", func(_ http.ResponseWriter, r *http.Request) {
		for m := range h.Members("user/" + r.URL.Query().Get("user")) {
			_ = m.Subscribe("room/" + chi.URLParam(r, "room")) // fails only if the session has ended
		}
	})
	srv := httptest.NewServer(r)
	defer srv.Close()

	resp, err := http.Get(srv.URL + "/events?user=ada")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	<-joined
	resp2, err := http.Post(srv.URL+"/rooms/7?user=ada", "", nil)
	if err != nil {
		panic(err)
	}
	resp2.Body.Close()
	there := h.Count("room/7")
	kicked, err := h.Kick(context.Background(), "room/7", nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(there, "there;", kicked, "kicked")

	_ = h.Shutdown(context.Background())
	// Output:
	// ada joins user/ada
	// ada joins room/7
	// 1 there; 1 kicked
}

func ExamplePosition() {
	h, err := hub.New(hub.Config{})
	if err != nil {
		panic(err)
	}
	first, _ := h.Publish(context.Background(), "a", sse.Event{Data: "1"})
	second, _ := h.Publish(context.Background(), "b", sse.Event{Data: "2"})
	fmt.Println(first.Epoch == second.Epoch, second.Offset-first.Offset)

	back, err := hub.ParsePosition(first.String())
	fmt.Println(back == first, err)
	// Output:
	// true 1
	// true <nil>
}

// A job reports its progress, and then its result. The EventSource of a page that has the result
// does not come back.
func ExampleHub_Finish() {
	h, err := hub.New(hub.Config{})
	if err != nil {
		panic(err)
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/jobs/{id}", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"job/" + chi.URLParam(s.Call(), "id")}})
	})
	srv := httptest.NewServer(r)
	defer srv.Close()

	ctx := context.Background()
	half, _ := h.Publish(ctx, "job/7", sse.Event{Name: "progress", Data: "50 %"})
	last, _ := h.Finish(ctx, "job/7", sse.Event{Name: "done", Data: "/exports/7.csv"})

	body := get(srv.URL+"/jobs/7", half.String(), "no more")
	fmt.Println(strings.Count(body, "event: "), strings.Contains(body, "/exports/7.csv"))

	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/jobs/7", http.NoBody)
	req.Header.Set("Last-Event-ID", last.String())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// 1 true
	// 204 No Content
}
