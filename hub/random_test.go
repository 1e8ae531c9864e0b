package hub_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// TestRandom has many clients come and go over real sockets, by chance, and cut off
// in mid-event, while several publish. All that each has seen is compared with what
// was published: nothing lost, nothing doubled, all in order, or a gap that is told of
// events that had left the log.
//
// SSE_HUB_SOAK=5m makes it longer.
func TestRandom(t *testing.T) {
	for _, tr := range randomTransports {
		t.Run(tr.name, func(t *testing.T) { newRandomRun(t, tr).run() })
	}
}

type randomTransport struct {
	name      string
	tls       bool
	detached  bool
	protocols func(*http.Protocols, bool)
}

var randomTransports = []randomTransport{
	{"http1", false, false, (*http.Protocols).SetHTTP1},
	{"http2-tls", true, false, (*http.Protocols).SetHTTP2},
	{"h2c", false, false, (*http.Protocols).SetUnencryptedHTTP2},
	{"detached", false, true, (*http.Protocols).SetHTTP1},
	{"detached-tls", true, true, (*http.Protocols).SetHTTP1},
}

const (
	randomLog      = 1500 // events in the log
	randomPatience = 60 * time.Second
)

type randomRun struct {
	t    *testing.T
	tr   randomTransport
	hub  *hub.Hub
	srv  *httptest.Server
	stop chan struct{} // closed when no more is going to be published

	mu     sync.Mutex
	events []randomEvent // in no order, until all are there
	ends   map[string]uint64
	seenBy []*randomConn
	errors int

	conns, cuts, gaps, seen, slowEnds atomic.Int64
}

type randomEvent struct {
	offset          uint64
	topic, id, data string
	odd             bool
}

// randomConn is what a client has seen over one connection, or over several where the
// client resumes by itself.
type randomConn struct {
	who    string
	topics []string
	odd    bool
	exact  bool // it came with an id: from
	skip   bool
	from   string // the id
	to     string // that it left with
	// Without one it begins somewhere between where the hub was before and after.
	before, after uint64
	items         []randomItem
}

type randomItem struct {
	id      string
	sum     uint64 // of the data
	gap     *hub.Gap
	evicted uint64 // when it was seen
}

var randomTopics = []string{"a", "b", "c", "d"}

func newRandomRun(t *testing.T, tr randomTransport) *randomRun {
	t.Helper()
	run := &randomRun{t: t, tr: tr, stop: make(chan struct{}), ends: make(map[string]uint64)}
	quiet := slog.New(slog.DiscardHandler)
	h, err := hub.New(hub.Config{LogEvents: randomLog, Detached: tr.detached, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	run.hub = h
	r := sse.Install(chi.NewRouter(), sse.Config{
		Heartbeat: sse.Heartbeat{Period: 20 * time.Millisecond}, WriteTimeout: 2 * time.Second, ShutdownSpread: -1, Logger: quiet,
		OnClose: func(_ *sse.ServerSession, e sse.End) {
			if e.Reason == sse.EndSlow {
				run.slowEnds.Add(1)
			}
		},
	})
	r.SSE("/", func(s *sse.ServerSession) error {
		q := s.Call().URL.Query()
		sub := hub.Subscription{Topics: q["topic"]}
		if q.Has("odd") {
			sub.Filter = func(m *hub.Message) bool { return randomOdd(m.Event.Data) }
		}
		if q.Has("skip") {
			sub.Slow = hub.SlowSkip
		}
		return h.Serve(s, sub)
	})
	run.srv = httptest.NewUnstartedServer(r)
	run.srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	run.srv.Config.Protocols = tr.only()
	run.srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		_ = c.(*net.TCPConn).SetWriteBuffer(8 << 10)
		return ctx
	}
	if tr.tls {
		run.srv.EnableHTTP2 = tr.name == "http2-tls"
		run.srv.StartTLS()
	} else {
		run.srv.Start()
	}
	t.Cleanup(func() {
		run.srv.CloseClientConnections()
		run.srv.Close()
		deadline := time.Now().Add(randomPatience)
		for (r.Plugin().Len() > 0 || h.Stats().Members > 0) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if n, m := r.Plugin().Len(), h.Stats().Members; n > 0 || m > 0 {
			t.Errorf("%d sessions, %d members are left", n, m)
		}
	})
	return run
}

func (tr randomTransport) only() *http.Protocols {
	p := new(http.Protocols)
	tr.protocols(p, true)
	return p
}

func (run *randomRun) run() {
	t := run.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	var publishers, clients, dead sync.WaitGroup
	for i := range 4 {
		publishers.Go(func() { run.publish(i) })
	}
	for i := range 24 {
		clients.Go(func() { run.newClient(i).live(ctx) })
	}
	for i := range 6 {
		clients.Go(func() { run.newClient(100 + i).liveByClient(ctx) })
	}
	for i := range 4 {
		dead.Go(func() { run.newClient(200 + i).playDead(ctx) })
	}
	time.Sleep(cmp.Or(randomSoak()/time.Duration(len(randomTransports)), 2*time.Second))
	close(run.stop)
	publishers.Wait()
	run.publishEnds()
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(randomPatience):
		t.Errorf("clients wait in vain: %+v", run.hub.Stats())
		cancel()
		<-done
	}
	cancel()
	dead.Wait()
	shutdown, cancelShutdown := context.WithTimeout(context.Background(), randomPatience)
	defer cancelShutdown()
	if err := run.hub.Shutdown(shutdown); err != nil {
		t.Error(err)
	}
	run.verify()
	t.Logf("%d published, %d connections, %d cut off, %d seen, %d gaps, %d ended for being slow, %v", len(run.events), run.conns.Load(),
		run.cuts.Load(), run.seen.Load(), run.gaps.Load(), run.slowEnds.Load(), time.Since(began).Round(time.Millisecond))
}

func randomSoak() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("SSE_HUB_SOAK"))
	return d
}

func randomOdd(data string) bool {
	number, _, _ := strings.Cut(data, " ")
	return number == "end" || number != "" && number[len(number)-1]&1 == 1
}

// publish publishes in bursts.
func (run *randomRun) publish(by int) {
	for n := by; ; {
		select {
		case <-run.stop:
			return
		default:
		}
		for range 1 + rand.IntN(12) {
			data := strconv.Itoa(n) + " " + strings.Repeat("x", rand.IntN(300))
			if rand.IntN(40) == 0 {
				data += "\n" + strings.Repeat("long ", rand.IntN(2000)) + "."
			}
			e := sse.Event{Data: data}
			if rand.IntN(20) == 0 {
				e.ID = fmt.Sprintf("own %d", n)
			}
			n += 4
			run.mustPublish(randomTopics[rand.IntN(len(randomTopics))], e)
		}
		time.Sleep(rand.N(4 * time.Millisecond))
	}
}

func (run *randomRun) mustPublish(topic string, e sse.Event) {
	pos, err := run.hub.Publish(context.Background(), topic, e)
	if err != nil {
		run.t.Error(err)
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	run.note(pos, topic, e)
}

func (run *randomRun) publishLocked(topic string, e sse.Event) uint64 {
	pos, err := run.hub.Publish(context.Background(), topic, e)
	if err != nil {
		run.t.Error(err)
	}
	run.note(pos, topic, e)
	return pos.Offset
}

func (run *randomRun) note(pos hub.Position, topic string, e sse.Event) {
	run.events = append(run.events, randomEvent{pos.Offset, topic, cmp.Or(e.ID, pos.String()), e.Data, randomOdd(e.Data)})
}

// publishEnds publishes the last event of each topic. Clients that see one wait for mu,
// to know whether it is their last.
func (run *randomRun) publishEnds() {
	run.mu.Lock()
	defer run.mu.Unlock()
	for _, topic := range randomTopics {
		run.ends[topic] = run.publishLocked(topic, sse.Event{Data: "end"})
	}
	slices.SortFunc(run.events, func(a, b randomEvent) int { return cmp.Compare(a.offset, b.offset) })
	for i, e := range run.events {
		if e.offset != uint64(i+1) {
			run.t.Errorf("there is no event %d", i+1)
			break
		}
	}
}

func (run *randomRun) keep(cn *randomConn) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.seenBy = append(run.seenBy, cn)
}

// end returns the offset of the last event that is to be looked at. It is not known
// before all are published.
func (run *randomRun) end(topics []string) (offset uint64, known bool) {
	run.mu.Lock()
	defer run.mu.Unlock()
	for _, topic := range topics {
		offset = max(offset, run.ends[topic])
	}
	return offset, offset > 0
}

type randomClient struct {
	run    *randomRun
	name   string
	topics []string
	odd    bool // it wants half of the events
	skip   bool // it takes a gap for being slow
	slow   bool
	http   *http.Client

	mu   sync.Mutex
	conn *net.TCPConn
}

func (run *randomRun) newClient(i int) *randomClient {
	c := &randomClient{run: run, name: fmt.Sprint("client ", i), odd: rand.IntN(4) == 0, skip: rand.IntN(2) == 0, slow: i%6 == 0}
	c.topics = slices.Clone(randomTopics)
	rand.Shuffle(len(c.topics), func(i, j int) { c.topics[i], c.topics[j] = c.topics[j], c.topics[i] })
	c.topics = c.topics[:[]int{1, 1, 2, 4}[rand.IntN(4)]]
	c.http = &http.Client{Transport: c.transport()}
	return c
}

// transport has a connection of its own, so that it can be cut.
func (c *randomClient) transport() *http.Transport {
	dialer := new(net.Dialer)
	tr := &http.Transport{Protocols: c.run.tr.only(), DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.conn = conn.(*net.TCPConn)
			if c.slow {
				_ = c.conn.SetReadBuffer(8 << 10)
			}
		}
		return conn, err
	}}
	if c.run.tr.tls {
		tr.TLSClientConfig = c.run.srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	}
	return tr
}

// cut ends the connection, if there is one, without a word or with the least.
func (c *randomClient) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return
	}
	if rand.IntN(2) == 0 {
		_ = c.conn.SetLinger(0) // a reset
	}
	_ = c.conn.Close()
	c.conn = nil
	c.run.cuts.Add(1)
}

func (c *randomClient) url() string {
	q := url.Values{"topic": c.topics}
	if c.odd {
		q.Set("odd", "")
	}
	if c.skip {
		q.Set("skip", "")
	}
	return c.run.srv.URL + "/?" + q.Encode()
}

// live connects again and again, until it has seen the end.
func (c *randomClient) live(ctx context.Context) {
	id := ""
	for ctx.Err() == nil {
		cn := &randomConn{who: c.name, topics: c.topics, odd: c.odd, skip: c.skip, exact: id != "", from: id, before: c.run.hub.Position().Offset}
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
				time.Sleep(rand.N(time.Second)) // it may miss more than the log has
			}
			if rand.IntN(10) == 0 {
				id = ""
			}
		}
	}
}

// connect reads one stream. Its end is no error, whatever it was.
func (c *randomClient) connect(ctx context.Context, cn *randomConn) (id string, done bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.get(ctx, cn.from)
	if err != nil {
		return cn.from, false, err
	}
	defer resp.Body.Close()
	c.run.conns.Add(1)
	cn.after = c.run.hub.Position().Offset
	if _, known := c.run.end(c.topics); known && cn.from == "" {
		return "", true, nil // it begins behind the end
	}
	body := &randomReader{Reader: resp.Body, client: c, rest: -1}
	switch rand.IntN(8) {
	case 0: // it stays
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

// take takes note of an event, and reports whether it is the last.
func (c *randomClient) take(cn *randomConn, e event.Event) bool {
	item := randomItem{id: e.ID, sum: randomSum(e.ID, e.Data), evicted: c.run.hub.Stats().Evicted}
	c.run.seen.Add(1)
	if e.Name == hub.GapEvent {
		c.run.gaps.Add(1)
		if err := json.Unmarshal([]byte(e.Data), &item.gap); err != nil {
			c.run.t.Errorf("%s: %v", c.name, err)
		}
	}
	cn.items = append(cn.items, item)
	end, known := c.run.end(c.topics)
	if !known {
		return false
	}
	p, err := hub.ParsePosition(e.ID)
	return err == nil && p.Offset >= end
}

// randomReader reads slowly, and cuts the connection off after some bytes.
type randomReader struct {
	io.Reader
	client *randomClient
	rest   int // negative: no end
}

func (r *randomReader) Read(p []byte) (int, error) {
	select {
	case <-r.client.run.stop: // it should come to an end
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

// liveByClient has package client resume.
func (c *randomClient) liveByClient(ctx context.Context) {
	cn := &randomConn{who: c.name, topics: c.topics, odd: c.odd, skip: c.skip, exact: true, from: c.run.hub.Position().String()}
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

// playDead does not read.
func (c *randomClient) playDead(ctx context.Context) {
	c.slow = true
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

// verify compares what was seen with what was published.
func (run *randomRun) verify() {
	ids := make(map[string]*randomEvent, len(run.events))
	for i := range run.events {
		ids[run.events[i].id] = &run.events[i]
	}
	for _, cn := range run.seenBy {
		if err := cn.verify(run.events, ids); err != nil {
			run.t.Errorf("%s, topics %q, odd %t, from %q (%d to %d), %d seen: %v", cn.who, cn.topics, cn.odd, cn.from, cn.before, cn.after, len(cn.items), err)
			if run.errors++; run.errors > 5 {
				return
			}
		}
	}
}

// verify checks cn. The events are in their order: that at offset n is events[n-1].
func (cn *randomConn) verify(events []randomEvent, ids map[string]*randomEvent) error {
	pos, begun := cn.before, false
	if cn.exact {
		begun = true
		if pos = randomOffset(cn.from, ids); pos == 0 && cn.from != "" && !strings.HasSuffix(cn.from, "-0") {
			return errors.New("it has come with an id that nobody has published")
		}
	}
	for i, item := range cn.items {
		if item.gap != nil {
			if err := cn.verifyGap(item, pos, events); err != nil {
				return fmt.Errorf("item %d: %w", i, err)
			}
			pos, begun = item.gap.Position.Offset, true
			continue
		}
		e, ok := ids[item.id]
		switch {
		case !ok:
			return fmt.Errorf("item %d: id %q was not published", i, item.id)
		case e.offset <= pos:
			return fmt.Errorf("item %d: %d behind %d: doubled, or out of order", i, e.offset, pos)
		case !cn.wants(e):
			return fmt.Errorf("item %d: %d of topic %s is not for it", i, e.offset, e.topic)
		case randomSum(item.id, e.data) != item.sum:
			return fmt.Errorf("item %d: %d has other data", i, e.offset)
		}
		if !begun {
			pos = max(pos, cn.after)
			begun = true
		}
		if missing := cn.missing(pos, e.offset-1, events); len(missing) > 0 {
			return fmt.Errorf("item %d: %d follows %d, without %d", i, e.offset, pos, missing)
		}
		pos = e.offset
	}
	if begun && cn.to != "" {
		if missing := cn.missing(pos, randomOffset(cn.to, ids), events); len(missing) > 0 {
			return fmt.Errorf("its id is %s, without %d", cn.to, missing)
		}
	}
	return nil
}

// verifyGap checks that a gap is an honest one, of a client at pos.
func (cn *randomConn) verifyGap(item randomItem, pos uint64, events []randomEvent) error {
	g, to := item.gap, item.gap.Position.Offset
	lost := slices.ContainsFunc(events[min(pos, to):to], func(e randomEvent) bool {
		return slices.Contains(cn.topics, e.topic) && e.offset <= item.evicted
	})
	switch {
	case g.Snapshot, g.Position.String() != item.id, to <= pos:
	case g.Reason == hub.GapMalformed:
		if pos <= item.evicted { // where the id of its own was
			return nil
		}
	case !lost:
	case g.Reason == hub.GapExpired:
		if to <= item.evicted { // it gets all that is left
			return nil
		}
	case g.Reason == hub.GapSlow && cn.skip:
		return nil
	}
	return fmt.Errorf("at %d, a gap %+v with %d evicted", pos, *g, item.evicted)
}

func (cn *randomConn) wants(e *randomEvent) bool {
	return slices.Contains(cn.topics, e.topic) && (e.odd || !cn.odd)
}

func (cn *randomConn) missing(from, to uint64, events []randomEvent) (offsets []uint64) {
	for offset := from + 1; offset <= to; offset++ {
		if cn.wants(&events[offset-1]) {
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

func randomOffset(id string, ids map[string]*randomEvent) uint64 {
	if e, ok := ids[id]; ok {
		return e.offset
	}
	p, _ := hub.ParsePosition(id)
	return p.Offset
}

func randomSum(id, data string) uint64 { return maphash.String(randomSeed, id+"\n"+data) }

var randomSeed = maphash.MakeSeed()
