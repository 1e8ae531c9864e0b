package hub

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
)

// page is a stretch of the Log, for members with the same topics. It does not change once it
// is read.
type page struct {
	entries []*entry
	upTo    uint64    // the hub's offset up to which it is complete
	size    int64     // of the entries in memory, in bytes
	used    time.Time // when somebody asked for it last; pages.mu guards it

	key  pageKey
	done chan struct{} // closed when it is read
	err  error
}

type pageKey struct {
	topics string
	after  uint64 // the hub's offset
}

const (
	pageEvents = 512              // how many records a page has at the most
	pageSize   = 1 << 20          // what a page should take in memory, in bytes
	coldReads  = 4                // how many pages are read at the same time
	keptPages  = 64               // how many pages are kept
	keptBytes  = 16 << 20         // and of what size together
	keptFor    = 10 * time.Second // and for how long after somebody has asked for them
)

// pages reads and keeps pages.
type pages struct {
	hub   *Hub
	f     *follower
	turns chan struct{} // has room for those who may read
	ctx   context.Context
	stop  context.CancelFunc // ends all reads: no member is left that could use them
	most  atomic.Int64       // how many records the next page may have

	mu    sync.Mutex
	byKey map[pageKey]*page
	order []*page // those that are read, the oldest first
	size  int64
	sweep *time.Timer // drops pages that nobody has asked for; nil if none is set
	reads uint64      // how many were read; for tests
}

func (c *pages) init(h *Hub, f *follower) {
	c.hub, c.f = h, f
	c.ctx, c.stop = context.WithCancel(context.WithoutCancel(f.ctx))
	c.most.Store(pageEvents)
	c.turns = make(chan struct{}, coldReads)
	c.byKey = make(map[pageKey]*page)
}

// read returns the page of topics, which are sorted, after the hub's offset. It need not go
// further than upTo. While the Log is out of reach, read waits. The error is that of ctx, one
// that matches ErrEpoch or, when a shutdown is over, sse.ErrShutdown, or a [*TruncatedError].
func (c *pages) read(ctx context.Context, topics []string, after, upTo uint64) (*page, error) {
	k := pageKey{joinTopics(topics), after}
	for wait := minFollowWait; ; wait = min(2*wait, maxFollowWait) {
		p, mine := c.claim(k)
		if mine {
			go c.fetch(p, topics, upTo) // it goes on if ctx ends, because others may wait for it
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if p.err == nil {
			return p, nil
		}
		if _, ok := errors.AsType[*TruncatedError](p.err); ok || errors.Is(p.err, ErrEpoch) {
			return nil, p.err
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return nil, sse.ErrShutdown
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// joinTopics returns a text that only these topics have. Their names may contain any byte.
func joinTopics(topics []string) string {
	var b strings.Builder
	for _, name := range topics {
		b.WriteString(strconv.Itoa(len(name)))
		b.WriteByte(':')
		b.WriteString(name)
	}
	return b.String()
}

// claim returns the page with k. If mine, the caller must have it fetched.
func (c *pages) claim(k pageKey) (p *page, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.byKey[k]; known != nil {
		known.used = time.Now()
		return known, false
	}
	p = &page{key: k, done: make(chan struct{}), used: time.Now()}
	c.byKey[k] = p
	return p, true
}

// fetch reads p.
func (c *pages) fetch(p *page, topics []string, upTo uint64) {
	select {
	case c.turns <- struct{}{}:
		p.err = c.load(p, topics, upTo)
		<-c.turns
	case <-c.ctx.Done():
		p.err = c.ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	if p.err != nil {
		delete(c.byKey, p.key)
	} else {
		c.keepLocked(p)
	}
	close(p.done)
}

// keepLocked keeps p, and drops older pages if there are too many. mu is held.
func (c *pages) keepLocked(p *page) {
	c.order = append(c.order, p)
	c.size += p.size
	for len(c.order) > 1 && (len(c.order) > keptPages || c.size > keptBytes) {
		c.size -= c.order[0].size
		delete(c.byKey, c.order[0].key)
		c.order = slices.Delete(c.order, 0, 1)
	}
	if c.sweep == nil {
		c.sweep = time.AfterFunc(keptFor, c.drop)
	}
}

// drop drops the pages that nobody has asked for during keptFor.
func (c *pages) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep = nil
	now := time.Now()
	c.order = slices.DeleteFunc(c.order, func(p *page) bool {
		if now.Sub(p.used) < keptFor {
			return false
		}
		c.size -= p.size
		delete(c.byKey, p.key)
		return true
	})
	if len(c.order) > 0 {
		c.sweep = time.AfterFunc(keptFor/2, c.drop)
	}
}

// load reads p from the Log and encodes its events.
func (c *pages) load(p *page, topics []string, upTo uint64) error {
	h := c.hub
	s := h.spans.last()
	if p.key.after < s.from {
		return ErrEpoch
	}
	ctx, cancel := context.WithTimeout(c.ctx, h.cfg.PublishTimeout)
	defer cancel()
	b, err := h.cfg.Log.Read(ctx, topics, Position{s.epoch, p.key.after - s.base}, Position{s.epoch, upTo - s.base}, int(c.most.Load()))
	if err != nil {
		return err
	}
	if b.UpTo+s.base <= p.key.after {
		return errors.New("hub: the log has returned a page that does not go on")
	}
	p.upTo = b.UpTo + s.base
	for i := range b.Records {
		rec := &b.Records[i]
		if rec.Kind == ControlRecord {
			continue
		}
		after, err := c.f.isAfterLast(ctx, rec.Topic, rec.Offset+s.base)
		if err != nil {
			return err
		}
		if after {
			continue
		}
		e := &entry{Message: Message{Topic: rec.Topic, Event: rec.Event, Time: rec.Time, Position: Position{s.epoch, rec.Offset}}, offset: rec.Offset + s.base}
		frame, err := h.encode(rec.Topic, rec.Event)
		if rec.Kind != EventRecord || err != nil {
			e.Event = sse.Event{Name: string(GapLost)}
		} else {
			e.frame = h.complete(frame, e.Position)
		}
		p.size += e.size()
		p.entries = append(p.entries, e)
	}
	if h.spans.last() != s {
		return ErrEpoch // the frames may have ids of the next one
	}
	c.most.Store(nextMost(len(b.Records), p.size))
	if b.Hole {
		p.entries = append(p.entries, newHole("", p.upTo, GapLost))
	}
	return nil
}

// nextMost returns how many records the next page may have, if the last one had so many, which
// took size bytes in memory.
func nextMost(records int, size int64) int64 {
	if size == 0 {
		return pageEvents
	}
	return max(1, min(pageEvents, pageSize*int64(records)/size))
}
