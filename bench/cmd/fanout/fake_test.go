//go:build linux

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/chi-sse/sse/bench/internal/library"
)

// TestMain is also the main function of the children.
func TestMain(m *testing.M) {
	registerFakes()
	if len(os.Args) == 3 && (os.Args[1] == serverRole || os.Args[1] == loadRole) {
		main()
		return
	}
	os.Exit(m.Run())
}

// fake is a library that does something wrong. It writes to its streams one after the
// other.
type fake struct {
	// send returns what stream i is sent of an event, and whether to end it.
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
		library.Register(library.Library{
			Name: "fake " + name,
			Kind: library.Peer,
			Start: func(ln net.Listener, _ library.Setup) (library.Publish, error) {
				f := &fake{send: send}
				go http.Serve(ln, f) //nolint:errcheck,gosec // until the process ends
				return f.publish, nil
			},
		})
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
