package natslog

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// readAll reads the records of the topics up to an offset in pages, and returns their data and how
// often there was a hole.
func readAll(t testing.TB, l *Log, upTo uint64, most int, topics ...string) (data []string, holes int) {
	t.Helper()
	epoch := l.known()
	for at := uint64(0); at < upTo; {
		page, err := l.Read(t.Context(), topics, hub.Position{Epoch: epoch, Offset: at}, hub.Position{Epoch: epoch, Offset: upTo}, most)
		if isTemporary(err) { // the server has been slow; a hub asks again too
			continue
		}
		require.NoError(t, err)
		require.Greater(t, page.UpTo, at)
		require.LessOrEqual(t, page.UpTo, upTo)
		require.LessOrEqual(t, len(page.Records), most)
		for _, r := range page.Records {
			require.Greater(t, r.Offset, at)
			at = r.Offset
		}
		if page.Hole {
			holes++
		}
		at, data = page.UpTo, append(data, texts(page.Records)...)
	}
	return data, holes
}

// kept returns how many runs l keeps.
func kept(l *Log) int {
	l.runs.mu.Lock()
	defer l.runs.mu.Unlock()
	return len(l.runs.kept)
}

// fill appends n records to the topics "0" to "9" in turn. The data of each is its offset.
func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	last := int(bounds(t, l).Last)
	for i := 0; i < n; i += 100 {
		records := recs("", last+i+1, min(100, n-i))
		for k := range records {
			records[k].Topic = strconv.Itoa((i + k) % 10)
		}
		add(t, l, records...)
	}
}

var many = []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "none", "neither"}

// expected returns the data of what fill has appended up to an offset, without some records.
func expected(upTo int, without []uint64, topics ...string) (data []string) {
	for i := range upTo {
		if !slices.Contains(without, uint64(i+1)) && (len(topics) == 0 || slices.Contains(topics, strconv.Itoa(i%10))) {
			data = append(data, strconv.Itoa(i+1))
		}
	}
	return data
}

// Pages that are read one after the other come from one consumer, and have every record.
func TestConsecutivePages(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	fill(t, l, 1500)
	deleted := []uint64{333, 334, 511, 512, 513}
	remove(t, l, deleted...)
	for _, topics := range [][]string{nil, {"3"}, {"3", "4"}, {"4", "none"}, {"none"}, many} {
		for _, most := range []int{49, 512} {
			for _, upTo := range []int{950, 1500} {
				data, holes := readAll(t, l, uint64(upTo), most, topics...)
				require.Equal(t, expected(upTo, deleted, topics...), data, "%q, %d a page, up to %d", topics, most, upTo)
				require.Positive(t, holes)
			}
		}
	}
	data, _ := readAll(t, l, 1500, 7, many...) // a page ends early, and many messages are ahead
	require.Equal(t, expected(1500, deleted, many...), data)
	require.NotErrorIs(t, l.nc.LastError(), nats.ErrSlowConsumer)

	// The second page begins a run, and the last one ends it.
	l = openLog(t, l.js, Config{Stream: "events"})
	at := hub.Position{Epoch: l.known()}
	upTo := hub.Position{Epoch: at.Epoch, Offset: 1500}
	for i := range 16 {
		page, err := l.Read(t.Context(), nil, at, upTo, 100)
		require.NoError(t, err)
		at.Offset = page.UpTo
		switch {
		case i == 0 || at.Offset == upTo.Offset:
			require.Zero(t, kept(l))
		default:
			require.Equal(t, 1, kept(l))
		}
		if i == 5 { // what comes later is sent as well
			fill(t, l, 100)
			upTo.Offset = 1600
		}
	}

	// The pages of a run may become shorter, and end where they are asked to.
	at.Offset = 600 // nothing after it is deleted
	for i := range 100 {
		upTo, most := hub.Position{Epoch: at.Epoch, Offset: 1600}, 5
		switch {
		case i < 2:
			most = 300
		case i%2 == 0:
			upTo.Offset = at.Offset + 3
		}
		page, err := l.Read(t.Context(), nil, at, upTo, most)
		require.NoError(t, err)
		require.Equal(t, min(upTo.Offset, at.Offset+uint64(most)), page.UpTo)
		at.Offset = page.UpTo
		require.Equal(t, min(i, 1), kept(l))
	}
}

// shortened is a stream that its leader describes as ending earlier.
type shortened struct {
	jetstream.JetStream
	at atomic.Uint64 // its last sequence, or 0
}

func (j *shortened) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := j.JetStream.Stream(ctx, name)
	if err == nil && j.at.Load() > 0 {
		info := *s.CachedInfo()
		info.State.LastSeq = j.at.Load()
		return described{s, &info}, nil
	}
	return s, err
}

// A consumer can be ahead of the leader's answer. What it has sent is not lost.
func TestRunThatIsAhead(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	fill(t, l, 1000)
	js := &shortened{JetStream: l.js}
	l = openLog(t, js, Config{Stream: "events"})
	at := hub.Position{Epoch: l.known()}
	var data []string
	for at.Offset < 1000 {
		if js.at.Store(0); at.Offset == 400 {
			js.at.Store(450)
		}
		page, err := l.Read(t.Context(), nil, at, hub.Position{Epoch: at.Epoch, Offset: 1000}, 100)
		require.NoError(t, err)
		at.Offset, data = page.UpTo, append(data, texts(page.Records)...)
	}
	require.Equal(t, expected(1000, nil), data)
}

// A consumer that sends large records stops before it has sent all that was asked for.
func TestConsecutivePagesOfLargeRecords(t *testing.T) {
	t.Parallel()
	l := openLog(t, connect(t, startServer(t, embedded.Config{SlowSync: true, MaxPayload: 1 << 20})), Config{Stream: "events", Create: &jetstream.StreamConfig{}})
	var want []string
	for i := range 24 {
		data := fmt.Sprint(i, strings.Repeat("x", 500_000))
		add(t, l, rec("a", data))
		want = append(want, data)
	}
	for _, topics := range [][]string{nil, {"a"}} {
		data, _ := readAll(t, l, 24, 8, topics...)
		require.Equal(t, want, data)
	}
}

// Readers in different places and of different topics do not disturb each other.
func TestConcurrentReaders(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	fill(t, l, 1000)
	var done sync.WaitGroup
	for i := range 12 {
		done.Go(func() {
			topics := [][]string{nil, {"3"}, {"3", "4"}, many}[i%4]
			for range 2 {
				data, _ := readAll(t, l, 1000, []int{64, 100, 64}[i%3], topics...)
				assert.Equal(t, expected(1000, nil, topics...), data)
			}
		})
	}
	done.Go(func() { fill(t, l, 500) })
	done.Wait()
	require.LessOrEqual(t, kept(l), maxRuns)
}

// consumers returns how many consumers the stream of l has.
func consumers(t testing.TB, l *Log) int {
	t.Helper()
	s, err := l.js.Stream(t.Context(), l.cfg.Stream)
	require.NoError(t, err)
	return s.CachedInfo().State.Consumers
}

// Some seconds after the last Read, nothing is left of it. There are never more than some runs.
func TestRunsEnd(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.runs.idle = time.Hour
	fill(t, l, 1000)
	subscriptions := l.nc.NumSubscriptions()
	twoPages := func(l *Log, topic string) {
		t.Helper()
		at := hub.Position{Epoch: l.known()}
		for range 2 {
			page, err := l.Read(t.Context(), []string{topic}, at, hub.Position{Epoch: at.Epoch, Offset: 1000}, 10)
			require.NoError(t, err)
			at.Offset = page.UpTo
		}
	}
	for i := range 10 {
		twoPages(l, strconv.Itoa(i))
	}
	require.Equal(t, maxRuns, kept(l))
	testkit.Eventually(t, func() bool { return consumers(t, l) == maxRuns }, "the consumers of the oldest runs to be deleted")
	require.Equal(t, subscriptions+maxRuns, l.nc.NumSubscriptions())

	other := openLog(t, l.js, Config{Stream: "events"})
	other.runs.idle = 20 * time.Millisecond
	for i := range 10 {
		twoPages(other, strconv.Itoa(i))
	}
	testkit.Eventually(t, func() bool {
		return kept(other) == 0 && consumers(t, l) == maxRuns && l.nc.NumSubscriptions() == subscriptions+maxRuns
	}, "the runs of the other Log to end")
	twoPages(other, "1")
	l.nc.Close()
	testkit.Eventually(t, func() bool { return kept(other) == 0 }, "a run to end without a connection")
}

// A canceled Read returns at once and leaves nothing. A run does not outlive its connection.
func TestRunWithTrouble(t *testing.T) {
	t.Parallel()
	s := startServer(t, embedded.Config{Listen: "127.0.0.1:0", SlowSync: true})
	l := openLog(t, connectByProxy(t, s.URL()), Config{Stream: "s", Create: &jetstream.StreamConfig{}})
	l.runs.idle = time.Hour
	fill(t, l, 1000)
	subscriptions := l.nc.NumSubscriptions()
	at := hub.Position{Epoch: l.known()}
	upTo := hub.Position{Epoch: at.Epoch, Offset: 1000}
	next := func() {
		t.Helper()
		page, err := l.Read(t.Context(), nil, at, upTo, 100)
		require.NoError(t, err)
		require.Equal(t, expected(int(at.Offset)+100, nil)[at.Offset:], texts(page.Records))
		at.Offset = page.UpTo
	}
	next()
	next()
	require.Equal(t, 1, kept(l))
	proxyOf(l).Hold(testkit.ToClient, true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for range 2 {
		_, err := l.Read(ctx, nil, at, upTo, 100)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	proxyOf(l).Hold(testkit.ToClient, false)
	require.Zero(t, kept(l))
	testkit.Eventually(t, func() bool { return consumers(t, l) == 0 && l.nc.NumSubscriptions() == subscriptions }, "the run to end")

	next()
	next()
	require.Equal(t, 1, kept(l))
	proxyOf(l).Cut()
	testkit.Eventually(t, func() bool { return l.nc.Stats().Reconnects > 0 && l.nc.IsConnected() }, "a new connection")
	next()
	require.Equal(t, 1, kept(l), "it does not wait for what was lost")
	next()
	require.Equal(t, 1, kept(l))
	s2, err := l.js.Stream(t.Context(), "s")
	require.NoError(t, err)
	require.NoError(t, s2.DeleteConsumer(t.Context(), l.runs.kept[0].name))
	next()
	next()
}

// A mirror that answers for the stream, and does not have all of it, is not believed.
func TestMirrorAnswers(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	fill(t, l, 300)
	mirror, err := l.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "m", Mirror: &jetstream.StreamSource{Name: "events", FilterSubject: "events.3"}, MirrorDirect: true})
	require.NoError(t, err)
	testkit.Eventually(t, func() bool {
		info, err := mirror.Info(t.Context())
		return err == nil && info.State.Msgs == 30
	}, "the mirror to be full")
	for range 5 {
		for _, topics := range [][]string{nil, {"3"}, {"4"}, many} {
			data, _ := readAll(t, l, 300, 300, topics...)
			require.Equal(t, expected(300, nil, topics...), data)
		}
	}
	batch := []hub.Record{{Topic: "4", Key: "k", Event: rec("", "301").Event}, {Topic: "4", Key: "l", Event: rec("", "302").Event}}
	first := add(t, l, batch...)
	require.Equal(t, first, add(t, l, batch...))
}

// A server that has not heard that the stream was made anew is not believed.
func TestRecordsOfTheStreamBefore(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	fill(t, l, 10)
	v, err := l.look(t.Context())
	require.NoError(t, err)
	at := logkit.Follow(t, l, hub.Position{Epoch: v.epoch}).Await(10)[6]
	for _, c := range []struct {
		last    mark
		created time.Time
		ok      bool
	}{
		{mark{7, at.Time}, v.created, true},
		{mark{7, at.Time.Add(-time.Second)}, v.created, false},
		{mark{7, at.Time.Add(-time.Second)}, v.created.Add(createdSkew), false},
		{mark{7, at.Time}, v.created.Add(-time.Hour), true},
		{mark{}, v.created, true},
	} {
		v.created = c.created
		ok, err := l.ofThisStream(t.Context(), &v, []stretch{{last: mark{}}, {last: c.last}})
		require.NoError(t, err)
		require.Equal(t, c.ok, ok, "%v", c)
	}

	// Read asks again then.
	l.api = "api."
	var asked atomic.Int64
	_, err = l.nc.Subscribe("api.>", func(m *nats.Msg) {
		if strings.HasPrefix(m.Subject, "api.DIRECT.") && asked.Add(1) == 1 {
			old := nats.NewMsg(m.Reply)
			old.Header = nats.Header{"Nats-Stream": {"events"}, "Nats-Subject": {"events.a"}, "Nats-Sequence": {"1"}, "Nats-Time-Stamp": {v.created.Add(-time.Hour).Format(time.RFC3339Nano)}}
			old.Data, _ = rec("a", "old").AppendBinary(nil) // its error is always nil
			end := nats.NewMsg(m.Reply)
			end.Header = nats.Header{"Status": {"204"}}
			assert.NoError(t, l.nc.PublishMsg(old))
			assert.NoError(t, l.nc.PublishMsg(end))
			return
		}
		assert.NoError(t, l.nc.PublishRequest("$JS.API."+strings.TrimPrefix(m.Subject, "api."), m.Reply, m.Data))
	})
	require.NoError(t, err)
	data, _ := readAll(t, l, 10, 100)
	require.Equal(t, expected(10, nil), data)
	require.Greater(t, asked.Load(), int64(1))
}
