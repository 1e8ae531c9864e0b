package pglog

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/pgtest"
)

// The tests talk to a server of Postgres that the first of them starts, in a folder and at a port of
// its own. Each test has a database of its own in it.

// server is a running server of Postgres.
type server struct{ *pgtest.Server }

func (s *server) start(options ...string) error            { return s.Start(options...) }
func (s *server) run(program string, args ...string) error { return s.Run(program, args...) }
func (s *server) kill()                                    { s.Kill() }
func (s *server) dsn(database, user string) string         { return s.DSN(database, user) }

// startServer starts a server that the end of the test stops.
func startServer(t testing.TB) *server {
	t.Helper()
	return &server{pgtest.Start(t)}
}

// shared is the server that most tests use.
var shared struct {
	once sync.Once
	*pgtest.Server
	err error
}

// sharedServer returns the server that most tests use.
func sharedServer(t testing.TB) *server {
	t.Helper()
	pgtest.Need(t)
	shared.once.Do(func() { shared.Server, shared.err = pgtest.New() })
	require.NoError(t, shared.err)
	return &server{shared.Server}
}

// Most tests wait for the server most of the time, so more of them run at once than there are
// processors.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := flag.Set(f.Name, strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if shared.Server != nil {
		shared.Remove()
	}
	os.Exit(code)
}

var databases atomic.Int64

// newDatabase makes a database of a server, which the end of the test drops.
func newDatabase(t testing.TB, s *server) string {
	t.Helper()
	name := fmt.Sprint("db", databases.Add(1))
	admin := connect(t, s.dsn("postgres", "postgres"))
	_, err := admin.Exec(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = admin.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)") // it may be dead
	})
	return name
}

// connect returns a pool of connections.
func connect(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

var quiet = slog.New(slog.DiscardHandler)
