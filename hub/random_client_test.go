package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

type randomClient struct {
	run    *randomRun
	name   string
	topics []string
	odd    bool // its filter accepts only odd numbers
	skip   bool // SlowSkip in place of SlowEnd
	slow   bool
	http   *http.Client
	line   testkit.Line
	at     *randomHub  // where it connects
	calm   atomic.Bool // it is slow no longer
}

func (run *randomRun) newClient(i int) *randomClient {
	c := &randomClient{run: run, at: run.some(), name: fmt.Sprint("client ", i), odd: rand.IntN(4) == 0, skip: rand.IntN(2) == 0, slow: i%6 == 0}
	c.line.Small = c.slow
	c.topics = slices.Clone(randomTopics)
	rand.Shuffle(len(c.topics), func(i, j int) { c.topics[i], c.topics[j] = c.topics[j], c.topics[i] })
	c.topics = c.topics[:[]int{1, 1, 2, 4}[rand.IntN(4)]]
	c.http = &http.Client{Transport: c.transport()}
	return c
}

// transport returns a transport for the client's line.
func (c *randomClient) transport() *http.Transport {
	tr := &http.Transport{Protocols: c.run.tr.protocol.Protocols(), DialContext: c.line.DialContext}
	if c.run.tr.protocol.TLS {
		tr.TLSClientConfig = c.run.hubs[0].srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	}
	return tr
}

// cut closes the connection, if there is one, with a reset or an ordinary close.
func (c *randomClient) cut() {
	if c.line.Cut(rand.IntN(2) == 0) {
		c.run.cuts.Add(1)
	}
}

func (c *randomClient) url() string {
	q := url.Values{"topic": c.topics}
	if c.odd {
		q.Set("odd", "")
	}
	if c.skip {
		q.Set("skip", "")
	}
	return c.at.srv.URL + "/?" + q.Encode()
}

// live connects again and again, until the client has seen the last event.
func (c *randomClient) live(ctx context.Context) {
	id := ""
	for ctx.Err() == nil {
		c.at = c.run.some()
		cn := &randomConn{run: c.run, ownIDs: c.run.tr.ownIDs, who: c.name, topics: c.topics, odd: c.odd, skip: c.skip, exact: id != "", from: id, before: c.at.Position().Offset}
		next, done, err := c.connect(ctx, cn)
		if err != nil && ctx.Err() == nil {
			c.run.t.Errorf("%s: %v", c.name, err)
			return
		}
		cn.to = next
		c.run.keep(cn)
		c.http.CloseIdleConnections()
		if done {
			return
		}
		id = next
		select {
		case <-c.run.stop:
		case <-ctx.Done():
		case <-time.After(rand.N(30 * time.Millisecond)):
			if rand.IntN(12) == 0 {
				time.Sleep(rand.N(time.Second)) // it may miss more events than the log holds
			}
			if rand.IntN(10) == 0 {
				id = ""
			}
		}
	}
}

// connect reads one stream, and returns the client's last event id then, and whether it has
// seen the last event. The end of the stream is not an error.
func (c *randomClient) connect(ctx context.Context, cn *randomConn) (id string, done bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.get(ctx, cn.from)
	if err != nil {
		return cn.from, false, err
	}
	defer resp.Body.Close()
	c.run.conns.Add(1)
	cn.after = c.at.Position().Offset
	if _, known := c.run.end(c.topics); known && cn.from == "" {
		return "", true, nil // it starts after the last event
	}
	body := &randomReader{Reader: resp.Body, client: c, rest: -1}
	switch rand.IntN(8) {
	case 0: // it stays connected
	case 1:
		time.AfterFunc(rand.N(300*time.Millisecond), cancel)
	default:
		body.rest = int(rand.ExpFloat64() * 10_000)
	}
	d := event.NewDecoder(nil)
	d.Reset(body, cn.from)
	for {
		e, err := d.Decode()
		if err != nil {
			return d.LastEventID(), false, nil
		}
		if c.take(cn, e) {
			return d.LastEventID(), true, nil
		}
	}
}

func (c *randomClient) get(ctx context.Context, id string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(), http.NoBody)
	if err != nil {
		return nil, err
	}
	if id != "" {
		r.Header.Set("Last-Event-ID", id)
	}
	resp, err := c.http.Do(r)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = errors.New(resp.Status)
	}
	return resp, err
}

// take records an event in cn, and reports whether it is the last.
func (c *randomClient) take(cn *randomConn, e event.Event) bool {
	item := randomItem{id: e.ID, sum: randomSum(e.ID, e.Data), evicted: c.run.evicted(c.at)}
	c.run.seen.Add(1)
	if e.Name == hub.GapEvent {
		c.run.gaps.Add(1)
		if err := json.Unmarshal([]byte(e.Data), &item.gap); err != nil {
			c.run.t.Errorf("%s: %v", c.name, err)
		}
		if c.run.tr.opaque {
			if !item.gap.Position.IsZero() {
				c.run.t.Errorf("%s: the gap has a position: %s", c.name, e.Data)
			}
			item.gap.Position = c.run.parse(e.ID)
		}
	}
	cn.items = append(cn.items, item)
	end, known := c.run.end(c.topics)
	if !known {
		return false
	}
	if cn.ownIDs && item.gap != nil && item.gap.Reason == hub.GapSlow {
		return true // it may have skipped the last event, and is not told where it continues
	}
	return c.run.offsetOf(e.ID) >= end
}

// hurry cuts a slow client off that has a Log, once, and reports whether it has. The client
// comes back with usual buffers; with small ones it would take a minute for all of the Log.
func (c *randomClient) hurry() bool {
	if !c.slow || !c.run.tr.log || c.calm.Swap(true) {
		return false
	}
	c.line.Small = false // from the next connection on
	c.line.Cut(true)
	return true
}

// randomReader reads slowly if its client is slow, and cuts the connection after rest
// bytes.
type randomReader struct {
	io.Reader
	client *randomClient
	rest   int // negative: it does not cut
}

func (r *randomReader) Read(p []byte) (int, error) {
	select {
	case <-r.client.run.stop: // from now on it reads fast, so that the run ends
		if r.client.hurry() {
			return 0, io.ErrUnexpectedEOF
		}
	default:
		if r.client.slow && rand.IntN(4) == 0 {
			time.Sleep(rand.N(40 * time.Millisecond))
			p = p[:min(len(p), 600)]
		}
	}
	if r.rest == 0 {
		r.client.cut()
		return 0, io.ErrUnexpectedEOF
	}
	if r.rest > 0 {
		p = p[:min(len(p), r.rest)]
	}
	n, err := r.Reader.Read(p)
	if r.rest > 0 {
		r.rest -= n
	}
	return n, err
}

// liveByClient is live with package client, which reconnects by itself.
func (c *randomClient) liveByClient(ctx context.Context) {
	cn := &randomConn{run: c.run, ownIDs: c.run.tr.ownIDs, who: c.name, topics: c.topics, odd: c.odd, skip: c.skip, exact: true, from: c.at.ID(c.at.Position())}
	if c.run.tr.ownIDs {
		cn.from = "first " + c.topics[0]
	}
	defer c.run.keep(cn)
	by := client.Install(c.http, client.Config{
		MaxReconnectionAttempts: client.Unlimited, ReconnectionTime: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
		Jitter: -1, MinRetry: -1, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			time.Sleep(rand.N(200 * time.Millisecond))
			select {
			case <-c.run.stop:
				return
			default:
				c.cut()
			}
		}
	}()
	err := by.SSE(ctx, c.url(), func(s *client.Session) error {
		for e, err := range s.Incoming() {
			if err != nil {
				return err
			}
			if c.slow && rand.IntN(20) == 0 {
				select {
				case <-c.run.stop:
					c.hurry()
				case <-time.After(rand.N(40 * time.Millisecond)):
				}
			}
			if c.take(cn, e) {
				return nil
			}
		}
		return errors.New("the stream has ended")
	}, client.WithLastEventID(cn.from))
	if err != nil && ctx.Err() == nil {
		c.run.t.Errorf("%s: %v", c.name, err)
	}
}

// playDead connects again and again, and does not read.
func (c *randomClient) playDead(ctx context.Context) {
	c.slow, c.line.Small = true, true
	for ctx.Err() == nil {
		resp, err := c.get(ctx, "")
		if err != nil {
			if ctx.Err() == nil {
				c.run.t.Errorf("%s: %v", c.name, err)
			}
			return
		}
		select {
		case <-c.run.stop:
			<-ctx.Done()
		case <-ctx.Done():
		case <-time.After(time.Second + rand.N(2*time.Second)):
		}
		c.cut()
		resp.Body.Close()
		c.http.CloseIdleConnections()
	}
}
