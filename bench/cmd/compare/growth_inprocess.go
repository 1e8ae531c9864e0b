//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/bench/internal/report"
	"github.com/chi-sse/sse/bench/internal/stream"
	"github.com/chi-sse/sse/hub"
)

// growthOps are a server's operations that need no connections: a hub of their own, and
// sessions whose writers only count. They tell what the hub and its sessions cost
// beside the system's sockets and net/http.
func growthOps() map[string]operation {
	return map[string]operation{
		"hall":       profiled(op(inHall)),
		"log":        profiled(op(inLog)),
		"publishers": profiled(op(byPublishers)),
	}
}

// hallWriter is the response of a session in process: it takes everything at once.
type hallWriter struct {
	header http.Header
	bytes  int
}

func (c *hallWriter) Header() http.Header               { return c.header }
func (c *hallWriter) WriteHeader(int)                   {}
func (c *hallWriter) Flush()                            {}
func (c *hallWriter) SetReadDeadline(time.Time) error   { return nil }
func (c *hallWriter) SetWriteDeadline(time.Time) error  { return nil }
func (c *hallWriter) Write(p []byte) (n int, err error) { c.bytes += len(p); return len(p), nil }

// hall is a hub whose sessions are in process. They cannot be detached, which takes a
// socket: each has the goroutine of its handler.
type hall struct {
	hub    *hub.Hub
	router http.Handler
	joined sync.WaitGroup // of those that come: they have had what was due
}

func newHall(cfg hub.Config) (h *hall, err error) {
	h = new(hall)
	cfg.OnJoin = func(*hub.Member, string) { h.joined.Done() }
	cfg.Logger = slog.New(slog.DiscardHandler)
	if h.hub, err = hub.New(cfg); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	// Heartbeats would be in the measurement: a million take a fifteenth of that a second.
	r := sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, MaxSessions: 1 << 30, Logger: cfg.Logger})
	r.SSE("/{topic}", func(s *sse.ServerSession) error {
		return h.hub.Serve(s, hub.Subscription{Topics: []string{chi.URLParam(s.Call(), "topic")}})
	})
	h.router = r
	return h, nil
}

// join starts a session that follows a topic until ctx is done. over, if it is not nil,
// is called after that.
func (h *hall) join(ctx context.Context, topic, lastEventID string, over func()) (*hallWriter, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/"+topic, http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	c := &hallWriter{header: http.Header{}}
	h.joined.Add(1)
	go func() {
		h.router.ServeHTTP(c, r)
		if over != nil {
			over()
		}
	}()
	return c, nil
}

// fill has followers of each topic join.
func (h *hall) fill(topics []string, followers int) error {
	const atOnce = 1000 // more at a time would need more stacks than they keep
	for i := range len(topics) * followers {
		if _, err := h.join(context.Background(), topics[i%len(topics)], "", nil); err != nil {
			return err
		}
		if i%atOnce == atOnce-1 {
			h.joined.Wait()
		}
	}
	h.joined.Wait()
	return nil
}

// topicNames returns n names.
func topicNames(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = prefix + strconv.Itoa(i)
	}
	return names
}

// publish publishes an event. Its data is a string of its own, as the log would keep it.
func (h *hall) publish(topic string) error {
	_, err := h.hub.Publish(context.Background(), topic, sse.Event{Name: eventName, Data: strings.Clone(hallData)})
	return err
}

var hallData = stream.Data(0, eventSize)

// wait waits until so many events have been delivered in all.
func (h *hall) wait(delivered uint64) error {
	for spins, deadline := 0, now()+stall; ; spins++ {
		switch st := h.hub.Stats(); {
		case st.Delivered >= delivered:
			return nil
		case st.Ended > 0:
			return errors.New("a session has ended for being slow")
		case now() > deadline:
			return fmt.Errorf("%d of %d deliveries in %v", st.Delivered, delivered, stall)
		}
		if runtime.Gosched(); spins > 100 { // leave the processor to those who deliver
			time.Sleep(20 * time.Microsecond)
		}
	}
}

type hallArgs struct {
	Topics, Followers int // of each topic
	Events            int
}

// hallResult is what a hall costs. Times are in nanoseconds.
type hallResult struct {
	Join      float64 // of one session
	Publish   float64 // the median of a call
	Delivered float64 // the median until all have an event
	CPU       float64 // of an event
	RSS       int64   // bytes of all sessions
	Own       int64   // of that heap and stacks
}

// inHall publishes events, each when all have had the one before.
func inHall(args hallArgs) (r hallResult, err error) {
	n := args.Topics * args.Followers
	if err := enoughMemory(int64(n) * hallBytes); err != nil {
		return r, err
	}
	h, err := newHall(hub.Config{})
	if err != nil {
		return r, err
	}
	if err := h.fill([]string{"before"}, 200); err != nil { // what is needed only once
		return r, err
	}
	before, err := readMemory()
	if err != nil {
		return r, err
	}
	topics := topicNames("topic-", args.Topics)
	began := now()
	if err := h.fill(topics, args.Followers); err != nil {
		return r, err
	}
	r.Join = float64(now()-began) / float64(n)
	after, err := readMemory()
	if err != nil {
		return r, err
	}
	r.RSS, r.Own = after.RSS-before.RSS, after.Heap+after.Stacks-before.Heap-before.Stacks

	var publish, delivered report.Samples
	var used time.Duration
	due := h.hub.Stats().Delivered
	warm := max(args.Events/8, len(topics)) // each topic has had an event then
	for i := range warm + args.Events {
		if i == warm {
			publish, delivered, used = nil, nil, cpuTime()
		}
		began := now()
		if err := h.publish(topics[i*7919%len(topics)]); err != nil {
			return r, err
		}
		publish = append(publish, float64(now()-began))
		due += uint64(args.Followers)
		if err := h.wait(due); err != nil {
			return r, err
		}
		delivered = append(delivered, float64(now()-began))
	}
	r.Publish, r.Delivered = publish.Median(), delivered.Median()
	r.CPU = float64(cpuTime()-used) / float64(args.Events)
	runtime.KeepAlive(h)
	return r, nil
}

// hallBytes is more than a session in process takes.
const hallBytes = 16 << 10

// enoughMemory fails if the machine has not so many bytes, rather than have the system
// end some process.
func enoughMemory(bytes int64) error {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "MemAvailable:")
	rest, _, _ = strings.Cut(rest, " kB")
	kib, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
	if err != nil {
		return fmt.Errorf("no MemAvailable in /proc/meminfo: %w", err)
	}
	if kib<<10 < bytes {
		return fmt.Errorf("%s MiB of memory are free, of %s that it may take", whole(float64(kib>>10)), whole(float64(bytes>>20)))
	}
	return nil
}

type logArgs struct{ Events int }

// logResult is what a log costs that is full. Times are in nanoseconds.
type logResult struct {
	Publish float64 // a call, while each event pushes another one out
	Heap    int64   // bytes of the log
	Counted int64   // what the hub takes for them
	Resume  float64 // of a session that gets all of the log
	Now     float64 // of one that gets nothing of it
}

// inLog fills a log, and has clients come back to it.
func inLog(args logArgs) (r logResult, err error) {
	if err := enoughMemory(int64(args.Events) * 2 << 10); err != nil {
		return r, err
	}
	h, err := newHall(hub.Config{LogEvents: args.Events, LogSize: 1 << 40})
	if err != nil {
		return r, err
	}
	if err := h.fill([]string{"before"}, 200); err != nil {
		return r, err
	}
	const topic = "topic"
	before, err := readMemory()
	if err != nil {
		return r, err
	}
	for range args.Events + 1 { // the log then begins with the second
		if err := h.publish(topic); err != nil {
			return r, err
		}
	}
	after, err := readMemory()
	if err != nil {
		return r, err
	}
	r.Heap, r.Counted = after.Heap-before.Heap, h.hub.Stats().LogSize

	const more = 200_000
	began := now()
	for range more {
		if err := h.publish(topic); err != nil {
			return r, err
		}
	}
	r.Publish = float64(now()-began) / more

	end := h.hub.Position()
	end.Offset -= uint64(args.Events)
	times := min(100, max(5, 100_000/args.Events))
	if r.Resume, err = h.resume(topic, end.String(), args.Events, times); err != nil {
		return r, err
	}
	r.Now, err = h.resume(topic, "", 0, 100)
	return r, err
}

// resume is the median time for one session to join, and have the events that are due
// to it.
func (h *hall) resume(topic, lastEventID string, events, times int) (float64, error) {
	var took report.Samples
	for range times {
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan struct{})
		had := h.hub.Stats().Delivered
		began := now()
		c, err := h.join(ctx, topic, lastEventID, func() { close(over) })
		if err != nil {
			cancel()
			return 0, err
		}
		h.joined.Wait()
		took = append(took, float64(now()-began))
		got := h.hub.Stats().Delivered - had
		cancel()
		<-over
		if got != uint64(events) || c.bytes < events*eventSize {
			return 0, fmt.Errorf("%d events and %d bytes came, of %d events", got, c.bytes, events)
		}
	}
	return took.Median(), nil
}

type publishersArgs struct{ Publishers, Followers, Events int }

// publishersResult has times in nanoseconds.
type publishersResult struct {
	Publish float64 // a call, the mean
	Event   float64 // of an event, by the clock, until all have it
	CPU     float64 // of an event
}

// byPublishers has several publish at once, each hundreds of events before all wait
// until they are delivered.
func byPublishers(args publishersArgs) (r publishersResult, err error) {
	h, err := newHall(hub.Config{})
	if err != nil {
		return r, err
	}
	const topic = "topic"
	if err := h.fill([]string{topic}, args.Followers); err != nil {
		return r, err
	}
	const round = 4096 // the log has many times that
	publish := time.Duration(0)
	began, used, due := now(), cpuTime(), uint64(0)
	for done := 0; done < args.Events; done += round {
		errs := make(chan error, args.Publishers)
		times := make(chan time.Duration, args.Publishers)
		for range args.Publishers {
			go func() {
				began := now()
				for range round / args.Publishers {
					if err := h.publish(topic); err != nil {
						errs <- err
						return
					}
				}
				times <- now() - began
				errs <- nil
			}()
		}
		for range args.Publishers {
			if err := <-errs; err != nil {
				return r, err
			}
			publish += <-times
		}
		due += uint64(round / args.Publishers * args.Publishers * args.Followers)
		if err := h.wait(due); err != nil {
			return r, err
		}
	}
	events := float64(due) / float64(args.Followers)
	r.Publish = float64(publish) / events
	r.Event, r.CPU = float64(now()-began)/events, float64(cpuTime()-used)/events
	return r, nil
}
