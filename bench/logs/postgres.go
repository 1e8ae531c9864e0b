//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/pgtest"
	"github.com/chi-sse/sse/internal/sinks"
	"github.com/chi-sse/sse/log/pglog"
)

// postgresPlace returns the place in a server of Postgres, with its files in dir.
func postgresPlace(dir string) *place {
	var port int
	return &place{
		name: postgresName, about: "a table of Postgres; each commit is synced to the disk (the default)", nodes: true,
		start: func(t *trial, p *place) { p.server, port = startPostgres(t, dir) },
		create: func(t *trial, name string) *source {
			admin := connectPostgres(t, port, "postgres", 1)
			_, err := admin.Exec(t.Context(), "CREATE DATABASE "+name)
			require.NoError(t, err)
			t.Cleanup(func() {
				_, err := admin.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
				require.NoError(t, err)
			})
			db := &database{port, name}
			pool := db.connect(t, 1)
			require.NoError(t, pglog.DefaultSchema.Migrate(t.Context(), pool))
			_, err = pool.Exec(t.Context(), "CREATE TABLE orders (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, state text NOT NULL)")
			require.NoError(t, err)
			return &source{postgres: db, open: func(t *trial) hub.Log {
				l, err := pglog.Open(t.Context(), db.connect(t, 1), pglog.Config{Logger: quiet})
				require.NoError(t, err)
				t.Cleanup(l.Close)
				return l
			}}
		},
	}
}

// startPostgres starts a server.
func startPostgres(t *trial, dir string) (s *server, port int) {
	if err := pgtest.Installed(); err != nil {
		t.errs = append(t.errs, &missingError{err})
		t.FailNow()
	}
	dir, err := pgtest.FolderIn(dir)
	require.NoError(t, err)
	pg, err := pgtest.In(dir)
	require.NoError(t, err)
	require.NoError(t, pg.Init())
	require.NoError(t, pg.Start())
	t.Cleanup(pg.Kill)
	return &server{pid: pg.Pid()}, pg.Port
}

// database is a database of the server.
type database struct {
	port int
	name string
}

func (d *database) url() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", d.port, d.name)
}

// connect connects to the database with up to so many connections.
func (d *database) connect(t *trial, most int32) *pgxpool.Pool {
	return connectPostgres(t, d.port, d.name, most)
}

func connectPostgres(t *trial, port int, name string, most int32) *pgxpool.Pool {
	cfg, err := pgxpool.ParseConfig((&database{port, name}).url())
	require.NoError(t, err)
	cfg.MaxConns = most
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// connections is how many connections the application has.
const connections = 32

// transactions measures an application that inserts an order in each transaction, and publishes an
// event in it.
func transactions(t *trial, sz sizes, src *source, out *figures) {
	pool := src.postgres.connect(t, connections)
	insert := func(number int, published bool) (began, acknowledged time.Time, err error) {
		ctx := context.Background()
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO orders (state) VALUES ('new')")
			if err == nil && published {
				err = pglog.Publish(ctx, tx, sinks.Topic, sinks.Event(number))
			}
			began = time.Now() // and the commit begins
			return err
		})
		return began, time.Now(), err
	}
	inBatch := func() error {
		var b pgx.Batch
		b.Queue("INSERT INTO orders (state) VALUES ('new')")
		if err := pglog.Queue(&b, sinks.Topic, sinks.Event(0)); err != nil {
			return err
		}
		return pool.SendBatch(context.Background(), &b).Close()
	}
	repeat := func(f func() error) float64 { return sinks.Repeat(t, connections, sz.flood, f) }
	h := sinks.New(t, hub.Config{}, src.open(t))
	defer h.Close()
	out[plainTransactions] = repeat(func() error { _, _, err := insert(0, false); return err })
	times := h.Pace(sz.transactions, time.Second/500, func(number int) (began, acknowledged time.Time, err error) {
		return insert(number, true)
	})
	out[commit50], out[commit99] = percentiles(times.Acknowledged)
	out[committed50], out[committed99] = percentiles(times.Received)
	out[publishTransactions] = repeat(func() error { _, _, err := insert(0, true); return err })
	out[batchTransactions] = repeat(inBatch)
}
