package main

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// routes returns the program's router.
func routes(s *store, h *hub.Hub) *sse.Router {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.Post("/orders", s.postOrder)
	r.SSE("/orders/events", func(session *sse.ServerSession) error {
		// A client without a last event id gets all events that the table still has.
		return h.Serve(session, hub.Subscription{Topics: []string{ordersTopic}, Start: hub.Beginning})
	})
	return r
}

// postOrder places the order in the form, and answers with it.
func (s *store) postOrder(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	o := order{Item: r.PostFormValue("item")}
	var err error
	if o.Quantity, err = strconv.Atoi(r.PostFormValue("quantity")); err != nil || o.Quantity < 1 || o.Item == "" {
		http.Error(w, "item must not be empty, and quantity must be a positive number", http.StatusBadRequest)
		return
	}
	if err := s.place(r.Context(), &o); err != nil {
		http.Error(w, "the order could not be placed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(o)
}
