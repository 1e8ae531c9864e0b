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

// growthOps returns the server's operations that need no connections. Each has its own hub
// and sessions whose writers only count bytes. So the operations measure what the hub and
// its sessions cost, without the system's sockets and without net/http.
func growthOps() map[string]operation {
	return map[string]operation{
		"subscribers": profiled(op(measureLocal)),
		"log":         profiled(op(measureLog)),
		"publishers":  profiled(op(measurePublishers)),
	}
}

// countingWriter is the http.ResponseWriter of a session in process. It accepts all bytes at
// once and counts them.
type countingWriter struct {
	header http.Header
	bytes  int
}

func (c *countingWriter) Header() http.Header               { return c.header }
func (c *countingWriter) WriteHeader(int)                   {}
func (c *countingWriter) Flush()                            {}
func (c *countingWriter) SetReadDeadline(time.Time) error   { return nil }
func (c *countingWriter) SetWriteDeadline(time.Time) error  { return nil }
func (c *countingWriter) Write(p []byte) (n int, err error) { c.bytes += len(p); return len(p), nil }

// localHub is a hub whose sessions are in this process and have no sockets. Each session
// keeps the goroutine of its handler, because a session without a socket cannot be detached.
type localHub struct {
	hub    *hub.Hub
	router http.Handler
	joined sync.WaitGroup // counts the sessions that have not joined and received their replay yet
}

// newLocalHub returns a localHub with the configuration cfg. It sets cfg.OnJoin and
// cfg.Logger.
func newLocalHub(cfg hub.Config) (h *localHub, err error) {
	h = new(localHub)
	cfg.OnJoin = func(*hub.Member, string) { h.joined.Done() }
	cfg.Logger = slog.New(slog.DiscardHandler)
	if h.hub, err = hub.New(cfg); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	// Heartbeats are off, because they would be measured too: a million sessions send a
	// fifteenth of a million heartbeats a second.
	r := sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, MaxSessions: 1 << 30, Logger: cfg.Logger})
	r.SSE("/{topic}", func(s *sse.ServerSession) error {
		return h.hub.Serve(s, hub.Subscription{Topics: []string{chi.URLParam(s.Call(), "topic")}})
	})
	h.router = r
	return h, nil
}

// join starts a session that follows a topic until ctx is done, and returns its writer. If
// over is not nil, it is called when the session has ended.
func (h *localHub) join(ctx context.Context, topic, lastEventID string, over func()) (*countingWriter, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/"+topic, http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	c := &countingWriter{header: http.Header{}}
	h.joined.Add(1)
	go func() {
		h.router.ServeHTTP(c, r)
		if over != nil {
			over()
		}
	}()
	return c, nil
}

// fill starts sessions, as many as followers for each topic, and waits until they have
// joined.
func (h *localHub) fill(topics []string, followers int) error {
	const atOnce = 1000 // more at a time would grow stacks that the sessions do not need later
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

// topicNames returns n names that begin with prefix.
func topicNames(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = prefix + strconv.Itoa(i)
	}
	return names
}

// publish publishes an event. Its data is a new string each time, so that the log keeps one
// for each event.
func (h *localHub) publish(topic string) error {
	_, err := h.hub.Publish(context.Background(), topic, sse.Event{Name: eventName, Data: strings.Clone(localData)})
	return err
}

var localData = stream.Data(0, eventSize)

// wait waits until the hub has made that many deliveries in all. It returns an error if a
// session ends, or if the deliveries take longer than stall.
func (h *localHub) wait(delivered uint64) error {
	for spins, deadline := 0, now()+stall; ; spins++ {
		switch st := h.hub.Stats(); {
		case st.Delivered >= delivered:
			return nil
		case st.Ended > 0:
			return errors.New("the hub has ended a session that was too slow")
		case now() > deadline:
			return fmt.Errorf("only %d of %d deliveries in %v", st.Delivered, delivered, stall)
		}
		if runtime.Gosched(); spins > 100 { // leave the processor to the hub's workers
			time.Sleep(20 * time.Microsecond)
		}
	}
}

type localArgs struct {
	Topics    int
	Followers int // followers of each topic
	Events    int
}

// localResult holds the costs of a localHub. Times are in nanoseconds.
type localResult struct {
	Join      float64 // the mean time for a session to join
	Publish   float64 // the median time of a publish call
	Delivered float64 // the median time until all followers have an event
	CPU       float64 // the mean CPU time of an event
	RSS       int64   // the resident memory of all sessions, in bytes
	Own       int64   // heap and stacks of all sessions, in bytes
}

// measureLocal publishes events to followers in process. It publishes each when all followers
// have received the one before.
func measureLocal(args localArgs) (r localResult, err error) {
	n := args.Topics * args.Followers
	if err := enoughMemory(int64(n) * sessionBytes); err != nil {
		return r, err
	}
	h, err := newLocalHub(hub.Config{})
	if err != nil {
		return r, err
	}
	if err := h.fill([]string{"before"}, 200); err != nil { // so that memory that is needed only once does not count
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
	warm := max(args.Events/8, len(topics)) // so each topic has had an event before the measurement
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

// sessionBytes is more memory than a session in process takes.
const sessionBytes = 16 << 10

// enoughMemory returns an error if the machine does not have that many bytes available.
// Without this check, the system might kill some process.
func enoughMemory(bytes int64) error {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "MemAvailable:")
	rest, _, _ = strings.Cut(rest, " kB")
	kib, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
	if err != nil {
		return fmt.Errorf("/proc/meminfo must have a MemAvailable in kB: %w", err)
	}
	if kib<<10 < bytes {
		return fmt.Errorf("the measurement may take %s MiB of memory, and only %s MiB are available", whole(float64(bytes>>20)), whole(float64(kib>>10)))
	}
	return nil
}

type logArgs struct{ Events int }

// logResult holds the costs of a full log. Times are in nanoseconds.
type logResult struct {
	Publish float64 // the mean time of a publish call, when each event replaces the oldest one
	Heap    int64   // the log's memory, in bytes
	Counted int64   // the log's size, in bytes, as the hub counts it
	Resume  float64 // the median time for a session to join and receive the whole log
	Now     float64 // the median time for a session to join and receive nothing of the log
}

// measureLog fills a log and then lets sessions join, with and without a replay of the log.
func measureLog(args logArgs) (r logResult, err error) {
	if err := enoughMemory(int64(args.Events) * 2 << 10); err != nil {
		return r, err
	}
	h, err := newLocalHub(hub.Config{LogEvents: args.Events, LogSize: 1 << 40})
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
	for range args.Events + 1 { // one more than fits, so the log begins with the second event
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

// resume returns the median time for one session to join and receive its replay, of that
// many events. It returns an error if another number of events comes.
func (h *localHub) resume(topic, lastEventID string, events, times int) (float64, error) {
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
			return 0, fmt.Errorf("%d events and %d bytes came, want %d events", got, c.bytes, events)
		}
	}
	return took.Median(), nil
}

type publishersArgs struct{ Publishers, Followers, Events int }

// publishersResult holds the costs with several publishers. Times are in nanoseconds.
type publishersResult struct {
	Publish float64 // the mean time of a publish call
	Event   float64 // the mean time of an event, by the clock, until all followers have it
	CPU     float64 // the mean CPU time of an event
}

// measurePublishers lets several goroutines publish at once. In each round they publish 4,096
// events together and then wait until all are delivered.
func measurePublishers(args publishersArgs) (r publishersResult, err error) {
	h, err := newLocalHub(hub.Config{})
	if err != nil {
		return r, err
	}
	const topic = "topic"
	if err := h.fill([]string{topic}, args.Followers); err != nil {
		return r, err
	}
	const round = 4096 // the log holds many times that
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
