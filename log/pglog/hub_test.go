package pglog

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

// Many clients that come back at once to the same cold place read each page once.
func TestReturnOfManyClients(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t)
	logkit.CheckReturn(t, l)
}

// A client that gets a snapshot and then events has each change once, while others commit.
func TestSnapshotsOfAHub(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	execute(t, pool, "CREATE TABLE counter (n bigint NOT NULL)")
	execute(t, pool, "INSERT INTO counter VALUES (0)")
	quiet := slog.New(slog.DiscardHandler)
	h, err := hub.Open(t.Context(), hub.Config{Log: l, Logger: quiet})
	require.NoError(t, err)
	r := sse.Install(chi.NewRouter(), sse.Config{ShutdownSpread: -1, Logger: quiet})
	r.SSE("/", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"a"}, Snapshot: func(s *sse.ServerSession, _ hub.Position) (pos hub.Position, err error) {
			err = pgx.BeginTxFunc(s.Context(), pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
				if pos, err = l.Snapshot(s.Context(), tx); err != nil {
					return err
				}
				var n int
				if err := tx.QueryRow(s.Context(), "SELECT n FROM counter").Scan(&n); err != nil {
					return err
				}
				return s.Send(sse.Event{Data: strconv.Itoa(n)})
			})
			return pos, err
		}})
	})
	srv := testkit.Serve(t, r)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = h.Shutdown(ctx)
	})

	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				_ = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { // an error is that of ctx
					var n int
					if err := tx.QueryRow(ctx, "UPDATE counter SET n = n + 1 RETURNING n").Scan(&n); err != nil {
						return err
					}
					return Publish(ctx, tx, "a", sse.Event{Data: strconv.Itoa(n)})
				})
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 30 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, http.NoBody)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		d := event.NewDecoder(resp.Body)
		last := -1
		for range 20 {
			e, err := d.Decode()
			require.NoError(t, err)
			n, err := strconv.Atoi(strings.TrimSpace(e.Data))
			require.NoError(t, err, e)
			if last >= 0 {
				require.Equal(t, last+1, n, "a change is missing, or comes twice")
			}
			last = n
		}
		require.NoError(t, resp.Body.Close())
	}
	stop()
	writers.Wait()
}
