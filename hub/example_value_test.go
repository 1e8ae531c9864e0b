package hub_test

import (
	"context"
	"fmt"
	"html/template"
	"io"
	"net/http/httptest"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

type price struct {
	Symbol string  `json:"symbol"`
	Bid    float64 `json:"bid"`
}

// A value is published with the hub's serializer, by default JSON.
func ExampleHub_PublishTyped() {
	h, err := hub.New(hub.Config{})
	if err != nil {
		panic(err)
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/prices", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"prices"}, Start: hub.Beginning})
	})
	srv := httptest.NewServer(r)
	defer srv.Close()

	ctx := context.Background()
	_, err = h.PublishTyped(ctx, "prices", sse.TypedEvent{Name: "price", Data: price{"ACME", 42}})
	if err != nil {
		panic(err)
	}
	fmt.Print(get(srv.URL+"/prices", "", "42"))

	_, err = h.PublishTyped(ctx, "prices", sse.TypedEvent{Data: make(chan int)})
	fmt.Println(err)

	_ = h.Shutdown(ctx)
	// Output:
	// event: price
	// data: {"symbol":"ACME","bid":42}
	// hub: publish: serialize chan int: json: unsupported type: chan int
}

// A template writes straight into the event, for all followers at once.
func ExampleHub_PublishFunc() {
	row := template.Must(template.New("row").Parse("<tr>\n  <td>{{.}}</td>\n</tr>"))
	h, err := hub.New(hub.Config{})
	if err != nil {
		panic(err)
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/rows", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"rows"}, Start: hub.Beginning})
	})
	srv := httptest.NewServer(r)
	defer srv.Close()

	ctx := context.Background()
	_, err = h.PublishFunc(ctx, "rows", sse.Event{Name: "row"}, func(w io.Writer) error {
		return row.Execute(w, "Ann & Bob")
	})
	if err != nil {
		panic(err)
	}
	fmt.Print(get(srv.URL+"/rows", "", "</tr>"))

	_ = h.Shutdown(ctx)
	// Output:
	// event: row
	// data: <tr>
	// data:   <td>Ann &amp; Bob</td>
	// data: </tr>
}

// The last event of a topic is a value.
func ExampleHub_EventOf() {
	h, err := hub.New(hub.Config{})
	if err != nil {
		panic(err)
	}
	last, err := h.EventOf(sse.TypedEvent{Name: "closed", Data: price{"ACME", 42}})
	if err != nil {
		panic(err)
	}
	fmt.Println(last.Name, last.Data)
	_, err = h.Finish(context.Background(), "prices", last)
	fmt.Println(err)
	// Output:
	// closed {"symbol":"ACME","bid":42}
	// <nil>
}

// What the handler knows of a client is at hand in the hooks, with its type.
func ExampleInfoOf() {
	type user struct{ Name string }
	left := make(chan struct{})
	h, err := hub.New(hub.Config{
		OnLeave: func(m *hub.Member, topic string, _ error) {
			if u, ok := hub.InfoOf[*user](m); ok {
				fmt.Println(u.Name, "leaves", topic)
			}
			close(left)
		},
	})
	if err != nil {
		panic(err)
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/rooms/{room}", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{
			Topics: []string{"room/" + chi.URLParam(s.Call(), "room")},
			Info:   &user{Name: s.Call().URL.Query().Get("name")},
		})
	})
	srv := httptest.NewServer(r)
	defer srv.Close()

	get(srv.URL+"/rooms/7?name=Ada", "", "id: ") // the client leaves as soon as it has an id
	<-left

	_ = h.Shutdown(context.Background())
	// Output:
	// Ada leaves room/7
}
