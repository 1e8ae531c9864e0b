// Package redislog keeps the events of hubs in a stream of Redis or Valkey, so that many nodes
// are one hub to their clients: what is published on one node reaches the clients of all, and a
// client resumes on any node, also after all of them were restarted. A [Log] is a [hub.Log] in a
// stream. It needs Redis 7 or later, or Valkey: a single server, one with replicas and Sentinel,
// or a Cluster.
//
// This program is a chat. Start it on as many machines as you like.
//
//	package main
//
//	import (
//		"context"
//		"io"
//		"log"
//		"net/http"
//		"os/signal"
//		"syscall"
//		"time"
//
//		"github.com/go-chi/chi/v5"
//		"github.com/redis/go-redis/v9"
//
//		"github.com/chi-sse/sse"
//		"github.com/chi-sse/sse/hub"
//		"github.com/chi-sse/sse/log/redislog"
//	)
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
//		defer stop()
//		client := redis.NewClient(&redis.Options{Addr: "redis:6379"})
//		events, err := redislog.Open(ctx, client, redislog.Config{Name: "chat", MaxAge: 24 * time.Hour})
//		if err != nil {
//			log.Fatal(err)
//		}
//		h, err := hub.Open(ctx, hub.Config{Log: events})
//		if err != nil {
//			log.Fatal(err)
//		}
//		r := sse.Install(chi.NewRouter(), sse.Config{})
//		r.SSE("/chat", func(s *sse.ServerSession) error {
//			return h.Serve(s, hub.Subscription{Topics: []string{"chat"}, Start: hub.Beginning})
//		})
//		r.Post("/chat", func(w http.ResponseWriter, req *http.Request) {
//			text, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 4096))
//			if err == nil {
//				_, err = h.Publish(req.Context(), "chat", sse.Event{Data: string(text)})
//			}
//			if err != nil {
//				http.Error(w, err.Error(), http.StatusServiceUnavailable)
//			}
//		})
//		server := &http.Server{Addr: ":8080", Handler: r}
//		go server.ListenAndServe()
//		<-ctx.Done()
//		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
//		defer cancel()
//		_ = h.Shutdown(end)
//		_ = server.Shutdown(end)
//		_ = events.Close()
//		_ = client.Close()
//	}
//
// For Sentinel, use redis.NewFailoverClient, and for a Cluster, redis.NewClusterClient. All keys
// of a log are in one slot, so a log is as fast as one master; several logs can be on several.
//
// # What it promises
//
// When Append returns nil, the master has the records in its memory. Whether they survive the
// master is up to its settings: with appendfsync always, they are on its disk; with everysec, a
// power loss, and even a kill -9, can lose the last two seconds; replicas get them a moment later,
// unless Config.Replicas makes Append wait for them. What the server loses, clients are told of as a gap, as the next
// section says.
//
// Several records are appended by one script, all or none. What is published at the same time
// goes to the server together, so many publishers cost little more than one.
//
// An offset is the id of an entry: the server's clock in milliseconds, counted from the beginning
// of the epoch, times 1,048,576, plus the number within the millisecond. If the clock is set
// back, ids count on from where they were. A record's Time is that of its id.
//
// The same key in the same topic is one event for Config.KeyWindow, unless more than
// Config.MaxKeys are used in that time.
//
// # Epochs
//
// Replication is asynchronous, so a failover can lose what the master had acknowledged, and so
// can a restart. Nobody can know afterwards what a client had got before. So the log notes the
// server that it is on, and each script compares it with the server that runs it. Another epoch
// begins, and each client is told of one gap, when
//
//   - another server has taken its place: a promoted replica, or the target of a slot that was
//     moved, also if it was done without a loss;
//   - the server was restarted, also with all of its data;
//   - the server has been the replica of another one meanwhile;
//   - the stream, or the hash with the epoch, is gone: FLUSHALL, DEL, or an eviction;
//   - the stream ends before what this node has seen of it.
//
// The first node that comes to the server changes the epoch, in a script, whether it has seen what
// was lost or not. What is still in the stream stays, and keys stay known. After a network was
// split, what was published to a master that is no longer one is of the old epoch.
//
// A new replica, a lost connection, a rewritten file, or SCRIPT FLUSH begin no epoch.
//
// What it cannot know: that keys were put back from a copy while the server was running and no hub
// had seen later records of the stream. Delete {name}:meta then.
//
// # The keys
//
// A log with the name chat has these keys. Only hubs may write to them.
//
//	{chat}:events    the stream; each entry has the field e, with a record
//	{chat}:meta      a hash with the epoch and the counts
//	{chat}:keys      a hash of keys that are remembered; {chat}:oldkeys has older ones
//	{chat}:marks     a list of places where the stream can be cut
//	{chat}:orders    a stream of the hubs' orders, so that hub.Open need not read all events
//
// Appends drop the oldest events beyond Config.MaxEvents, MaxBytes and MaxAge. A client that has
// the last event that was dropped has missed nothing. If somebody else has used XTRIM, even that
// client is told of a gap. After an XDEL, clients that have not come as far are told of a gap,
// perhaps several times, since the server says only what the newest deleted event was. An entry
// without the field e is left out.
//
// # What it costs
//
// A node has one connection for its follower, which waits for new entries, however many members it
// has; up to two for appends; and as many as the client's PoolSize allows for reading old events.
//
// A stream has no index of topics. To read old events of one topic, all events after the client's
// last one are read, and those of other topics are left out: about 250,000 a second. hub.Open does
// not read them. The Log is no [hub.Finder]: with hub.Config.OwnIDs, a client whose last event has
// left the hub's memory is told of a gap.
//
// An Append takes at most 1,000 records with 64 MiB.
//
// # Memory
//
// The stream is in the server's memory: about its bytes plus 20 for each event. With maxmemory,
// the policy must be noeviction or a volatile one; Open refuses a server that may evict the log.
// When there is no memory left, Append fails with a [*MemoryError], and nothing was appended.
//
// # Permissions
//
// A node that publishes, one that only reads, and one that reads and may begin an epoch, which a
// hub without publishers needs after a restart of the server; see [UnsettledError]:
//
//	ACL SETUSER publisher on >secret ~{chat}:* +evalsha +evalsha_ro +script|load +multi +exec +info +time +wait +hmget +hget +hset +hlen +del +unlink +exists +rename +rpush +lpop +lindex +xadd +xtrim +xread +xrange +xinfo|stream
//	ACL SETUSER reader on >secret %R~{chat}:* +evalsha_ro +script|load +multi +exec +info +hmget +xread +xrange +xinfo|stream
//	ACL SETUSER observer on >secret ~{chat}:* +evalsha +evalsha_ro +script|load +multi +exec +info +hmget +hset +xread +xrange +xinfo|stream
//
// A client of a Cluster also needs +cluster|slots and +cluster|shards.
//
// # Trouble
//
// Follow ends when its connection is lost, or within some seconds if the server no longer answers,
// and the hub starts it again; see hub.Health.
//
//   - No server, LOADING, READONLY, a missing replica (NOREPLICAS), a slot that moves: Append waits
//     and tries again until its context ends; then nothing was appended.
//   - The connection is lost, or the server does not answer within three seconds, while an append is
//     under way: an error that matches [hub.ErrUnknown]. Publish again with the same key.
//   - Fewer replicas than Config.Replicas have it in time: a [*ReplicasError], which matches
//     [hub.ErrUnknown] too: clients get the record, unless the server fails before a replica has it.
//   - The user may not append: an error that matches [hub.ErrReadOnly].
//
// The package's client writes to its own log when it cannot connect; see redis.SetLogger.
package redislog
