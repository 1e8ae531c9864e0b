// Package middleware provides middleware for chi routers that have SSE routes.
//
// In this program, open streams do not count toward the limit of 100 concurrent requests,
// and clients can send their last event id in the query:
//
//	package main
//
//	import (
//		"log"
//		"net/http"
//
//		"github.com/go-chi/chi/v5"
//		chimiddleware "github.com/go-chi/chi/v5/middleware"
//
//		"github.com/chi-sse/sse"
//		"github.com/chi-sse/sse/middleware"
//	)
//
//	func main() {
//		r := sse.Install(chi.NewRouter(), sse.Config{})
//		r.Use(
//			middleware.LastEventIDFromQuery,
//			middleware.Except(chimiddleware.Throttle(100)),
//		)
//		r.SSE("/events", func(s *sse.ServerSession) error {
//			return s.Send(sse.Event{ID: "2", Data: "you had event " + s.LastEventID()})
//		})
//		log.Fatal(http.ListenAndServe("localhost:8080", r))
//	}
package middleware
