//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/example/internal/chat"
)

// reader is a client of the chat's stream, which stays in the room whatever happens.
type reader struct {
	mu       sync.Mutex
	messages []string // their texts
	nodes    []string // which have served it, in order
	err      error
}

// read reads the stream until ctx ends.
func (r *reader) read(ctx context.Context, site string) {
	c := client.Install(http.DefaultClient, client.Config{MaxReconnectionAttempts: client.Unlimited})
	err := c.SSE(ctx, site+"/chat/events", func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			if err := r.take(ev.Name, []byte(ev.Data)); err != nil {
				return err
			}
		}
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() == nil {
		r.err = fmt.Errorf("the client has ended: %w", err)
	}
}

func (r *reader) take(name string, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch name {
	case "message":
		var m chat.Message
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		r.messages = append(r.messages, m.Text)
		if m.Number != len(r.messages) {
			return fmt.Errorf("the message %d is %d", len(r.messages), m.Number)
		}
	case "live":
		var l chat.Live
		if err := json.Unmarshal(data, &l); err != nil {
			return err
		}
		r.nodes = append(r.nodes, l.Node)
	case "gap":
		return fmt.Errorf("a gap was told: %s", data)
	}
	return nil
}

const (
	state      = `document.querySelector("#wire .state").textContent`
	proof      = `document.querySelector("#proof").textContent`
	reconnects = `document.querySelector("#wire .reconnects").textContent === "%d"`
)

// servedBy returns the node that serves the page.
func (b *tab) servedBy() string {
	b.t.Helper()
	b.await("the stream is open", state+`.startsWith("open at ")`)
	return strings.TrimPrefix(eval[string](b, state), "open at ")
}

// Nodes are killed while people talk: the one that serves the page, three times, and then all
// of them. A browser's page and a client in Go lose no message, get none twice, and are told of
// no gap. The page is not reloaded, and shows the node that serves it.
func TestChatOutlivesItsNodes(t *testing.T) {
	t.Parallel()
	b := newTab(t)
	p := startProgram(t, t.TempDir())
	b.open(p.url) // which leads to the chat
	b.await("the page is in the room", `document.querySelector("#people .you span")?.textContent.endsWith(", you")`)
	eval[int](b, "window.sameDocument = 1")

	ctx, cancel := context.WithCancel(t.Context())
	var readers [3]reader // with the page, each node serves one or two of them
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	for i := range readers {
		running.Go(func() { readers[i].read(ctx, p.url) })
		require.Eventually(t, func() bool {
			readers[i].mu.Lock()
			defer readers[i].mu.Unlock()
			return len(readers[i].nodes) == 1
		}, patience, time.Millisecond)
	}

	// Several talk at once, so that nodes meet at the same number.
	var said [2]atomic.Int64
	var talking sync.WaitGroup
	quiet := make(chan struct{})
	for talker := range said {
		talking.Go(func() {
			for {
				select {
				case <-quiet:
					return
				case <-time.After(50 * time.Millisecond):
				}
				n := said[talker].Add(1)
				say(t, p.url, fmt.Sprint(talker, "/", n), fmt.Sprintf("talker %d: %d", talker, n))
			}
		})
	}
	b.await("messages come", proof+`.startsWith("Messages 1 to ")`)
	b.shoot("before")
	for _, width := range []int64{320, 390, 1280} {
		b.resize(width)
		assert.Equal(t, width, eval[int64](b, "document.documentElement.scrollWidth"), "the page must not scroll sideways")
		if width == 390 {
			b.shoot("phone")
		}
	}
	servedBy := make(map[string]bool)
	for i := range 3 {
		began := time.Now()
		node := b.servedBy()
		p.kill(node)
		b.awaitReconnects(i + 1)
		back := time.Since(began)
		servedBy[node], servedBy[b.servedBy()] = true, true
		if i == 0 {
			b.shoot("after")
		}
		p.await(node)
		b.awaitNews(readers[:])
		t.Logf("%s was killed; the page was back after %v, and all nodes after %v", node, back, time.Since(began))
	}
	began := time.Now()
	p.kill(names...)
	b.say("from the page") // which sends it until a node takes it
	b.awaitReconnects(4)
	p.await(names...)
	b.awaitNews(readers[:])
	t.Logf("all were killed; all was well after %v", time.Since(began))
	b.shoot("all")
	assert.Greater(t, len(servedBy), 1) // a node can be back before the page is
	close(quiet)
	talking.Wait()

	total := said[0].Load() + said[1].Load() + 1
	b.await("all has come", fmt.Sprintf(proof+` === "Messages 1 to %d: none lost, none repeated."`, total))
	assert.Equal(t, 1, eval[int](b, "window.sameDocument"), "the page must not have been reloaded")
	assert.Zero(t, eval[int](b, `document.querySelectorAll("#lines .gap").length`))
	assert.True(t, eval[bool](b, fmt.Sprintf(reconnects, 4)))
	b.await("its own message has come", `[...document.querySelectorAll("#lines .line p")].filter(p => p.textContent === "from the page").length === 1`)
	assert.Empty(t, eval[string](b, `document.querySelector("#error").textContent`))
	b.await("only this page is here", `document.querySelector("#count").textContent === "1"`)

	for i := range readers {
		readers[i].requireAll(t, int(total))
	}
}

// requireAll requires that the reader gets n messages, each once.
func (r *reader) requireAll(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.err != nil || len(r.messages) >= n
	}, patience, time.Millisecond)
	r.mu.Lock()
	defer r.mu.Unlock()
	require.NoError(t, r.err)
	require.Len(t, r.messages, n)
	last := [2]int{}
	for _, text := range slices.DeleteFunc(r.messages, func(text string) bool { return text == "from the page" }) {
		var talker, n int
		_, err := fmt.Sscanf(text, "talker %d: %d", &talker, &n)
		require.NoError(t, err)
		last[talker]++
		require.Equal(t, last[talker], n, "each talker's messages must come once and in order")
	}
	t.Logf("a client got %d messages, from %v", n, r.nodes)
}

// awaitReconnects waits until the page has reconnected n times, and has come to a node.
func (b *tab) awaitReconnects(n int) {
	b.t.Helper()
	b.await("the page has reconnected", fmt.Sprintf(reconnects, n))
	b.servedBy()
}

// awaitNews waits until messages come that were sent after now, to the page and to the readers.
func (b *tab) awaitNews(readers []reader) {
	b.t.Helper()
	const last = `Number([...document.querySelectorAll("#lines .at")].at(-1).textContent.replace(",", ""))`
	news := eval[int](b, last) + 10
	b.await("messages come again", fmt.Sprintf("%s > %d", last, news))
	for i := range readers {
		r := &readers[i]
		require.Eventually(b.t, func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.messages) > news || r.err != nil
		}, patience, time.Millisecond, "no messages come to the client %d", i)
		r.mu.Lock()
		require.NoError(b.t, r.err)
		r.mu.Unlock()
	}
}
