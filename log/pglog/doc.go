// Package pglog keeps the events of hubs in a database of Postgres. The application publishes an
// event in its own transaction, together with the change that the event tells of. If the
// transaction is rolled back, nobody sees the event; if it is committed, no client misses it. Many
// nodes are one hub to their clients. A [Log] is a [hub.Log] in a schema of the database. It needs
// Postgres 14 or later.
//
// This program changes orders. Start it on as many machines as you like.
//
//	package main
//
//	import (
//		"context"
//		"fmt"
//		"log"
//		"net/http"
//		"os"
//		"os/signal"
//		"time"
//
//		"github.com/go-chi/chi/v5"
//		"github.com/jackc/pgx/v5"
//		"github.com/jackc/pgx/v5/pgxpool"
//
//		"github.com/chi-sse/sse"
//		"github.com/chi-sse/sse/hub"
//		"github.com/chi-sse/sse/log/pglog"
//	)
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
//		defer stop()
//		pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
//		if err != nil {
//			log.Fatal(err)
//		}
//		if err := pglog.DefaultSchema.Migrate(ctx, pool); err != nil {
//			log.Fatal(err)
//		}
//		if _, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, state text NOT NULL)`); err != nil {
//			log.Fatal(err)
//		}
//		events, err := pglog.Open(ctx, pool, pglog.Config{})
//		if err != nil {
//			log.Fatal(err)
//		}
//		h, err := hub.Open(ctx, hub.Config{Log: events})
//		if err != nil {
//			log.Fatal(err)
//		}
//		r := sse.Install(chi.NewRouter(), sse.Config{})
//		r.SSE("/orders/events", func(s *sse.ServerSession) error {
//			return h.Serve(s, hub.Subscription{Topics: []string{"orders"}})
//		})
//		r.Put("/orders/{id}/{state}", func(w http.ResponseWriter, req *http.Request) {
//			id, state := chi.URLParam(req, "id"), chi.URLParam(req, "state")
//			err := pgx.BeginFunc(req.Context(), pool, func(tx pgx.Tx) error {
//				const upsert = `INSERT INTO orders VALUES ($1::text::bigint, $2) ON CONFLICT (id) DO UPDATE SET state = excluded.state`
//				if _, err := tx.Exec(req.Context(), upsert, id, state); err != nil {
//					return err
//				}
//				return pglog.Publish(req.Context(), tx, "orders", sse.Event{Name: "changed", Data: fmt.Sprintf("%s %s", id, state)})
//			})
//			if err != nil {
//				http.Error(w, err.Error(), http.StatusInternalServerError)
//			}
//		})
//		server := &http.Server{Addr: ":8080", Handler: r}
//		go server.ListenAndServe()
//		<-ctx.Done()
//		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
//		defer cancel()
//		_ = h.Shutdown(end)
//		_ = server.Shutdown(end)
//		events.Close()
//		pool.Close()
//	}
//
// # What it promises
//
// [Publish] inserts a row, which has no number yet, in the caller's transaction. It waits for
// nobody. [Queue] does so in a batch of pgx, which takes one round trip. The hubs number the rows
// of the transactions that have committed, one hub at a time and many rows at once. The number is
// the offset. So a transaction that stays open for long delays nobody else's events; its own come
// when it commits. All readers have one order without gaps:
//
//   - The events of a transaction are together, in the order in which they were published.
//   - A transaction that sees what another one has committed, and publishes then, comes after it.
//     So publish after the change.
//   - What a hub publishes comes after all that was committed before.
//
// As long as no hub runs, the rows wait. Publish works all the same.
//
// A record is delivered when its number is on the server's disk, also if the transaction that has
// published it had synchronous_commit = off. A Log has a number on as many standbys as
// synchronous_standby_names and synchronous_commit say.
//
// A key is remembered as long as the log has its record. An event that is left out because of its
// key gets no number. Topics and keys have at most 1,024 bytes, and a record 64 MiB.
//
// # Numbers and snapshots
//
// A row of the inbox has the id of its transaction, and the newest row of the table state has the
// snapshot of Postgres (pg_current_snapshot) up to which everything is numbered. So a hub finds new
// rows by two ranges of the index, however many are dead or not yet committed. No row is updated,
// except that the inbox and the oldest end of the log lose rows: while an old transaction keeps
// them from being removed, nothing has to step over them.
//
// [Log.Snapshot] gives the position of what a transaction sees of the application's tables:
//
//   - Snapshots of a server are ordered: of two, one sees all that the other one does.
//   - Everything that has a number was committed before the lock was taken under which numbers are
//     given. Snapshot takes that lock first, and then has the transaction take its snapshot. So the
//     transaction sees all that has a number.
//   - Under the lock, Snapshot then numbers what the transaction's snapshot sees and has no number
//     yet. So all that it sees has numbers up to the last one, and nothing else has.
//
// This is a subscription that begins with the state:
//
//	hub.Subscription{Topics: topics, Snapshot: func(s *sse.ServerSession, _ hub.Position) (at hub.Position, err error) {
//		opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
//		err = pgx.BeginTxFunc(s.Context(), pool, opts, func(tx pgx.Tx) error {
//			if at, err = events.Snapshot(s.Context(), tx); err != nil {
//				return err
//			}
//			return sendOrders(s, tx)
//		})
//		return at, err
//	}}
//
// # Epochs
//
// The epoch is made with the tables. A hub begins another one before it gives the first number on a
// standby that was promoted, after a restore to a point in time, or after a dump was restored into
// another cluster, because records may be lost. The records that are left are kept. That is so
// also if the standby was synchronous and nothing is lost, and after pg_upgrade. A server that
// crashes and restarts keeps the epoch.
//
// A copy of the server's files that is put back cannot be told from the server. A hub that runs on
// notices it if it has seen a newer record. If all were stopped, call SELECT sse.renew((SELECT epoch
// FROM sse.state ORDER BY n DESC LIMIT 1)) before they start.
//
// # The tables
//
// [Schema.Migrate] makes them, or any tool that applies the files of the folder schema. To use
// another schema than sse, set Config.Schema; in the files, change the two statements at the
// beginning. Open checks that nothing is missing.
//
// Config.MaxAge and Config.MaxRecords say which records are deleted. That happens while a hub runs,
// a thousand at a time. Let autovacuum run: the inbox has a dead row for each event.
//
// # Rights
//
// Who migrates owns the tables, and the functions run with the owner's rights. A hub needs
//
//	GRANT USAGE ON SCHEMA sse TO app;
//	GRANT SELECT ON sse.version, sse.state, sse.log TO app;
//	GRANT EXECUTE ON FUNCTION sse.number, sse.append, sse.hold, sse.number_seen, sse.retain, sse.renew TO app;
//
// and with Config.ReadOnly only the first two. A transaction that publishes needs
//
//	GRANT USAGE ON SCHEMA sse TO app;
//	GRANT INSERT (topic, key, record) ON sse.inbox TO app;
//
// and one that is used for a Snapshot
//
//	GRANT USAGE ON SCHEMA sse TO app;
//	GRANT SELECT ON sse.state TO app;
//
// # Connections
//
// A Log makes connections of its own, at most eight, and one more for each hub, which waits for
// notifications. They only wake it up: if one is lost, events come at most 100 milliseconds later.
// A transaction that notifies holds up others that do while it commits, so publishers notify at most
// about 20 times a second. Any lost connection is made again; a hub tells of longer trouble in
// hub.Health.
//
// PgBouncer works in each mode, but a Log can take no Snapshot in statement mode. In transaction
// mode no notification comes through it: then the Log looks every 20 milliseconds, unless
// Config.Listen is a direct connection. Open notices a pooler. The pool of the application must
// then not use prepared statements either, or PgBouncer must know them.
//
// A Log with Config.ReadOnly can follow a standby. It looks there every 100 milliseconds, since a
// standby does not notify.
//
// A publication of a hub whose answer was lost fails with an error that matches [hub.ErrUnknown];
// publish again with the same key. The same is so for a Commit that fails because its connection is
// lost: publish with a key, and repeat the transaction.
package pglog
