// Package natslog keeps the events of hubs in a stream of NATS JetStream, so that many nodes
// are one hub to their clients: what is published on one node reaches the clients of all, and
// a client resumes on any node, also after all of them were restarted. A [Log] is a [hub.Log]
// in a stream. It needs a server of version 2.12 or later. Package embedded runs the server in
// the same program.
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
//		"github.com/nats-io/nats.go"
//		"github.com/nats-io/nats.go/jetstream"
//
//		"github.com/chi-sse/sse"
//		"github.com/chi-sse/sse/hub"
//		"github.com/chi-sse/sse/log/natslog"
//	)
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
//		defer stop()
//		nc, err := nats.Connect("nats://nats1,nats://nats2,nats://nats3", nats.MaxReconnects(-1))
//		if err != nil {
//			log.Fatal(err)
//		}
//		js, err := jetstream.New(nc)
//		if err != nil {
//			log.Fatal(err)
//		}
//		events, err := natslog.Open(ctx, js, natslog.Config{
//			Stream: "chat", Create: &jetstream.StreamConfig{Replicas: 3, MaxAge: 24 * time.Hour},
//		})
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
//		nc.Close()
//	}
//
// Set nats.MaxReconnects(-1): otherwise the connection is closed for good after two minutes
// without a server.
//
// # What it promises
//
// When Append returns nil, the stream has the records, and most of its servers have them. An
// offset is a sequence of the stream. The stream remembers keys for its duplicate_window, which
// is two minutes unless Config.Create says otherwise; the same key in another topic is another
// key.
//
// Several records are one atomic batch, of at most 1,000. A server on its own first writes each
// batch to files that it makes for it, which takes some milliseconds however small the batch is.
// With three replicas, a batch costs little more than a record.
//
// A server writes acknowledged records to the file at once, but makes sure only every two
// minutes that they are on the disk, unless its sync_interval is always. A kill -9 loses none.
// A power loss can lose what only the servers without power have.
//
// The epoch is made of the time when the stream was created and of the entry [EpochKey] of its
// metadata. So a stream that is deleted and made anew has another epoch, and clients are told
// of a gap. If a stream loses records that this Log has seen, the Log changes that entry. It
// cannot know of it if no hub was running at that time: after restoring a stream from a
// backup, set the entry to another value.
//
// Records that the stream has dropped because of its limits, or that were purged, are a gap of
// their clients. So are records that were deleted one by one; since nobody knows their topics
// any longer, the clients of all topics are told.
//
// Old records are read from any server that has the stream. While pages are read one after the
// other, and for three seconds afterwards, the Log has a consumer that sends them ahead: at most
// eight, besides that of each Follow. If max_consumers of the stream does not allow them, reading
// is several times slower.
//
// A stream has no index of events' own ids, so the Log is no [hub.Finder]. With
// hub.Config.OwnIDs, a client whose last event has left the hub's memory is told of a gap.
//
// # The stream
//
// Open checks the settings of the stream, and reports each that does not fit. Those that are
// up to you are max_age, max_bytes and max_msgs, which say when old events are dropped;
// num_replicas; max_msg_size; duplicate_window, of at least 10 seconds; compression;
// placement; deny_delete and deny_purge.
//
// Each topic is a subject: Config.Subject, a dot and the topic, in which each byte but letters,
// digits and -_/:@ is written as a percent sign and two digits, and the empty topic as a percent
// sign. A subject has at most 3,072 bytes. A message that is not a record, or is one of another
// topic, becomes a record of the kind [hub.InvalidRecord] of the topic of its subject. A message
// whose subject is no topic's is left out: no client has missed an event.
//
// # Permissions
//
// A user of the stream events with the subject events must be allowed to subscribe to
// _INBOX.>, or to its own prefix of inboxes, and to publish to
//
//	events.*                            unless Config.ReadOnly is set
//	$JS.API.STREAM.INFO.events
//	$JS.API.STREAM.MSG.GET.events
//	$JS.API.DIRECT.GET.events
//	$JS.API.CONSUMER.CREATE.events.*
//	$JS.API.CONSUMER.MSG.NEXT.events.*
//	$JS.API.CONSUMER.DELETE.events.*
//	$JS.API.STREAM.CREATE.events        if Config.Create is set
//	$JS.API.STREAM.UPDATE.events        to begin another epoch when the stream has lost records
//
// # Trouble
//
// Follow ends as soon as the connection is lost, or within some seconds if the server no
// longer answers, and the hub starts it again; see hub.Health. Append waits for a connection
// and for a leader of the stream until its context ends. A publication whose message was sent
// and whose answer was lost fails with an error that matches [hub.ErrUnknown]; publish again
// with the same key. If the leader of the stream has changed meanwhile, that can fail for as long
// as the duplicate_window: a server that leads again may take the lost publication for one that
// is still under way.
package natslog
