//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/stream"
	"github.com/chi-sse/sse/event"
)

// checkFanOut compares what a subscriber of the library reads with what was published. It
// returns an error for the first event that is wrong, and if events are missing.
func checkFanOut(ctx context.Context, lib library.Library) error {
	p, err := startPair(ctx, lib.Name, window)
	if err != nil {
		return err
	}
	defer p.end()
	return p.check(lib.OwnIDs)
}

// check publishes small and then large events and compares what one subscriber reads with
// them. If ownIDs is true, the library chooses the events' ids.
func (p *pair) check(ownIDs bool) error {
	for _, pass := range []struct{ size, count int }{{eventSize, 500}, {largeSize, 50}} {
		done := make(chan error, 1)
		n := 0
		go func() {
			err := p.load.call("check", checkArgs{p.hello.Addr, p.hello.Target, pass.size, ownIDs}, &n)
			if err != nil {
				time.AfterFunc(2*time.Second, p.cancel)
			}
			done <- err
		}()
		err := p.server.call("gather", gatherArgs{pass.size}, nil)
		if err == nil {
			err = p.server.call("full", fullArgs{Size: pass.size, Window: window, Count: pass.count}, nil)
		}
		if err != nil {
			time.AfterFunc(2*time.Second, p.cancel) // until then, the other may report the cause
		}
		if err := moreTelling(<-done, err); err != nil {
			return err
		}
		if n < pass.count {
			return fmt.Errorf("%d of %d events came", n, pass.count)
		}
	}
	return nil
}

type checkArgs struct {
	Addr, Target string
	Size         int
	OwnIDs       bool // the library chooses the ids and ignores the published ones
}

// check reads one stream as the specification says and compares each event with what was
// published, until it has the last one before the number that the server tells. It returns
// how many events came, and an error for the first wrong one.
func check(args checkArgs) (n int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*stall)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+args.Addr+args.Target, http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "text/event-stream")
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if typ := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || typ == "" {
		return 0, fmt.Errorf("status %d, content type %q", resp.StatusCode, typ)
	}

	lastID := ""
	var next, end atomic.Int64 // the number of the next event, and of the one after the last
	complete := func() bool { return end.Load() > 0 && next.Load() == end.Load() }
	go func() {
		told, err := hearServer()
		if err != nil {
			return // the context of the request ends the check
		}
		end.Store(int64(told))
		if complete() {
			cancel()
		}
	}()
	for ev, err := range event.NewDecoder(resp.Body).All() {
		if complete() {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("after %d events: %w", n, err)
		}
		if ev.Data == "" {
			continue // it sets only a retry time or an id
		}
		seq := stream.Seq(ev.Data)
		if want := stream.Data(seq, args.Size); ev.Data != want || ev.Name != eventName {
			return n, fmt.Errorf("event %q with data %.200q, want %q with %.200q", ev.Name, ev.Data, eventName, want)
		}
		if want := strconv.Itoa(seq); ev.ID != want && !args.OwnIDs || ev.ID == "" || ev.ID == lastID {
			return n, fmt.Errorf("event %s has the id %q, and the one before has %q", want, ev.ID, lastID)
		}
		if lastID != "" && int64(seq) != next.Load() {
			return n, fmt.Errorf("event %d came in place of event %d", seq, next.Load())
		}
		lastID = ev.ID
		n++
		next.Store(int64(seq) + 1)
		if err := tellServer(seq + 1); err != nil {
			return n, err
		}
		if complete() {
			return n, nil
		}
	}
	return n, errors.New("the stream ended")
}
