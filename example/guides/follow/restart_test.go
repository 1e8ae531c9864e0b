package main

import (
	"database/sql"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scale returns how many orders the tests of restarts send, and how often they restart a
// side. SSE_FOLLOW=full asks for the whole.
func scale() (orders, restarts int) {
	if os.Getenv("SSE_FOLLOW") == "full" {
		return 100_000, 100
	}
	return 2000, 12
}

// disturb kills the follower and restarts the server in turns, while the follower works
// through the orders. place returns the last order that the checkpoint has.
func disturb(t *testing.T, s *server, orders, restarts int, start func() *process, place func() int) {
	t.Helper()
	follower := start()
	await := func(n int) {
		deadline := time.Now().Add(10 * patience)
		for place() < n {
			require.True(t, time.Now().Before(deadline), "the follower is at %d instead of %d", place(), n)
			time.Sleep(time.Millisecond)
		}
	}
	for i := range restarts {
		await((orders*i + rand.IntN(orders)) / (restarts + 1))
		if i%2 == 0 {
			follower.kill()
			follower = start()
		} else {
			s.restart(t)
		}
	}
	await(orders)
	follower.kill()
}

// With the checkpoint in the transaction, each order leads to one parcel, in order, over
// restarts of both sides.
func TestExactlyOnce(t *testing.T) {
	orders, restarts := scale()
	s := startServer(t, orders)
	file := filepath.Join(t.TempDir(), "100 % parcels#1.db")
	db, err := openStore(t.Context(), file)
	require.NoError(t, err)
	defer func() { assert.NoError(t, db.close()) }()
	disturb(t, s, orders, restarts,
		func() *process { return startProcess(t, os.Stdout, "-db", file, s.url) },
		func() int { return checkpoint(t, db.db) })
	assertEachOnce(t, orders, parcels(t, db.db))
}

// checkpoint returns the number of the last order that was handled.
func checkpoint(t *testing.T, db *sql.DB) int {
	t.Helper()
	var id string
	require.NoError(t, db.QueryRow(`SELECT last_event_id FROM checkpoint`).Scan(&id))
	n, _ := strconv.Atoi(id)
	return n
}

// parcels returns the numbers of the orders for which there are parcels.
func parcels(t *testing.T, db *sql.DB) (all []int) {
	t.Helper()
	rows, err := db.Query(`SELECT quantity FROM parcels ORDER BY id`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var n int
		require.NoError(t, rows.Scan(&n))
		all = append(all, n)
	}
	require.NoError(t, rows.Err())
	return all
}

func assertEachOnce(t *testing.T, orders int, got []int) {
	t.Helper()
	require.Len(t, got, orders)
	for i, n := range got {
		require.Equal(t, i+1, n)
	}
}

// With the checkpoint in a file, each order is printed at least once, over restarts of both
// sides. What is printed again follows the order before it without a hole.
func TestAtLeastOnce(t *testing.T) {
	orders, restarts := scale()
	s := startServer(t, orders)
	file := filepath.Join(t.TempDir(), "checkpoint")
	out, err := os.OpenFile(filepath.Join(t.TempDir(), "out"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer out.Close()
	// The file has the last checkpoint only after the program has ended in order, so the output
	// tells where it is.
	place := func() int {
		text := make([]byte, 200)
		info, err := out.Stat()
		require.NoError(t, err)
		n, _ := out.ReadAt(text, max(0, info.Size()-int64(len(text))))
		lines := strings.Split(strings.TrimSpace(string(text[:n])), "\n")
		var last struct{ ID int }
		_ = json.Unmarshal([]byte(lines[len(lines)-1]), &last)
		return last.ID
	}
	disturb(t, s, orders, restarts, func() *process { return startProcess(t, out, "-checkpoint", file, s.url) }, place)

	text, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	highest, repeated := 0, 0
	for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		var order struct{ ID int }
		require.NoError(t, json.Unmarshal([]byte(line), &order))
		require.LessOrEqual(t, order.ID, highest+1, "an order is missing")
		if order.ID <= highest {
			repeated++
		}
		highest = max(highest, order.ID)
	}
	assert.Equal(t, orders, highest)
	t.Logf("%d of %d orders were printed again", repeated, orders)
}
