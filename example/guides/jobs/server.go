package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

//go:embed page.html
var page []byte

// maxJobs is how many jobs one stream can follow.
const maxJobs = 100

// routes returns the program's router.
func routes(b *board) *sse.Router {
	r := sse.Install(chi.NewRouter(), sse.Config{Retry: time.Second})
	r.Use(http.NewCrossOriginProtection().Handler) // pages of other sites start no jobs
	r.Get("/", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "page.html", time.Time{}, bytes.NewReader(page))
	})
	r.Get("/jobs", b.listJobs)
	r.Post("/jobs", b.postJob)
	r.SSE("/jobs/events", b.events)
	return r
}

// listJobs answers with the newest jobs.
func (b *board) listJobs(w http.ResponseWriter, r *http.Request) {
	jobs, err := b.store.newest(r.Context())
	if err != nil {
		http.Error(w, "the jobs cannot be read", http.StatusInternalServerError)
		return
	}
	writeJSON(w, http.StatusOK, jobs)
}

// postJob starts the job in the form, and answers with it.
func (b *board) postJob(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	name := strings.TrimSpace(r.PostFormValue("name"))
	rows, err := strconv.Atoi(r.PostFormValue("rows"))
	if name == "" || len(name) > 100 || err != nil || rows < 1 {
		http.Error(w, "name must have 1 to 100 bytes, and rows must be a positive number", http.StatusBadRequest)
		return
	}
	j, err := b.start(r.Context(), name, rows)
	if err != nil {
		http.Error(w, "the job cannot be started", http.StatusInternalServerError)
		return
	}
	writeJSON(w, http.StatusCreated, j)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// events follows the jobs whose ids are in the query, until all of them have ended.
func (b *board) events(s *sse.ServerSession) error {
	var ids []any
	for _, text := range s.Call().URL.Query()["id"] {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return sse.Error(http.StatusBadRequest, fmt.Errorf("id must be a number, but is %.20q", text))
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 || len(ids) > maxJobs {
		return sse.Error(http.StatusBadRequest, fmt.Errorf("the query must have 1 to %d ids, but has %d", maxJobs, len(ids)))
	}
	return b.follow(s, ids)
}

// follow sends the states of these jobs, then what happens to them, and then the end.
func (b *board) follow(s *sse.ServerSession, ids []any) error {
	jobs, err := b.store.find(s.Context(), ids)
	if err != nil {
		return err
	}
	if len(jobs) == 0 {
		return sse.Error(http.StatusNotFound, errors.New("there is no such job"))
	}
	var topics []string
	for _, j := range jobs {
		if !j.old() {
			topics = append(topics, j.topic())
		}
	}
	if len(topics) == 0 {
		return sendOld(s, jobs)
	}
	return b.hub.Serve(s, hub.Subscription{
		Topics: topics,
		Snapshot: func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
			jobs, err := b.store.find(s.Context(), ids) // not older than at
			for _, j := range jobs {
				err = errors.Join(err, s.Send(j.event()))
			}
			return at, err
		},
	})
}

// sendOld sends the last events of jobs that the hub may have forgotten. A client that has them
// is told not to come back.
func sendOld(s *sse.ServerSession, jobs []job) error {
	last := jobs[len(jobs)-1].last
	if s.LastEventID() == last {
		return sse.Stop()
	}
	for i, j := range jobs {
		e := j.event()
		if i == len(jobs)-1 {
			e.ID = last
		}
		if err := s.Send(e); err != nil {
			return err
		}
	}
	return nil
}
