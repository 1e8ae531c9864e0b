package pglog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/pgtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// Open says all that is missing, and what to do.
func TestOpenOfWhatIsIncomplete(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	database := newDatabase(t, s)
	pool := connect(t, s.dsn(database, "postgres"))
	role := database + "_hub"
	execute(t, pool, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() { dropRole(pool, role) })
	asRole := connect(t, s.dsn(database, role))
	says := func(pool *pgxpool.Pool, cfg Config, want ...string) {
		t.Helper()
		_, err := Open(t.Context(), pool, cfg)
		require.Error(t, err)
		missing := new(MissingError)
		require.ErrorAs(t, err, &missing)
		for _, text := range want {
			require.ErrorContains(t, err, text)
		}
		require.Len(t, strings.Split(err.Error(), "\n"), len(want))
	}
	says(pool, Config{}, "there is no such schema; call Migrate")
	execute(t, pool, "CREATE SCHEMA sse")
	says(pool, Config{}, `cannot read the table version; call Migrate`)
	migrate(t, pool)
	migrate(t, pool) // it changes nothing
	says(asRole, Config{}, "the user has no right to it; GRANT USAGE ON SCHEMA sse")
	execute(t, pool, "GRANT USAGE ON SCHEMA sse TO "+role)
	says(asRole, Config{}, `GRANT SELECT ON "sse"."version"`)
	execute(t, pool, "GRANT SELECT ON sse.version, sse.state TO "+role)
	says(asRole, Config{ReadOnly: true}, "cannot read log.at", "log.key", "log.number", "log.record", "log.topic")
	execute(t, pool, "GRANT SELECT ON sse.log TO "+role)
	openLog(t, asRole, Config{ReadOnly: true})
	says(asRole, Config{}, `may not call the function append; GRANT EXECUTE ON FUNCTION "sse"."append", or set Config.ReadOnly`, "hold", "number", "number_seen", "renew", "retain")
	execute(t, pool, "ALTER ROLE "+role+" SET default_transaction_isolation = 'serializable'")
	asRole.Reset()
	says(asRole, Config{}, `default_transaction_isolation is "serializable"`)
	execute(t, pool, "DROP FUNCTION sse.renew")
	execute(t, pool, "ALTER TABLE sse.log RENAME COLUMN at TO time")
	says(pool, Config{}, "there is no column log.at", "there is no function renew(bigint)")
	execute(t, pool, "UPDATE sse.version SET version = 0")
	says(pool, Config{}, "the tables have the version 0; call Migrate")

	for _, schema := range []Schema{"a'b", `a"b`, "$x$", Schema(strings.Repeat("a", 64))} {
		_, err := Open(t.Context(), pool, Config{Schema: schema})
		require.ErrorContains(t, err, "schema")
		require.Error(t, schema.Migrate(t.Context(), pool))
	}
	_, err := Open(t.Context(), pool, Config{MaxRecords: -1})
	require.ErrorContains(t, err, "MaxRecords")
}

// dropRole drops a role with all its rights.
func dropRole(pool *pgxpool.Pool, role string) {
	ctx, cancel := withTimeout()
	defer cancel()
	_, _ = pool.Exec(ctx, "DROP OWNED BY "+role+"; DROP ROLE "+role) // the database may be gone
}

// A log can be in another schema, and several in one database.
func TestSchemas(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	for _, schema := range []Schema{"Other Schema", "é", Schema(strings.Repeat("x", 63))} {
		require.NoError(t, schema.Migrate(t.Context(), pool))
		other := openLog(t, pool, Config{Schema: schema})
		r := startReading(t, other)
		require.NoError(t, schema.Publish(t.Context(), pool, "a", sse.Event{Data: "1"}))
		r.await(1)
		add(t, other, recs("a", 2, 2)...)
		require.Equal(t, []string{"1", "2", "3"}, texts(r.await(3)))
	}
	require.Zero(t, boundsOf(t, l).Last)
}

// These are the rights of package pglog's documentation.
const (
	grantPublisher = `
		GRANT USAGE ON SCHEMA sse TO %[1]s;
		GRANT INSERT (topic, key, record) ON sse.inbox TO %[1]s;`
	grantReader = `
		GRANT USAGE ON SCHEMA sse TO %[1]s;
		GRANT SELECT ON sse.version, sse.state, sse.log TO %[1]s;`
	grantHub = grantReader + `
		GRANT EXECUTE ON FUNCTION sse.number, sse.append, sse.hold, sse.number_seen, sse.retain, sse.renew TO %[1]s;`
	grantSnapshot = `
		GRANT USAGE ON SCHEMA sse TO %[1]s;
		GRANT SELECT ON sse.state TO %[1]s;`
)

// The documented rights are enough for a hub, a publisher, a hub that only reads, and who takes
// snapshots; and they are not more.
func TestPermissions(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	database := newDatabase(t, s)
	admin := connect(t, s.dsn(database, "postgres"))
	migrate(t, admin)
	as := func(name, grants string) *pgxpool.Pool {
		t.Helper()
		role := database + "_" + name
		execute(t, admin, "CREATE ROLE "+role+" LOGIN")
		t.Cleanup(func() { dropRole(admin, role) })
		execute(t, admin, fmt.Sprintf(grants, role))
		return connect(t, s.dsn(database, role))
	}
	ctx := t.Context()
	hubs, publisher, reader, snapshots := as("hub", grantHub), as("publisher", grantPublisher), as("reader", grantReader), as("snapshots", grantSnapshot)
	owner := openLog(t, hubs, Config{})
	r := startReading(t, openLog(t, reader, Config{ReadOnly: true}))
	startReading(t, owner)
	require.NoError(t, Publish(ctx, publisher, "a", sse.Event{Data: "1"}))
	r.await(1)
	add(t, owner, hub.Record{Topic: "a", Key: "k", Event: sse.Event{Data: "2"}})
	require.Equal(t, []string{"1", "2"}, texts(r.await(2)))
	tx, err := snapshots.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	pos, err := owner.Snapshot(ctx, tx)
	require.NoError(t, err)
	require.Equal(t, uint64(2), pos.Offset)
	require.NoError(t, tx.Rollback(ctx))

	// Who only reads learns it at once, without Config.ReadOnly too.
	_, err = openLog(t, reader, Config{ReadOnly: true}).Append(ctx, recs("a", 3, 1))
	require.ErrorIs(t, err, hub.ErrReadOnly)
	execute(t, admin, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sse TO "+database+"_reader")
	unaware := openLog(t, reader, Config{})
	execute(t, admin, "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA sse FROM "+database+"_reader")
	_, err = unaware.Append(ctx, recs("a", 3, 1))
	require.ErrorIs(t, err, hub.ErrReadOnly)
	require.NotErrorIs(t, err, hub.ErrUnknown)

	for _, denied := range []struct {
		pool *pgxpool.Pool
		sql  string
	}{
		{publisher, "SELECT * FROM sse.inbox"},
		{publisher, "SELECT * FROM sse.log"},
		{publisher, "INSERT INTO sse.inbox (xid, topic, record) VALUES ('7', '', '')"},
		{publisher, "SELECT sse.number(1)"},
		{reader, "INSERT INTO sse.inbox (topic, record) VALUES ('', '')"},
		{reader, "SELECT * FROM sse.inbox"},
		{reader, "DELETE FROM sse.log"},
		{snapshots, "SELECT * FROM sse.log"},
		{hubs, "DELETE FROM sse.log"},
		{hubs, "INSERT INTO sse.state SELECT * FROM sse.state"},
	} {
		_, err := denied.pool.Exec(ctx, denied.sql)
		require.True(t, isCode(err, codePrivilege), "%s: %v", denied.sql, err)
	}
}

// startPooler starts PgBouncer in a mode, in front of a database, and returns its address.
func startPooler(t testing.TB, s *server, mode string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer"
	}
	if _, err := os.Stat(program); err != nil {
		testkit.Missing(t, "there is no PgBouncer; install it, for example with: apt-get install pgbouncer")
	}
	dir, err := pgtest.Folder()
	require.NoError(t, err)
	port, err := testkit.FreePort()
	require.NoError(t, err)
	cfg := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
`, s.Port, port, mode)
	cfg = strings.Replace(cfg, "127.0.0.1 port="+fmt.Sprint(s.Port), "127.0.0.1 user=postgres port="+fmt.Sprint(s.Port), 1) // auth_type any needs it
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ini"), []byte(cfg), 0o644))
	cmd, err := pgtest.Command(dir, program, filepath.Join(dir, "ini"))
	require.NoError(t, err)
	log := new(strings.Builder)
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
		if t.Failed() {
			t.Log(log.String())
		}
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	testkit.Eventually(t, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, "PgBouncer to listen")
	return address
}

// Through PgBouncer, in each mode, everything works. Notifications come if Config.Listen is a
// direct connection.
func TestPooler(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	for _, mode := range []string{"transaction", "session", "statement"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			database := newDatabase(t, s)
			direct := connect(t, s.dsn(database, "postgres"))
			migrate(t, direct)
			cfg, err := pgxpool.ParseConfig("postgres://postgres@" + startPooler(t, s, mode) + "/" + database + "?sslmode=disable&default_query_exec_mode=simple_protocol")
			require.NoError(t, err)
			pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			for i, listen := range []*pgx.ConnConfig{nil, direct.Config().ConnConfig} {
				log := testkit.NewLog()
				l := openLog(t, pool, Config{Listen: listen, Logger: log.Logger()})
				require.Len(t, log.Entries("pooler"), 1-i)
				r := startReading(t, l)
				n := len(r.await(5 * i))
				require.NoError(t, Publish(t.Context(), pool, "a", sse.Event{Data: "1"}))
				r.await(n + 1)
				add(t, l, recs("a", 2, 3)...)
				require.NoError(t, Publish(t.Context(), pool, "a", sse.Event{Data: "5"}))
				require.Equal(t, []string{"1", "2", "3", "4", "5"}, texts(r.await(n + 5)[n:]))
				page, err := l.Read(t.Context(), []string{"a"}, hub.Position{Epoch: boundsOf(t, l).Epoch}, hub.Position{Epoch: boundsOf(t, l).Epoch, Offset: 5}, 3)
				require.NoError(t, err)
				require.Len(t, page.Records, 3)
				if mode == "statement" { // it allows no transactions of several statements
					continue
				}
				tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
				require.NoError(t, err)
				require.NoError(t, errors.Join(err))
				pos, err := l.Snapshot(t.Context(), tx)
				require.NoError(t, err)
				require.Equal(t, uint64(n+5), pos.Offset)
				require.NoError(t, tx.Rollback(t.Context()))
			}
		})
	}
}
