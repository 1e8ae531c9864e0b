package sinks

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
)

// Times says how long each of several publications took, in seconds.
type Times struct {
	Acknowledged []float64 // until the publication was acknowledged
	Received     []float64 // until a client had the event
}

// Pace publishes n events, numbered from 0 on, one each interval, to a new sink. None waits for the
// one before. publish publishes the event with a number, and returns when its time began and when it
// was acknowledged; see [Hub.PublishOne].
func (h *Hub) Pace(n int, interval time.Duration, publish func(number int) (began, acknowledged time.Time, err error)) Times {
	h.t.Helper()
	before := h.Count(Topic)
	ctx, leave := context.WithCancel(h.ctx)
	s := h.join(ctx, 1, n, n)[0]
	times := Times{make([]float64, n), make([]float64, n)}
	var (
		starts = make([]int64, n)
		failed firstError
		all    sync.WaitGroup
	)
	for i, next := 0, time.Now(); i < n; i, next = i+1, next.Add(interval) {
		time.Sleep(time.Until(next))
		all.Go(func() {
			began, acknowledged, err := publish(i)
			failed.set(err)
			starts[i] = began.UnixNano()
			times.Acknowledged[i] = acknowledged.Sub(began).Seconds()
		})
	}
	all.Wait()
	require.NoError(h.t, failed.get())
	h.Await()
	for i := range times.Received {
		times.Received[i] = float64(s.times[i].Load()-starts[i]) / 1e9
	}
	leave()
	h.wait(func() bool { return h.Count(Topic) <= before }, "the sink has not left")
	return times
}

// PublishOne publishes the event with a number.
func (h *Hub) PublishOne(number int) (began, acknowledged time.Time, err error) {
	began = time.Now()
	_, err = h.Hub.Publish(context.Background(), Topic, Event(number))
	return began, time.Now(), err
}

// Flood lets several publishers publish for a time, each as fast as it can, in batches of so many
// events. It returns how many events a second were acknowledged.
func (h *Hub) Flood(publishers, each int, d time.Duration) float64 {
	h.t.Helper()
	batch := publications(0, each)
	return Repeat(h.t, publishers, d, func() error {
		_, err := h.PublishAll(context.Background(), batch)
		return err
	}) * float64(each)
}

// Repeat calls f for a time from several goroutines, each as fast as it can, and returns how many
// calls a second there were.
func Repeat(t TB, goroutines int, d time.Duration, f func() error) float64 {
	t.Helper()
	var (
		calls  atomic.Int64
		failed firstError
		all    sync.WaitGroup
		began  = time.Now()
	)
	for range goroutines {
		all.Go(func() {
			for time.Since(began) < d && failed.get() == nil {
				failed.set(f())
				calls.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	require.NoError(t, failed.get())
	return float64(calls.Load()) / took.Seconds()
}

// Deliver returns how many deliveries a second a hub of log makes if each of several clients gets so
// many events, which are published in batches of each.
func Deliver(t TB, log hub.Log, clients, events, each int) float64 {
	t.Helper()
	h := New(t, hub.Config{}, log)
	defer h.Close() // otherwise it goes on following the log
	h.Join(clients, events)
	began := time.Now()
	h.Publish(events, each)
	h.Await()
	return float64(clients) * float64(events) / time.Since(began).Seconds()
}

// Return returns how many deliveries a second there are if several clients come back at once to a
// position, with so many events after it.
func (h *Hub) Return(clients int, after hub.Position, events int) float64 {
	h.t.Helper()
	began := time.Now()
	h.Connect(clients, after.String(), events)
	h.Await()
	return float64(clients) * float64(events) / time.Since(began).Seconds()
}

// firstError is the first error of several goroutines.
type firstError struct{ atomic.Pointer[error] }

// set sets the error, unless there is one or err is nil.
func (e *firstError) set(err error) {
	if err != nil {
		e.CompareAndSwap(nil, &err)
	}
}

// get returns the error, or nil.
func (e *firstError) get() error {
	if err := e.Load(); err != nil {
		return *err
	}
	return nil
}
