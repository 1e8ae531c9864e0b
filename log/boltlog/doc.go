// Package boltlog keeps the events of a hub in one file, so that clients resume without a gap
// after a restart, a deploy or a crash. A [Log] is a [hub.Log] in a file of go.etcd.io/bbolt.
//
// This program is a chat whose history outlives it. Publish with
// curl -d hello localhost:8080/chat, and read with curl -N localhost:8080/chat.
//
//	package main
//
//	import (
//		"context"
//		"errors"
//		"io"
//		"log"
//		"net/http"
//		"os/signal"
//		"syscall"
//		"time"
//
//		"github.com/go-chi/chi/v5"
//
//		"github.com/chi-sse/sse"
//		"github.com/chi-sse/sse/hub"
//		"github.com/chi-sse/sse/log/boltlog"
//	)
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
//		defer stop()
//		events, err := boltlog.Open("chat.db", boltlog.Config{MaxAge: 24 * time.Hour})
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
//		err = sse.ListenAndServe(ctx, &http.Server{Addr: "localhost:8080"}, r, sse.WithHubs(h))
//		if err := errors.Join(err, events.Close()); err != nil {
//			log.Print(err)
//		}
//	}
//
// # What it promises
//
// When Append returns nil, the records are on the disk: a kill -9 cannot lose them, nor can a
// power loss if the file system and the disk keep what they say is synced. Appends that run
// at the same time share one transaction.
//
// An offset is never used twice. Blocks of offsets are reserved in the file before they are
// used, so after a crash some offsets are skipped. After [Log.Close] none are.
//
// Open refuses a damaged file with a [*CorruptError], and does not change it. A file that has
// been cut is damaged, even if nothing is left of it. (A part of the file may be room for later.
// If only that has been cut, nothing is lost, and Open goes on.) If only single records are
// damaged, they become records of the kind [hub.InvalidRecord], and clients are told of a gap.
//
// # Files
//
// Next to the file, Open makes a small one with the same name and the suffix ".mark". It says
// which file it belongs to and how far that has got. If it does not fit, the file was
// restored from a backup, copied, or replaced; then the Log keeps its records but begins
// another epoch, and clients are told of a gap instead of missing events in silence. A
// restored snapshot of a whole volume brings back both files, so the two fit again. If you
// restore one, delete the mark file. Restore a backup only while no process has the file open:
// a Log whose file is replaced fails with a [*MovedError].
//
// One process can have the file open at a time. Several hubs of that process may share the
// Log. The file does not shrink. It uses the room of the events that it has dropped for new
// ones.
package boltlog
