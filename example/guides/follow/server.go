package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
)

// serve serves a stream of orders to follow at /orders/events, until ctx ends.
func serve(ctx context.Context, addr string) error {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/orders/events", sendOrders)
	srv := &http.Server{Addr: addr, Handler: r, ReadHeaderTimeout: 5 * time.Second}
	return sse.ListenAndServe(ctx, srv, r)
}

// sendOrders sends an order for each second after the last event id. The id is the time in
// seconds, so it outlives the server.
func sendOrders(s *sse.ServerSession) error {
	id, err := strconv.ParseInt(s.LastEventID(), 10, 64)
	if err != nil { // a new client
		id = time.Now().Unix() - 1
	}
	for {
		for id < time.Now().Unix() {
			id++
			order := fmt.Sprintf(`{"id":%d,"item":"tea","quantity":%d}`, id, id%5+1)
			if err := s.Send(sse.Event{ID: strconv.FormatInt(id, 10), Name: "placed", Data: order}); err != nil {
				return err
			}
		}
		select {
		case <-s.Done():
			return nil
		case <-time.After(time.Until(time.Unix(id+1, 0))):
		}
	}
}
