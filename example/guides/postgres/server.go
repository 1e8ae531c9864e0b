package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/middleware"
)

//go:embed page.html
var pageText string

// routes returns the program's router.
func routes(s *store, h *hub.Hub) *sse.Router {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(pageText)) })
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.Health().Err; err != nil { // the streams go on, but bring nothing at the moment
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	r.With(middleware.SameOrigin()).Post("/orders", s.postOrder)
	r.With(middleware.SameOrigin()).Post("/orders/{id}/advance", s.advanceOrder)
	r.SSE("/orders/events", func(session *sse.ServerSession) error {
		return h.Serve(session, hub.Subscription{
			Topics: []string{ordersTopic},
			Snapshot: func(session *sse.ServerSession, _ hub.Position) (hub.Position, error) {
				return s.sendOrders(session, h)
			},
		})
	})
	return r
}

// sendOrders sends all orders to a client that is new, or has missed too much.
func (s *store) sendOrders(session *sse.ServerSession, h *hub.Hub) (hub.Position, error) {
	orders, at, err := s.snapshot(session.Context())
	if err != nil {
		return at, sse.Error(http.StatusServiceUnavailable, errors.New("the orders cannot be read at the moment"))
	}
	data, err := json.Marshal(orders)
	if err != nil {
		return at, err
	}
	return at, session.Send(sse.Event{Name: "orders", ID: h.ID(at), Data: string(data)})
}

// postOrder places the order in the form, and answers with it.
func (s *store) postOrder(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	quantity, err := strconv.Atoi(r.PostFormValue("quantity"))
	if err != nil {
		http.Error(w, "quantity must be a number", http.StatusBadRequest)
		return
	}
	o, err := s.place(r.Context(), r.PostFormValue("item"), quantity)
	answer(w, o, err)
}

func (s *store) advanceOrder(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(chi.URLParam(r, "id"), 10, 64) // there is no order 0
	o, err := s.advance(r.Context(), id)
	answer(w, o, err)
}

// answer answers with the order, or says why it has not changed.
func answer(w http.ResponseWriter, o order, err error) {
	refused, _ := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		http.Error(w, "there is no such order that could go on", http.StatusConflict)
	case refused != nil && refused.Code[:2] == "23": // a constraint of the table
		http.Error(w, "an order has an item, and a quantity of 1 to 100", http.StatusBadRequest)
	case err != nil: // if the answer to the commit was lost, the page shows what is so
		http.Error(w, "it is not known whether the order was changed", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(o)
	}
}
