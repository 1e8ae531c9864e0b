//go:build unix

package boltlog

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/hub"
)

const (
	soakEvents = 2000 // what the soak's log holds
	soakLag    = 200  // how many events may be acknowledged and not read from the pipe yet
)

// soak is what the parent of the soak's servers knows.
type soak struct {
	path, addr string

	mu           sync.Mutex
	acknowledged map[uint64]string // data by offset
	head         uint64            // the highest of these offsets
}

func (s *soak) acknowledgedUpTo() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head
}

// soakServer is a server that the parent has started.
type soakServer struct {
	cmd   *exec.Cmd
	open  chan bool     // whether the process has opened the log, in time to tell of it
	ended chan struct{} // closed when all that it has told has been read
}

// start starts a server with so many publishers.
func (s *soak) start(t *testing.T, publishers string) *soakServer {
	t.Helper()
	p := &soakServer{cmd: child(t, "serve", s.path), open: make(chan bool, 1), ended: make(chan struct{})}
	p.cmd.Env = append(p.cmd.Env, "SSE_BOLTLOG_ADDR="+s.addr, "SSE_BOLTLOG_PUBLISHERS="+publishers)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	go func() {
		defer close(p.ended)
		in := bufio.NewReader(out)
		line, err := in.ReadString('\n')
		for p.open <- line == "open\n"; err == nil; {
			if line, err = in.ReadString('\n'); err == nil { // the rest of a line counts for nothing
				s.acknowledge(line)
			}
		}
	}()
	return p
}

// acknowledge reads what a server has told: the offset and the data of an event.
func (s *soak) acknowledge(line string) {
	number, data, _ := strings.Cut(strings.TrimSpace(line), " ")
	offset, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		panic("a line of the server: " + line)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.acknowledged[offset]; ok {
		panic(fmt.Sprintf("offset %d is of %s and of %s", offset, old, data))
	}
	s.acknowledged[offset] = data
	s.head = max(s.head, offset)
}

// opened waits until the server has opened its log. It returns false if the server ended.
func (p *soakServer) opened(t *testing.T) bool {
	t.Helper()
	select {
	case ok := <-p.open:
		return ok
	case <-time.After(30 * time.Second):
		require.Fail(t, "the server has not opened its log")
		return false
	}
}

// kill kills the server, and waits until all that it has told has been read.
func (p *soakServer) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	<-p.ended
	require.ErrorContains(t, p.cmd.Wait(), "killed")
}

// serveUntilKilled serves the hub of a log, publishes from several goroutines, and prints
// what Publish has acknowledged.
func serveUntilKilled(path string) error {
	publishers, err := strconv.Atoi(os.Getenv("SSE_BOLTLOG_PUBLISHERS"))
	if err != nil {
		return err
	}
	l, err := Open(path, quiet(Config{MaxEvents: soakEvents}))
	if err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler)
	h, err := hub.Open(ctxForever, hub.Config{Log: l, LogEvents: 500, Logger: logger}) // older ones are read from the file
	if err != nil {
		return err
	}
	r := sse.Install(chi.NewRouter(), sse.Config{Logger: logger})
	r.SSE("/", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
	})
	listener, err := net.Listen("tcp", os.Getenv("SSE_BOLTLOG_ADDR"))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.Plugin().Attach(srv)
	fmt.Println("open")
	for p := range publishers {
		go func() {
			for n := 0; ; n++ {
				data := fmt.Sprintf("%d-%d-%d-%d", os.Getpid(), time.Now().UnixNano(), p, n)
				pos, err := h.Publish(ctxForever, "a", sse.Event{Data: data})
				if err != nil {
					fmt.Fprintln(os.Stderr, "child:", err)
					os.Exit(1)
				}
				_, _ = fmt.Fprintf(os.Stdout, "%d %s\n", pos.Offset, data)
				time.Sleep(2 * time.Millisecond)
			}
		}()
	}
	return srv.Serve(listener)
}

// soakClient reads the stream, and resumes when it has ended.
type soakClient struct {
	soak *soak
	stay int           // how many events it reads before it leaves; 0 for all
	away time.Duration // how long it then stays away

	hurry atomic.Bool   // it stays away no longer
	upTo  atomic.Uint64 // it has everything up to this offset, or was told of the gap

	// These may be read when read has returned.
	got  []soakEvent
	gaps []soakGap
	err  error
}

// soakEvent is an event that a client got.
type soakEvent struct {
	offset uint64
	data   string
}

// soakGap is a gap that a client was told of.
type soakGap struct {
	after, upTo uint64 // it is after the one, up to and including the other
	head        uint64 // the highest offset that was acknowledged when the client was told
	reason      string
}

// inGap returns whether the client was told that the event at offset is missing.
func (c *soakClient) inGap(offset uint64) bool {
	for _, g := range c.gaps {
		if offset > g.after && offset <= g.upTo {
			return true
		}
	}
	return false
}

// read reads until ctx ends.
func (c *soakClient) read(ctx context.Context) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	reader := client.Install(&http.Client{Transport: transport}, client.Config{
		MaxReconnectionAttempts: client.Unlimited,
		OnFailure:               func(client.Failure) client.Decision { return client.RetryIn(10 * time.Millisecond) },
		Logger:                  slog.New(slog.DiscardHandler),
	})
	id := ""
	for ctx.Err() == nil && c.err == nil {
		var options []client.Option
		if id != "" {
			options = append(options, client.WithLastEventID(id))
		}
		err := reader.SSE(ctx, "http://"+c.soak.addr+"/", func(s *client.Session) error {
			left := c.stay
			for ev, err := range s.Incoming() {
				if err != nil {
					return err
				}
				id = ev.ID
				if c.take(ev); c.err != nil {
					return c.err
				}
				if left--; left == 0 && !c.hurry.Load() {
					return nil // it leaves
				}
			}
			return nil
		}, options...)
		if err != nil && ctx.Err() == nil {
			c.err = err
			c.upTo.Store(none) // the test must not wait for it
		}
		for began := time.Now(); time.Since(began) < c.away && !c.hurry.Load() && ctx.Err() == nil; {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// take notes an event.
func (c *soakClient) take(ev client.Event) {
	pos, err := hub.ParsePosition(ev.ID)
	if err != nil {
		c.err = fmt.Errorf("%+v: %w", ev, err)
		return
	}
	if ev.Name == hub.GapEvent {
		var gap hub.Gap
		if c.err = json.Unmarshal([]byte(ev.Data), &gap); c.err != nil {
			return
		}
		c.gaps = append(c.gaps, soakGap{c.upTo.Load(), gap.Position.Offset, c.soak.acknowledgedUpTo(), string(gap.Reason)})
	} else {
		c.got = append(c.got, soakEvent{pos.Offset, ev.Data})
	}
	c.upTo.Store(pos.Offset)
}
