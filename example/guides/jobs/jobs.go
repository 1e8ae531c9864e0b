package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/boltlog"
)

const (
	// A client that has been away for up to resumeFor is sent each event that it lacks.
	resumeFor = 7 * 24 * time.Hour

	// A job that ended longer ago than oldAfter is answered from the table. The hub is not
	// asked for it. A client that can resume has its end, so oldAfter is longer than resumeFor.
	oldAfter = 8 * 24 * time.Hour

	// The hub remembers for finishAge that a job has ended. That is longer than oldAfter, so
	// that the hub knows the end of each job that it is asked for.
	finishAge = 9 * 24 * time.Hour
)

// board runs jobs, and publishes their states.
type board struct {
	store *store
	log   *boltlog.Log
	hub   *hub.Hub
	work  func(ctx context.Context, j job) error // does the next step of j

	running sync.WaitGroup
	ctx     context.Context // of the jobs
	stop    context.CancelFunc
}

// openBoard opens the files in dir, and makes them if they do not exist.
func openBoard(ctx context.Context, dir string, work func(context.Context, job) error) (*board, error) {
	b := &board{work: work}
	b.ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if b.store, err = openStore(ctx, filepath.Join(dir, "jobs.db")); err != nil {
		return nil, err
	}
	if b.log, err = boltlog.Open(filepath.Join(dir, "events.db"), boltlog.Config{MaxAge: resumeFor}); err != nil {
		return nil, errors.Join(err, b.store.close())
	}
	b.hub, err = hub.Open(ctx, hub.Config{Log: b.log, FinishAge: finishAge, Detached: true})
	if err != nil {
		return nil, errors.Join(err, b.log.Close(), b.store.close())
	}
	return b, nil
}

// close stops the jobs, and the hub after them. A job that has not ended goes on when the board
// is opened again.
func (b *board) close() error {
	b.stop()
	b.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return errors.Join(b.hub.Shutdown(ctx), b.log.Close(), b.store.close())
}

// start makes a job and starts it.
func (b *board) start(ctx context.Context, name string, rows int) (job, error) {
	j, err := b.store.add(ctx, name, rows)
	if err == nil {
		b.running.Go(func() { b.run(j) })
	}
	return j, err
}

// resume starts all jobs that have not ended, or of whose end the hub may not have heard. It is
// for the program's start.
func (b *board) resume(ctx context.Context) error {
	jobs, err := b.store.unfinished(ctx)
	for _, j := range jobs {
		b.running.Go(func() { b.run(j) })
	}
	return err
}

// run works on j until it has ended, or the board is closed.
func (b *board) run(j job) {
	err := b.steps(&j)
	if err == nil && j.State != running {
		err = b.finish(j)
	}
	if err != nil && b.ctx.Err() == nil {
		slog.Error("a job has stopped; it goes on when the program is started again", "job", j.ID, "error", err)
	}
}

// steps does the steps of j that are left. Each state is in the table before it is published,
// so what a client reads in the table is never older than what the hub has sent.
func (b *board) steps(j *job) error {
	for j.State == running {
		if j.Done == j.Rows {
			j.end(done, j.Name+".csv")
		} else if err := b.work(b.ctx, *j); err == nil {
			j.Done++
		} else if b.ctx.Err() != nil {
			return err // the program stops
		} else {
			j.end(failed, err.Error())
		}
		if err := b.store.save(b.ctx, *j); err != nil || j.State != running {
			return err
		}
		if _, err := b.hub.Publish(b.ctx, j.topic(), j.event()); err != nil {
			return err
		}
	}
	return nil
}

// finish publishes the last event of j, and keeps its id. If the program stops before the id is
// in the table, resume calls finish once more.
func (b *board) finish(j job) error {
	last, err := b.hub.Finish(b.ctx, j.topic(), j.event())
	if err != nil && !errors.Is(err, hub.ErrFinished) {
		return err
	}
	return b.store.setLast(b.ctx, j.ID, last.String())
}

func (j *job) topic() string { return fmt.Sprint("job/", j.ID) }

// event is what the clients are sent whenever j has changed.
func (j *job) event() sse.Event {
	data, _ := json.Marshal(j) // a job can always be encoded
	return sse.Event{Name: "job", Data: string(data)}
}

// export writes the next row of an export. It only waits here.
func export(ctx context.Context, _ job) error {
	select {
	case <-time.After(100 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
