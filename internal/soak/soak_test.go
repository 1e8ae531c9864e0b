package soak

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chi-sse/sse/internal/testkit"
)

const (
	beat         = time.Second     // the sessions' heartbeat
	writeTimeout = 2 * time.Second // and their write timeout
	// goneWithin is the longest time after which a server must have noticed that a client has
	// vanished or left: a heartbeat, nine eighths of the write timeout, and some for the
	// kernel's retransmissions. It is for a machine that is not busy; see late.
	goneWithin = beat + writeTimeout*9/8 + 4*time.Second
	allClients = 480
	maxFaults  = 12 // that are named
)

// soak is a run.
type soak struct {
	t       *testing.T
	seed    uint64
	load    float64 // 1 is meant to take about one processor without the race detector
	length  time.Duration
	full    bool // long enough to judge memory
	modes   []*mode
	names   []string // of the modes, after the run
	files   int64    // number of the modes with a file
	network *network
	stop    chan struct{} // closed when the clients are to connect no more
	began   time.Time
	cpu     time.Duration // that the process had taken then

	counts
	late    late
	samples []sample

	mu     sync.Mutex
	faults []string
	nfault int
}

// TestSoak is described in the package's documentation. These variables of the environment
// change it:
//
//   - SSE_SOAK is how long it runs, such as 20m. Default: 2s.
//   - SSE_SOAK_SEED is the seed of all random choices. Default: a random one, which the report
//     names. The same seed makes the same choices, but the timing is the machine's.
//   - SSE_SOAK_LOAD scales the number of clients and the rate of events. Default: 1, or a quarter without
//     SSE_SOAK.
func TestSoak(t *testing.T) {
	s := &soak{t: t, seed: rand.Uint64(), load: 0.25, length: 2 * time.Second, stop: make(chan struct{})}
	if d := os.Getenv("SSE_SOAK"); d != "" {
		s.length, s.load = must(time.ParseDuration(d))(t), 1
	}
	if n := os.Getenv("SSE_SOAK_SEED"); n != "" {
		s.seed = must(strconv.ParseUint(n, 10, 64))(t)
	}
	if f := os.Getenv("SSE_SOAK_LOAD"); f != "" {
		s.load = must(strconv.ParseFloat(f, 64))(t)
	}
	s.full = s.length >= 2*time.Minute
	s.network = newNetwork(t)
	if s.network == nil {
		t.Log("vanishing clients are skipped: the machine has no network namespaces for them")
	}
	t.Logf("seed %d, for %v", s.seed, s.length)
	s.sample()
	s.run()
	s.sample()
	s.judgeEnd()
	if s.full {
		s.judgeSamples()
	}
	fmt.Fprint(t.Output(), s.report())
	if s.nfault > 0 {
		t.Errorf("%d faults, with SSE_SOAK_SEED=%d:\n%s", s.nfault, s.seed, strings.Join(s.faults, "\n"))
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// run starts all, waits, and ends all.
func (s *soak) run() {
	s.began, s.cpu = time.Now(), processorTime()
	s.modes = newModes(s)
	var publishers, upsets, clients, sampler sync.WaitGroup
	quiet := make(chan struct{}) // closed when publishers and upsets are to end
	for i, m := range s.modes {
		m.start()
		for j := range 2 {
			publishers.Go(func() { m.publish(s.random(1000+10*i+j), quiet) })
		}
		upsets.Go(func() { m.kick(s.random(2000+i), quiet) })
		upsets.Go(func() { m.move(s.random(3000+i), quiet) })
		upsets.Go(func() { m.renew(s.length*time.Duration(i+2)/time.Duration(4*len(s.modes)+8), quiet) })
	}
	for i := range max(len(s.modes), int(allClients*s.load)) {
		clients.Go(func() {
			r := s.random(10_000 + i)
			pause(time.Duration(r.Int64N(int64(min(s.length/4, 10*time.Second)))), s.stop)
			s.live(s.modes[i%len(s.modes)], r)
		})
	}
	over := make(chan struct{})
	defer close(over)
	go s.late.watch(over)
	sampler.Go(func() { s.sampleEvery(10*time.Second, quiet) })

	time.Sleep(s.length)
	close(quiet)
	publishers.Wait()
	upsets.Wait()
	sampler.Wait()
	close(s.stop)
	var ends sync.WaitGroup
	for _, m := range s.modes {
		ends.Go(m.end)
	}
	ends.Wait()
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * testkit.Patience):
		stacks := make([]byte, 1<<20)
		s.t.Fatalf("clients are left\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	for _, m := range s.modes {
		m.close()
		s.names = append(s.names, m.name)
		if m.file {
			s.files++
		}
	}
	s.modes = nil // so that the last sample of the heap is without them
}

// random returns the random choices of one goroutine.
func (s *soak) random(stream int) *rand.Rand { return rand.New(rand.NewPCG(s.seed, uint64(stream))) }

// fault notes a violation.
func (s *soak) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nfault++; s.nfault <= maxFaults {
		text := time.Since(s.began).Round(time.Millisecond).String() + " " + fmt.Sprintf(format, args...)
		s.faults = append(s.faults, text)
		s.t.Log("FAULT ", text)
	}
}

func (s *soak) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// pause waits for d, or until done is closed.
func pause(d time.Duration, done ...<-chan struct{}) {
	done = append(done, nil, nil)
	select {
	case <-time.After(d):
	case <-done[0]:
	case <-done[1]:
	}
}

// exponential returns a random time with the given mean, of at most six times that.
func exponential(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(min(6, r.ExpFloat64()) * float64(mean))
}

// pick returns an index, with the probabilities that weights give.
func pick(r *rand.Rand, weights ...int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := r.IntN(sum)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	panic("unreachable")
}
