package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// A client resumes after the program has been stopped and started again, from the tail in
// memory or, with a tail of one event, by pages from the table.
func TestResumeAfterRestart(t *testing.T) {
	for name, cfg := range map[string]hub.Config{"from the tail": {}, "from the table": {LogEvents: 1}} {
		t.Run(name, func(t *testing.T) {
			file := newFile(t)
			before := start(t, file, cfg)
			client := dial(t, before.url, "")
			before.place(t, "tea", 1, 5)
			require.Equal(t, []int{1, 2, 3}, client.quantities(3))
			require.Equal(t, "3", client.lastID)
			client.close()
			before.stop()

			after := start(t, file, cfg)
			after.place(t, "tea", 6, 3)
			client = dial(t, after.url, client.lastID)
			assert.Equal(t, []int{4, 5, 6, 7, 8}, client.quantities(5))
			assert.Equal(t, "8", client.lastID)
			after.place(t, "tea", 9, 1)
			assert.Equal(t, []int{9}, client.quantities(1))
		})
	}
}

// Two hubs of one table send all events in the same order, whichever process has added them.
func TestTwoHubsOfOneTable(t *testing.T) {
	const count = 25 // few, since a writer may have to wait until the other one is done
	file := newFile(t)
	nodes := []*node{start(t, file, hub.Config{}), start(t, file, hub.Config{})}
	streams := []*stream{dial(t, nodes[0].url, ""), dial(t, nodes[1].url, "")}
	errs := make(chan error, len(nodes))
	for i, n := range nodes {
		go func() {
			var err error
			for q := 1; q <= count && err == nil; q++ {
				err = n.store.place(t.Context(), &order{Item: []string{"tea", "milk"}[i], Quantity: q})
			}
			errs <- err
		}()
	}
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	first, second := streams[0].orders(2*count), streams[1].orders(2*count)
	require.Equal(t, first, second)
	next := map[string]int{"tea": 1, "milk": 1}
	for _, o := range first {
		require.Equal(t, next[o.Item], o.Quantity, o.Item)
		next[o.Item]++
	}

	// A client that changes over loses nothing.
	nodes[0].place(t, "coffee", 1, 2)
	moved := dial(t, nodes[1].url, streams[0].lastID)
	assert.Equal(t, []int{1, 2}, moved.quantities(2))
}

// One of two processes is killed while it takes orders. A client of it goes on at the other
// one, and then at the next process, and gets every order that was confirmed, once.
func TestTwoProcessesAndAKill(t *testing.T) {
	file := newFile(t)
	first, second := startProcess(t, file), startProcess(t, file)
	client := dial(t, first.url, "")
	last := 0 // order that was confirmed
	for ; ; last++ {
		if last == 50 {
			time.AfterFunc(5*time.Millisecond, first.kill)
		}
		if status, err := post(first.url, order{Item: "tea", Quantity: last + 1}); err != nil || status != http.StatusCreated {
			break
		}
	}
	require.GreaterOrEqual(t, last, 50)

	all := client.rest()
	continueAt := func(p *process, item string) {
		status, err := post(second.url, order{Item: item, Quantity: 1})
		require.NoError(t, err)
		require.Equal(t, http.StatusCreated, status)
		client = dial(t, p.url, client.lastID)
		for all = append(all, client.orders(1)...); all[len(all)-1].Item != item; {
			all = append(all, client.orders(1)...)
		}
	}
	continueAt(second, "milk")
	continueAt(startProcess(t, file), "coffee")

	teas := len(all) - 2
	require.Contains(t, []int{last, last + 1}, teas, "the order that was under way may have been committed")
	for i, o := range all[:teas] {
		require.Equal(t, order{ID: int64(i + 1), Item: "tea", Quantity: i + 1}, o)
	}
}

// What is rolled back is seen by nobody, also not while the transaction is under way.
func TestRolledBackTransactionIsNeverSeen(t *testing.T) {
	n := start(t, newFile(t), hub.Config{})
	client := dial(t, n.url, "")
	n.place(t, "tea", 1, 1)
	require.Equal(t, []int{1}, client.quantities(1))
	failed := errors.New("the card was refused")
	err := n.store.change(t.Context(), func(tx *sql.Tx) error {
		require.NoError(t, place(t.Context(), tx, &order{Item: "tea", Quantity: 2}))
		time.Sleep(3 * pollEvery)
		return failed
	})
	require.ErrorIs(t, err, failed)
	n.place(t, "tea", 3, 1)
	assert.Equal(t, []int{3}, client.quantities(1))

	var orders int
	require.NoError(t, n.store.db.QueryRow(`SELECT count(*) FROM orders`).Scan(&orders))
	assert.Equal(t, 2, orders)
}

// The hub cannot publish. A kick works in its own process, and says that it did not reach the
// others.
func TestHubCannotWrite(t *testing.T) {
	n := start(t, newFile(t), hub.Config{})
	_, err := n.hub.Publish(t.Context(), ordersTopic, sse.Event{ID: "1", Data: "x"})
	require.ErrorIs(t, err, hub.ErrReadOnly)
	require.NotErrorIs(t, err, hub.ErrUnknown)

	client := dial(t, n.url, "")
	n.place(t, "tea", 1, 1)
	require.Equal(t, []int{1}, client.quantities(1))
	kicked, err := n.hub.Kick(t.Context(), ordersTopic, errors.New("closed"))
	assert.Equal(t, 1, kicked)
	require.ErrorIs(t, err, hub.ErrReadOnly)
	n.place(t, "tea", 2, 1)
	_, open := client.next()
	assert.False(t, open)
	require.NoError(t, n.hub.Health().Err)
}

// A client whose next event was deleted is told of a gap, and continues with the oldest event.
func TestDeletedRowsAreAGap(t *testing.T) {
	file := newFile(t)
	before := start(t, file, hub.Config{})
	before.place(t, "tea", 1, 5)
	before.stop()
	after := start(t, file, hub.Config{})
	_, err := after.store.db.Exec(`DELETE FROM outbox WHERE id <= (SELECT max(id) - 2 FROM outbox)`)
	require.NoError(t, err)
	after.stop()

	last := start(t, file, hub.Config{})
	client := dial(t, last.url, "2")
	ev, _ := client.next()
	require.Equal(t, hub.GapEvent, ev.Name)
	assert.Equal(t, []int{4, 5}, client.quantities(2))

	_, err = last.store.db.Exec(`DELETE FROM outbox`)
	require.NoError(t, err)
	last.place(t, "tea", 6, 1)
	assert.Equal(t, []int{6}, client.quantities(1))
	assert.Equal(t, "6", client.lastID, "a number is not used again")
}

// A backup was restored as the guide says. A client that has seen a lost event is told of a
// gap, even when there are as many events again.
func TestRestoredBackup(t *testing.T) {
	file := newFile(t)
	before := start(t, file, hub.Config{})
	before.place(t, "tea", 1, 2)
	backup := filepath.Join(t.TempDir(), "backup.db")
	_, err := before.store.db.Exec(`VACUUM INTO ?`, backup)
	require.NoError(t, err)
	client := dial(t, before.url, "")
	before.place(t, "lost", 3, 2)
	require.Len(t, client.quantities(4), 4)
	epoch := before.hub.Position().Epoch
	before.stop()

	for _, suffix := range []string{"-wal", "-shm"} {
		_ = os.Remove(file + suffix)
	}
	require.NoError(t, os.Rename(backup, file))
	s, err := openStore(t.Context(), file)
	require.NoError(t, err)
	_, err = s.db.Exec(afterRestore)
	require.NoError(t, err)
	require.NoError(t, s.close())

	after := start(t, file, hub.Config{})
	assert.NotEqual(t, epoch, after.hub.Position().Epoch)
	after.place(t, "tea", 3, 2)
	client = dial(t, after.url, client.lastID)
	ev, _ := client.next()
	require.Equal(t, hub.GapEvent, ev.Name)
	assert.Equal(t, []int{1, 2, 3, 4}, client.quantities(4))
}

// The file was deleted, and another one was made in its place. A client of the old one is told
// of a gap, even when there are as many events again.
func TestFileMadeAnew(t *testing.T) {
	dir := t.TempDir()
	old := start(t, filepath.Join(dir, "old.db"), hub.Config{})
	client := dial(t, old.url, "")
	old.place(t, "tea", 1, 3)
	require.Equal(t, []int{1, 2, 3}, client.quantities(3))
	id := client.lastID
	old.stop()

	anew := start(t, filepath.Join(dir, "new.db"), hub.Config{})
	anew.place(t, "tea", 11, 5)
	client = dial(t, anew.url, id)
	ev, _ := client.next()
	require.Equal(t, hub.GapEvent, ev.Name)
	assert.Equal(t, []int{11, 12, 13, 14, 15}, client.quantities(5))
	assert.Greater(t, client.lastID, id)
}

// A snapshot that is read with the last row number in one statement fits the events after it
// exactly, and a client can resume from it.
func TestSnapshotFitsTheEvents(t *testing.T) {
	const total = 60
	n := start(t, newFile(t), hub.Config{})
	snapshot := func(s *sse.ServerSession, _ hub.Position) (pos hub.Position, err error) {
		var placed string
		err = n.store.db.QueryRow(`SELECT epoch, (SELECT max(id) FROM outbox WHERE topic = ?), (SELECT count(*) FROM orders) FROM outbox_epoch`,
			ordersTopic).Scan(&pos.Epoch, &pos.Offset, &placed)
		if err != nil {
			return pos, err
		}
		return pos, s.Send(sse.Event{ID: strconv.FormatUint(pos.Offset, 10), Name: "state", Data: placed})
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/orders/events", func(s *sse.ServerSession) error {
		return n.hub.Serve(s, hub.Subscription{Topics: []string{ordersTopic}, Snapshot: snapshot})
	})
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	t.Cleanup(func() { _ = r.Plugin().Shutdown(context.Background()) })

	n.place(t, "tea", 1, 1)
	placed := make(chan error, 1)
	go func() {
		var err error
		for q := 2; q <= total && err == nil; q++ {
			err = n.store.place(t.Context(), &order{Item: "tea", Quantity: q})
		}
		placed <- err
	}()
	for again := true; again; {
		client := dial(t, srv.URL, "")
		ev, ok := client.next()
		require.True(t, ok)
		require.Equal(t, "state", ev.Name)
		seen, err := strconv.Atoi(ev.Data)
		require.NoError(t, err)
		again = seen < total
		resumed := dial(t, srv.URL, ev.ID)
		for q := seen + 1; q <= total; q++ {
			require.Equal(t, []int{q}, client.quantities(1))
			require.Equal(t, []int{q}, resumed.quantities(1))
		}
		client.close()
		resumed.close()
	}
	require.NoError(t, <-placed)
}

// afterRestore is in the guide too.
const afterRestore = `UPDATE outbox_epoch SET epoch = 1 + abs(random() % 1000000000000000000);
UPDATE sqlite_sequence SET seq = max(seq, CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)) WHERE name = 'outbox';
`
