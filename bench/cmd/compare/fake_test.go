//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/stream"
	"github.com/chi-sse/sse/event"
)

// TestMain runs the tests. In a child, it is the child's main function.
func TestMain(m *testing.M) {
	registerFakes()
	if len(os.Args) == 3 && (os.Args[1] == serverRole || os.Args[1] == loadRole) {
		main()
		return
	}
	os.Exit(m.Run())
}

// fake is a library that can do something wrong. It writes to its streams one after the
// other.
type fake struct {
	// send returns what to send of event seq to a stream, and whether to end the stream.
	send func(stream, seq int, frame string) (text string, end bool)

	mu      sync.Mutex
	streams []*fakeStream
	seq     int
}

type fakeStream struct {
	w    http.ResponseWriter
	done chan struct{}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	s := &fakeStream{w, make(chan struct{})}
	f.mu.Lock()
	f.streams = append(f.streams, s)
	f.mu.Unlock()
	select {
	case <-s.done:
	case <-r.Context().Done():
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, other := range f.streams {
			if other == s {
				f.streams[i] = nil
			}
		}
	}
}

func (f *fake) publish(m library.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", m.ID, m.Name, m.Data)
	for i, s := range f.streams {
		if s == nil {
			continue
		}
		text, end := f.send(i, f.seq, frame)
		_, _ = io.WriteString(s.w, text) // the client may have left
		s.w.(http.Flusher).Flush()
		if end {
			close(s.done)
			f.streams[i] = nil
		}
	}
	f.seq++
	return nil
}

// registerFakes registers one library for each kind of mistake, and one without mistakes.
func registerFakes() {
	for name, send := range map[string]func(stream, seq int, frame string) (string, bool){
		"right": func(_, _ int, frame string) (string, bool) { return frame, false },
		"drops": func(stream, seq int, frame string) (string, bool) {
			if stream == 3 && seq%10 == 5 {
				return "", false
			}
			return frame, false
		},
		"repeats": func(stream, seq int, frame string) (string, bool) {
			if stream == 3 && seq%10 == 5 {
				return frame + frame, false
			}
			return frame, false
		},
		"alters": func(_, seq int, frame string) (string, bool) {
			if seq == 40 {
				return strings.Replace(frame, "abc", "abd", 1), false
			}
			return frame, false
		},
		"swaps": func(_, seq int, frame string) (string, bool) {
			if seq == 40 {
				return "", false
			}
			return frame, false
		},
		"closes": func(stream, seq int, frame string) (string, bool) { return frame, stream == 3 && seq == 30 },
	} {
		lib := library.Library{
			Name: "fake " + name,
			Kind: library.Peer,
			Start: func(ln net.Listener, _ library.Setup) (library.Publish, error) {
				f := &fake{send: send}
				go http.Serve(ln, f) //nolint:errcheck,gosec // until the process ends
				return f.publish, nil
			},
		}
		if name == "right" || name == "alters" {
			fakeTheRest(&lib, name == "alters")
		}
		library.Register(lib)
	}
	library.Register(library.Library{
		Name: "fake hangs",
		Kind: library.Peer,
		Start: func(net.Listener, library.Setup) (library.Publish, error) {
			return func(library.Message) error { select {} }, nil
		},
	})
	library.Register(library.Library{
		Name: "fake dies",
		Kind: library.Peer,
		Start: func(net.Listener, library.Setup) (library.Publish, error) {
			return func(library.Message) error { panic("of its own accord") }, nil
		},
	})
}

// fakeTheRest gives lib all disciplines but fan-out. They are right, except for event 40 if
// alters is true.
func fakeTheRest(lib *library.Library, alters bool) {
	alter := func(m library.Message) library.Message {
		if alters && stream.Seq(m.Data) == 40 {
			m.Data = strings.Replace(m.Data, "abc", "abd", 1)
		}
		return m
	}
	frame := func(m library.Message) string {
		m = alter(m)
		return fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", m.ID, m.Name, strings.ReplaceAll(m.Data, "\n", "\ndata: "))
	}
	lib.NewEncode = func() library.Encode {
		return func(m library.Message) ([]byte, error) { return []byte(frame(m)), nil }
	}
	lib.Decode = func(r io.Reader, sink library.Sink) error {
		for ev, err := range event.NewDecoder(r).All() {
			if err != nil {
				return err
			}
			m := alter(library.Message{ID: ev.ID, Name: ev.Name, Data: ev.Data})
			if !sink.RawEvent([]byte(m.ID), []byte(m.Name), []byte(m.Data)) {
				return nil
			}
		}
		return nil
	}
	lib.Read = func(_ context.Context, url string, sink library.Sink) error {
		resp, err := http.Get(url) //nolint:gosec // of the test's own server
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return lib.Decode(resp.Body, sink)
	}
	lib.Stream = func(ln net.Listener, source library.Source) error {
		h := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = source(r.Context(), func(m library.Message) error {
				_, err := io.WriteString(w, frame(m))
				w.(http.Flusher).Flush()
				return err
			})
		}
		go http.Serve(ln, http.HandlerFunc(h)) //nolint:errcheck,gosec // until the process ends
		return nil
	}
}
