package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/pgtest"
)

// patience is how long a test waits for something that must happen.
const patience = 30 * time.Second

// newDatabase starts a server with the program's tables.
func newDatabase(t *testing.T) *pgtest.Server {
	t.Helper()
	s := pgtest.Start(t)
	require.NoError(t, migrate(t.Context(), options{database: s.DSN("postgres", "postgres")}, io.Discard))
	require.NoError(t, migrate(t.Context(), options{database: s.DSN("postgres", "postgres")}, io.Discard), "it changes nothing")
	return s
}

// process is the program, in the test's process.
type process struct {
	url  string
	stop func()
}

// start starts the program for a user of the database. The end of the test stops it, if the test does
// not.
func start(t *testing.T, o options) *process {
	t.Helper()
	if o.addr == "" {
		o.addr = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, o, in)
		_ = in.CloseWithError(err)
		done <- err
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	p := &process{url: strings.TrimPrefix(strings.TrimSpace(line), "Listening on ")}
	stopped := false
	p.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(p.stop)
	return p
}

// post returns the status of the answer, and its text.
func post(url string, form url.Values) (status int, text string, err error) {
	resp, err := http.PostForm(url, form)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// allOrders returns the orders in the table, the newest first.
func allOrders(t *testing.T, s *pgtest.Server) []order {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), s.DSN("postgres", "postgres"))
	require.NoError(t, err)
	defer pool.Close()
	rows, _ := pool.Query(t.Context(), `SELECT * FROM orders ORDER BY id DESC`)
	orders, err := pgx.CollectRows(rows, pgx.RowToStructByPos[order])
	require.NoError(t, err)
	return orders
}
