//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
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

// startPostgres starts a server, which refuses to run as root, with its default settings.
func startPostgres(t *trial, dir string) (s *server, port int) {
	bin, err := binaries()
	if err != nil {
		t.errs = append(t.errs, err)
		t.FailNow()
	}
	cred, err := credential()
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	if cred != nil {
		require.NoError(t, os.Chown(dir, int(cred.Uid), int(cred.Gid)))
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(bin, name), args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		cmd.Dir = dir
		return cmd
	}
	data := filepath.Join(dir, "data")
	out, err := command("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C").CombinedOutput()
	require.NoError(t, err, "%s", out)
	port = freePort(t)
	s = startServer(t, command("postgres", "-D", data, "-p", strconv.Itoa(port), "-k", dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200", "-c", "log_min_messages=fatal"), syscall.SIGQUIT)
	s.await(t, func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, (&database{port, "postgres"}).url())
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
	return s, port
}

// binaries returns the folder with the programs of the newest Postgres.
func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is valid
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return "", &missingError{"Postgres", "postgresql"}
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 for another folder
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

// credential returns a user that may run Postgres, or nil if this one may.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32) // they are numbers on Unix
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("there is no user postgres, and no user nobody")
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
	repeat := func(published bool) float64 {
		return sinks.Repeat(t, connections, sz.flood, func() error {
			_, _, err := insert(0, published)
			return err
		})
	}
	h := sinks.New(t, hub.Config{}, src.open(t))
	defer h.Close()
	out[plainTransactions] = repeat(false)
	times := h.Pace(sz.transactions, time.Second/500, func(number int) (began, acknowledged time.Time, err error) {
		return insert(number, true)
	})
	out[commit50], out[commit99] = percentiles(times.Acknowledged)
	out[committed50], out[committed99] = percentiles(times.Received)
	out[publishTransactions] = repeat(true)
}
