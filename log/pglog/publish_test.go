package pglog

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// An event that is published in a transaction comes when it is committed, and not when it is rolled
// back, whichever package the transaction is of.
func TestPublish(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	r := startReading(t, l)
	ctx := t.Context()

	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, Publish(ctx, tx, "a", sse.Event{Data: "of pgx"}))
	require.NoError(t, Publish(ctx, tx, "b", sse.Event{Data: "of pgx too"}))
	require.NoError(t, Publish(ctx, pool, "a", sse.Event{Data: "of the pool"}))
	r.await(1)
	require.NoError(t, tx.Commit(ctx))
	r.await(3)

	tx, err = pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, Publish(ctx, tx, "a", sse.Event{Data: "rolled back"}))
	require.NoError(t, tx.Rollback(ctx))

	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	for _, commit := range []bool{false, true} {
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		require.NoError(t, Publish(ctx, SQL(tx), "a", sse.Event{Name: "n", Data: "of database/sql"}))
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
	}
	conn, err := db.Conn(ctx)
	require.NoError(t, err)
	require.NoError(t, Publish(ctx, SQL(conn), "a", sse.Event{Data: "of a connection"}))
	require.NoError(t, conn.Close())
	require.Equal(t, []string{"of the pool", "of pgx", "of pgx too", "of database/sql", "of a connection"}, texts(r.await(5)))
	require.Equal(t, "n", r.records()[3].Event.Name)
	require.WithinDuration(t, time.Now(), r.records()[4].Time, time.Hour)
}

// A batch publishes with its changes, or nothing if a statement of it fails.
func TestQueue(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	ctx := t.Context()
	execute(t, pool, "CREATE TABLE orders (id int PRIMARY KEY)")
	batch := func(order int, data string, publications ...hub.Publication) *pgx.Batch {
		b := new(pgx.Batch)
		b.Queue("INSERT INTO orders VALUES ($1)", order)
		require.NoError(t, Queue(b, "a", sse.Event{Data: data}))
		require.NoError(t, DefaultSchema.QueueAll(b, publications))
		return b
	}
	require.NoError(t, pool.SendBatch(ctx, batch(1, "1", hub.Publication{Topic: "b", Key: "k", Event: sse.Event{Data: "2"}})).Close())
	require.Error(t, pool.SendBatch(ctx, batch(1, "the order is there already")).Close())
	late := batch(2, "the last statement fails")
	late.Queue("INSERT INTO orders VALUES (1)")
	require.Error(t, pool.SendBatch(ctx, late).Close())
	require.ErrorIs(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		require.NoError(t, tx.SendBatch(ctx, batch(3, "rolled back")).Close())
		return errRollBack
	}), errRollBack)
	require.NoError(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return tx.SendBatch(ctx, batch(4, "3", hub.Publication{Topic: "b", Key: "k", Event: sse.Event{Data: "the key is there already"}})).Close()
	}))
	require.Equal(t, []string{"1", "2", "3"}, texts(startReading(t, l).await(3)))
	var orders int
	require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM orders").Scan(&orders))
	require.Equal(t, 2, orders)

	b := new(pgx.Batch)
	require.Error(t, Queue(b, "", sse.Event{Data: "no topic"}))
	require.Error(t, DefaultSchema.QueueAll(b, []hub.Publication{{Topic: "a", Event: sse.Event{Data: "1"}}, {Topic: strings.Repeat("a", maxTopic+1)}}))
	require.Zero(t, b.Len(), "nothing is queued then")
}

// All modes in which pgx executes statements can publish, also those for poolers.
func TestPublishInEachMode(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	r := startReading(t, l)
	data := "é'\\x"
	for i, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		cfg := pool.Config()
		cfg.ConnConfig.DefaultQueryExecMode = mode
		other, err := pgxpool.NewWithConfig(t.Context(), cfg)
		require.NoError(t, err)
		require.NoError(t, DefaultSchema.PublishAll(t.Context(), other, []hub.Publication{
			{Topic: "a" + data, Event: sse.Event{Data: data}}, {Topic: "b", Key: "k" + data + mode.String(), Event: sse.Event{Data: data}},
		}))
		b := new(pgx.Batch)
		require.NoError(t, Queue(b, "d", sse.Event{Data: data}))
		require.NoError(t, other.SendBatch(t.Context(), b).Close())
		logOf := openLog(t, other, Config{})
		require.Len(t, add(t, logOf, hub.Record{Topic: "c", Key: data, Event: sse.Event{Data: data}}, rec("c", data)), 2)
		for _, topics := range [][]string{nil, {"a" + data, "b"}} {
			b := boundsOf(t, logOf)
			_, err = logOf.Read(t.Context(), topics, hub.Position{Epoch: b.Epoch}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 10)
			require.NoError(t, err)
		}
		for _, rec := range r.await(5 + 4*i) {
			require.Equal(t, data, rec.Event.Data)
		}
		other.Close()
	}
}

// The same key in the same topic is the same event, also in transactions that are open at the same
// time. The key of an event with an id is the id.
func TestPublishWithKeys(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	ctx := t.Context()
	keyed := func(topic, key, data string) []hub.Publication {
		return []hub.Publication{{Topic: topic, Key: key, Event: sse.Event{Data: data}}}
	}
	one, err := pool.Begin(ctx)
	require.NoError(t, err)
	two, err := pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, DefaultSchema.PublishAll(ctx, one, keyed("a", "k", "1")))
	require.NoError(t, DefaultSchema.PublishAll(ctx, two, keyed("a", "k", "2"))) // nobody waits
	require.NoError(t, DefaultSchema.PublishAll(ctx, two, keyed("b", "k", "3")))
	require.NoError(t, DefaultSchema.PublishAll(ctx, two, keyed("b", "k", "4")))
	require.NoError(t, two.Commit(ctx))
	require.NoError(t, one.Commit(ctx))
	pos := add(t, l, hub.Record{Topic: "a", Key: "k", Event: sse.Event{Data: "5"}}, rec("a", "6"))
	r := startReading(t, l)
	got := r.await(3)
	require.Contains(t, []string{"1", "2"}, got[0].Event.Data)
	require.Equal(t, []string{"3", "6"}, texts(got[1:]))
	require.Equal(t, got[0].Offset, pos[0].Offset)

	require.NoError(t, Publish(ctx, pool, "a", sse.Event{ID: "id", Data: "7"}))
	require.NoError(t, Publish(ctx, pool, "a", sse.Event{ID: "id", Data: "8"}))
	require.NoError(t, Publish(ctx, pool, "b", sse.Event{ID: "id", Data: "9"}))
	require.Equal(t, []string{"7", "9"}, texts(r.await(5)[3:]))
	for _, find := range []struct {
		topic, id string
		offset    uint64
	}{{"a", "id", 4}, {"b", "id", 5}, {"c", "id", 0}, {"a", "k", 0}, {"a", "x", 0}} {
		pos, found, err := l.Find(ctx, find.topic, find.id)
		require.NoError(t, err)
		require.Equal(t, find.offset, pos.Offset)
		require.Equal(t, find.offset > 0, found)
	}
	var left int
	require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM sse.inbox").Scan(&left))
	require.Zero(t, left, "what was left out is deleted")
}

// What cannot be published is refused before anything is sent, so the transaction can go on.
func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	ctx := t.Context()
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	field, limit := new(*event.FieldError), new(*LimitError)
	require.Error(t, Publish(ctx, tx, "", sse.Event{Data: "1"}))
	require.ErrorAs(t, Publish(ctx, tx, "a", sse.Event{Name: "two\nlines"}), field)
	require.ErrorAs(t, Publish(ctx, tx, "a", sse.Event{ResetID: true}), field)
	require.ErrorAs(t, Publish(ctx, tx, strings.Repeat("a", maxTopic+1), sse.Event{Data: "1"}), limit)
	require.Equal(t, LimitError{"bytes of a topic", maxTopic + 1, maxTopic}, **limit)
	require.ErrorAs(t, DefaultSchema.PublishAll(ctx, tx, []hub.Publication{{Topic: "a", Key: strings.Repeat("a", maxKey+1)}}), limit)
	require.Equal(t, "bytes of a key", (*limit).Limit)
	require.ErrorAs(t, Publish(ctx, tx, "a", sse.Event{Data: strings.Repeat("a", maxRecord)}), limit)
	require.Equal(t, "bytes of a record", (*limit).Limit)
	require.Error(t, Schema("other").Publish(ctx, pool, "a", sse.Event{Data: "1"}))

	long := sse.Event{Data: strings.Repeat("a", 20<<20)}
	topic, key := strings.Repeat("a", maxTopic), strings.Repeat("k", maxKey)
	require.NoError(t, DefaultSchema.PublishAll(ctx, tx, []hub.Publication{{Topic: topic, Key: key, Event: long}}))
	require.NoError(t, tx.Commit(ctx))
	got := startReading(t, l).await(1)
	require.Equal(t, topic, got[0].Topic)
	require.Equal(t, long, got[0].Event)

	_, err = l.Append(ctx, []hub.Record{{Topic: strings.Repeat("a", maxTopic+1)}})
	require.ErrorAs(t, err, limit)
	_, err = l.Append(ctx, recs("a", 1, maxRecords+1))
	require.ErrorAs(t, err, limit)
	_, err = l.Append(ctx, []hub.Record{{Kind: hub.InvalidRecord}})
	require.Error(t, err)
	require.NotErrorIs(t, err, hub.ErrUnknown)
}

// A transaction that publishes much is numbered in one piece.
func TestPublishMany(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	ctx := t.Context()
	r := startReading(t, l)
	const n = numberBatch + 500
	ps := make([]hub.Publication, n)
	for i, rec := range recs("a", 0, n) {
		ps[i] = hub.Publication{Topic: "a", Event: rec.Event}
	}
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, DefaultSchema.PublishAll(ctx, tx, ps))
	for range 2 * numberBatch { // transactions of their own
		require.NoError(t, Publish(ctx, pool, "b", sse.Event{Data: "x"}))
		if len(r.records()) > 100 {
			break
		}
	}
	require.NoError(t, tx.Commit(ctx))
	pos := add(t, l, rec("c", "after"))
	got := r.await(int(pos[0].Offset))
	var of []hub.Record
	for i, rec := range got {
		if rec.Topic == "a" {
			require.Equal(t, got[i].Offset, uint64(i+1))
			of = append(of, rec)
		}
	}
	require.Equal(t, texts(recs("a", 0, n)), texts(of))
	require.Equal(t, uint64(n-1), of[n-1].Offset-of[0].Offset)
	require.Equal(t, "after", got[len(got)-1].Event.Data, "what is appended comes after what was committed before")
}

// A transaction that has seen what another one has committed comes after it, although its id may be
// lower: also if so much was committed that it is numbered in parts.
func TestOrderOfWhatDepends(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	ctx := t.Context()
	execute(t, pool, "CREATE TABLE counter (n bigint NOT NULL); INSERT INTO counter VALUES (0)")
	var all sync.WaitGroup
	for who := range 8 {
		all.Go(func() {
			for i := range 50 {
				err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
					if (who+i)%5 == 0 { // it has an id and has published for long
						if err := Publish(ctx, tx, "other", sse.Event{Data: "early"}); err != nil {
							return err
						}
						time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
					}
					var n int
					if err := tx.QueryRow(ctx, "UPDATE counter SET n = n + 1 RETURNING n").Scan(&n); err != nil {
						return err
					}
					return Publish(ctx, tx, "a", sse.Event{Data: strconv.Itoa(n)})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	passes := 0
	for more := true; more; passes++ {
		var free bool
		var count int
		require.NoError(t, pool.QueryRow(ctx, l.queries.number, 7).Scan(&free, &count, &more))
		require.True(t, free)
		require.True(t, count > 0 || !more)
	}
	require.Greater(t, passes, 10)
	b := boundsOf(t, l)
	page, err := l.Read(ctx, []string{"a"}, hub.Position{Epoch: b.Epoch}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 1000)
	require.NoError(t, err)
	require.Equal(t, texts(recs("a", 1, 400)), texts(page.Records))
}
