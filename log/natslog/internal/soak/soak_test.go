//go:build unix

package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

const (
	servers    = 3 // nodes with a server; there is one without
	publishers = 8
	topicOfAll = "all"
)

// soak is a run. Its fields without a lock are for the goroutine of the test.
type soak struct {
	t     *testing.T
	seed  uint64
	began time.Time
	dir   string // for logs
	http  *http.Client

	rng     *rand.Rand
	nodes   []*process
	cables  []*cable
	faults  []*fault
	spared  *process // is not killed
	topics  []string
	readers []*reader
	maxMsgs int64 // what the stream holds
	ledger  *ledger
	kicker  *kicker
	writers []*publisher

	connections, opened, silences atomic.Int64
	trouble                       atomic.Bool  // there is some now
	healed                        atomic.Int64 // when the last one ended

	counts
	traceMu   sync.Mutex
	traceFile *os.File

	mu       sync.Mutex
	fault    string // the first one
	admitted map[string]hub.Position
	samples  map[string]state // the first of each node
}

// TestSoak is described in the package's documentation. These variables of the environment
// change it:
//
//   - SSE_NATSLOG_SOAK is how long there is trouble, such as 10m. Default: 10s.
//   - SSE_NATSLOG_SOAK_SEED is the seed of all random choices. Default: a random one, which the
//     report names. The same seed makes the same choices, but the timing is the machine's.
//
// With -artifacts, the logs of the nodes and the list of all faults stay.
func TestSoak(t *testing.T) {
	length, seed := logkit.Soak(t, "SSE_NATSLOG_SOAK", 10*time.Second)
	s := newSoak(t, seed)
	s.start()
	rounds := max(2, int(length/time.Minute))
	for i := range rounds {
		s.round(i, length/time.Duration(rounds))
		if s.failed() {
			break
		}
	}
	if length >= time.Minute && !s.failed() {
		s.awaitFewConsumers()
	}
	if s.failed() {
		s.showNodes()
	}
	s.findPanics()
	t.Log(s.report())
	if s.failed() {
		s.showTrace()
		require.Fail(t, s.fault)
	}
}

// newSoak returns a run whose nodes are not started yet.
func newSoak(t *testing.T, seed uint64) *soak {
	t.Helper()
	s := &soak{
		t: t, seed: seed, began: time.Now(), dir: t.ArtifactDir(), rng: rand.New(rand.NewPCG(seed, 0)),
		http:     &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
		admitted: make(map[string]hub.Position), samples: make(map[string]state),
	}
	// With few messages, a node that is cut off for some seconds misses some, and orders too.
	s.maxMsgs = []int64{1500, 4000, 4000}[s.rng.IntN(3)]
	s.ledger = &ledger{byKey: make(map[string]*sent), byOffset: make(map[uint64]*sent), maxMsgs: uint64(s.maxMsgs), slack: 64}
	s.counts.init()
	var err error
	s.traceFile, err = os.Create(filepath.Join(s.dir, "trace.txt"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.traceFile.Close() })
	s.makeNodes(t.TempDir())
	s.makeReaders()
	s.kicker = &kicker{s: s, rng: s.another()}
	for i := range publishers {
		s.writers = append(s.writers, &publisher{s: s, name: fmt.Sprint("p", i), rng: s.another()})
	}
	return s
}

// another returns a source of random choices for a goroutine.
func (s *soak) another() *rand.Rand { return rand.New(rand.NewPCG(s.rng.Uint64(), s.rng.Uint64())) }

// makeNodes makes the nodes and what connects them. The first hub needs no network for its
// server, the next two have a proxy to theirs, and the last one has one to each.
func (s *soak) makeNodes(dir string) {
	t := s.t
	var configs [servers + 1]nodeConfig
	for i := range configs {
		configs[i] = nodeConfig{Name: fmt.Sprint("node", i), HTTP: testkit.FreeAddress(t), MaxMsgs: s.maxMsgs, Detached: i%2 == 1, Pings: i >= 2}
		if i < servers {
			configs[i].Server = &serverConfig{Dir: filepath.Join(dir, configs[i].Name), Listen: testkit.FreeAddress(t), Cluster: testkit.FreeAddress(t)}
		}
	}
	configs[0].InMemory = true
	connect := func(target string) *link {
		l, err := newLink(target)
		require.NoError(t, err)
		return l
	}
	for i := range servers {
		for k := range i {
			a, b := connect(configs[k].Server.Cluster), connect(configs[i].Server.Cluster)
			configs[i].Server.Peers = append(configs[i].Server.Peers, a.address())
			configs[k].Server.Peers = append(configs[k].Server.Peers, b.address())
			s.cables = append(s.cables, &cable{from: configs[i].Name, to: configs[k].Name, isRoute: true, links: []*link{a, b}})
		}
	}
	for i := 1; i < len(configs); i++ {
		for k := range servers {
			if i == k || i == servers {
				l := connect(configs[k].Server.Listen)
				configs[i].URLs = append(configs[i].URLs, "nats://"+l.address())
				s.cables = append(s.cables, &cable{from: configs[i].Name + "'s hub", to: configs[k].Name, links: []*link{l}})
			}
		}
	}
	for i, cfg := range configs {
		s.nodes = append(s.nodes, &process{s: s, index: i, cfg: cfg, logDir: s.dir})
	}
	t.Cleanup(func() {
		for _, p := range s.nodes {
			p.kill()
		}
		for _, c := range s.cables {
			c.close()
		}
		s.http.CloseIdleConnections()
	})
}

func userTopic(reader int) string { return fmt.Sprint("user/", reader) }

// makeReaders makes the topics and the readers.
func (s *soak) makeReaders() {
	for i := range 40 {
		s.topics = append(s.topics, fmt.Sprint("topic ", i))
	}
	habits := []habit{
		{},
		{},
		{},
		{raw: true},
		{stay: 100, away: 40 * time.Millisecond},
		{stay: 300, away: 300 * time.Millisecond},
		{stay: 200, raw: true},
		{pause: 20 * time.Millisecond},
		{pause: 20 * time.Millisecond, buffer: 4096},
		{pause: 15 * time.Millisecond, buffer: 4096, raw: true},
		{},
		{raw: true},
		{stay: 400, away: 2 * time.Second},
		{stay: 400, away: 40 * time.Second},
	}
	const few, some = 10, 12 // readers before these have few topics, and some; the rest has all
	shared := s.topics
	for i, h := range habits {
		r := &reader{s: s, name: fmt.Sprint("reader ", i), index: i, rng: s.another(), habit: h, follow: make(map[string]bool), segments: []*segment{{}}}
		n := len(shared)
		switch {
		case i < few:
			n = 1 + s.rng.IntN(8)
		case i < some:
			n = 9 + s.rng.IntN(20)
		}
		r.topics = append(r.topics, userTopic(i), topicOfAll)
		for _, k := range s.rng.Perm(len(shared))[:n] {
			r.topics = append(r.topics, shared[k])
		}
		for _, topic := range r.topics {
			r.follow[topic] = true
		}
		s.readers = append(s.readers, r)
		s.topics = append(s.topics, userTopic(i))
	}
	s.topics = append(s.topics, topicOfAll)
}

// start starts all nodes, and waits until they serve.
func (s *soak) start() {
	for _, p := range s.nodes {
		p.restart()
	}
	s.awaitHealth()
	st, err := s.nodes[0].ask("", 10*time.Second)
	require.NoError(s.t, err)
	s.ledger.epoch = st.Position.Epoch
}

// round makes trouble for a while, lets all nodes come back, and checks everything.
func (s *soak) round(number int, length time.Duration) {
	if number%2 == 0 {
		s.spared = s.nodes[s.rng.IntN(len(s.nodes))]
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	var reading, publishing sync.WaitGroup
	for _, r := range s.readers {
		r.hurry.Store(false)
		reading.Go(func() { r.run(ctx) })
	}
	if number == 0 {
		s.awaitPositions()
	}
	stop := make(chan struct{})
	s.beginPublishing()
	for _, p := range s.writers {
		publishing.Go(func() { p.run(stop) })
	}
	publishing.Go(func() { s.kicker.run(stop) })

	s.disturb(time.Now().Add(length))
	s.healAll()
	recovered := s.awaitHealth()
	close(stop)
	done := make(chan struct{})
	go func() { publishing.Wait(); close(done) }()
	s.await(publishPatience, "all that is being published is acknowledged, on nodes that are well", func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	<-done // it gives up if the run has failed
	s.recoveries = append(s.recoveries, recovered)

	s.sweep()
	s.awaitReaders()
	cancel()
	reading.Wait()
	if !s.failed() {
		s.check()
		s.sample()
	}
	s.trace("end of round %d", number)
}
