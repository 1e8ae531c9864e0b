package pglog

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// A transaction that stays open holds up nobody, and its events come when it is committed.
func TestOpenTransaction(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	r := startReading(t, l)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, Publish(t.Context(), tx, "a", sse.Event{Data: "early"}))
	for i := range 100 {
		require.NoError(t, Publish(t.Context(), pool, "a", sse.Event{Data: fmt.Sprint(i)}))
	}
	r.await(100)
	require.NoError(t, Publish(t.Context(), tx, "a", sse.Event{Data: "late"}))
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, []string{"early", "late"}, texts(r.await(102)[100:]))
}

// Without notifications, events come too: the log is polled.
func TestFollowWithoutNotifications(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	l.listen = l.listen.Copy()
	l.listen.DialFunc = func() pgconn.DialFunc {
		down := newLine()
		down.refuse(true)
		return down.dial
	}()
	r := startReading(t, l)
	for i := range 3 {
		require.NoError(t, Publish(t.Context(), pool, "a", sse.Event{Data: "published"}))
		r.await(2*i + 1)
		add(t, l, rec("a", "appended"))
		r.await(2*i + 2)
	}
	other := startReading(t, openLog(t, pool, Config{ReadOnly: true}))
	other.await(6)
	add(t, l, rec("a", "appended"))
	other.await(7)
}

// With notifications, a Log that numbers nothing wakes up at once; so does one that is idle.
func TestNotifications(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	conn, err := pgx.ConnectConfig(t.Context(), l.listen)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "LISTEN sse")
	require.NoError(t, err)
	for range 100 { // a transaction that notifies holds up others, so only few do
		require.NoError(t, Publish(t.Context(), pool, "a", sse.Event{Data: "1"}))
	}
	add(t, l, rec("a", "2"))
	published := 0
	for {
		n, err := conn.WaitForNotification(t.Context())
		require.NoError(t, err)
		require.Equal(t, "sse", n.Channel)
		if n.Payload == "101" {
			break
		}
		if n.Payload == "" {
			published++
		}
	}
	require.Positive(t, published)
	require.Less(t, published, 100)
}

// A connection on which nothing comes any longer ends a Follow, so that the hub knows, and the
// next one goes on.
func TestFollowOfAHalfOpenConnection(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	pool, line := connectByLine(t, s.dsn(newDatabase(t, s), "postgres"))
	migrate(t, pool)
	l := openLog(t, pool, Config{})
	r := startReading(t, l)
	add(t, l, rec("a", "1"))
	r.await(1)
	line.hold(true)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		r.mu.Lock()
		n := len(r.errs)
		r.mu.Unlock()
		if n > 0 {
			break
		}
		require.True(t, time.Now().Before(deadline), "Follow has not ended")
	}
	line.cut()
	line.hold(false)
	add(t, l, rec("a", "2"))
	require.Equal(t, []string{"1", "2"}, texts(r.await(2)))
}

// Old records are deleted while a hub runs, by their age or their number.
func TestRetention(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{"age": {MaxAge: time.Hour}, "number": {MaxAge: -1, MaxRecords: 500}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, pool := newLog(t)
			const n = 2*retainBatch + 500
			for i := range n / 500 {
				add(t, l, recs("a", 500*i, 500)...)
			}
			execute(t, pool, "UPDATE sse.log SET at = at - interval '61 minutes' WHERE number <= $1", n-500)
			startReading(t, openLog(t, pool, cfg))
			testkit.Eventually(t, func() bool { return boundsOf(t, l).First == n-499 }, "old records to be deleted")
			var left int
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM sse.log").Scan(&left))
			require.Equal(t, 500, left)
			b := boundsOf(t, l)
			require.Equal(t, hub.Bounds{Epoch: b.Epoch, First: n - 499, Last: n}, b)
			truncated := new(hub.TruncatedError)
			_, err := l.Read(t.Context(), nil, hub.Position{Epoch: b.Epoch, Offset: 7}, hub.Position{Epoch: b.Epoch, Offset: 100}, 10)
			require.ErrorAs(t, err, &truncated)
			require.Equal(t, uint64(n-499), truncated.First)
			require.Equal(t, []hub.Position{{Epoch: b.Epoch, Offset: n + 1}}, add(t, l, rec("a", "after")))
		})
	}
}

// A page has about as many bytes as are allowed, and at least one record.
func TestPagesOfLargeRecords(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t)
	big := func(topic string, size int) hub.Record {
		return hub.Record{Topic: topic, Event: sse.Event{Data: string(make([]byte, size))}}
	}
	add(t, l, big("a", 100), big("b", maxPage-200), big("a", 200), big("a", 2*maxPage), big("b", 1), big("a", 2))
	b := boundsOf(t, l)
	upTo := hub.Position{Epoch: b.Epoch, Offset: b.Last}
	for _, c := range []struct {
		topics []string
		want   []uint64 // UpTo of each page
	}{{nil, []uint64{3, 4, 6}}, {[]string{"a"}, []uint64{4, 6}}, {[]string{"b"}, []uint64{6}}} {
		var got []uint64
		for at := upTo.Offset - b.Last; at < b.Last; {
			page, err := l.Read(t.Context(), c.topics, hub.Position{Epoch: b.Epoch, Offset: at}, upTo, 100)
			require.NoError(t, err)
			at = page.UpTo
			got = append(got, at)
		}
		require.Equal(t, c.want, got, c.topics)
	}
}

// The newest row of the table state can always be found fast, and old ones are deleted.
func TestStates(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	for range 3200 {
		_, err := pool.Exec(t.Context(), "SELECT sse.append('{a}', '{NULL}', '{x}', 10)")
		require.NoError(t, err)
	}
	var rows, n int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*), max(n) FROM sse.state").Scan(&rows, &n))
	require.GreaterOrEqual(t, n, 3201) // there is another row if nothing was appended for a second
	require.Less(t, rows, 2300)
	require.Equal(t, uint64(3200), boundsOf(t, l).Last)
}
