//go:build unix

package library

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// A loop over sockets, which is the least that a server in Go can do. Up to two
// goroutines, but no more than there are cores, own a part of the connections each. Such
// a goroutine writes each frame to each of its connections; "packed" puts all frames that
// are waiting into one write. The loop does nothing else that a server does: it reads the
// request's head and then ignores what the client sends.
func init() {
	Register(Library{
		Name:  "socket loop",
		Kind:  Limit,
		Note:  "no HTTP server: one write for each event on each raw connection",
		Start: func(ln net.Listener, setup Setup) (Publish, error) { return startLoop(ln, setup, false), nil },
		Stream: func(ln net.Listener, events Source) error {
			accept(ln, func(conn net.Conn) error {
				defer conn.Close()
				if err := sendHead(conn); err != nil {
					return err
				}
				ctx, leave := context.WithCancel(context.Background())
				go func() {
					_, _ = io.Copy(io.Discard, conn) // until the client leaves
					leave()
				}()
				var chunk []byte
				return events(ctx, func(m Message) error {
					chunk = appendChunk(chunk[:0], m)
					_, err := conn.Write(chunk)
					return err
				})
			})
			return nil
		},
	})
	Register(Library{
		Name:  "socket loop, packed",
		Kind:  Limit,
		Note:  "the same, but one write carries all events that are waiting",
		Start: func(ln net.Listener, setup Setup) (Publish, error) { return startLoop(ln, setup, true), nil },
	})
}

const socketHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"

// startLoop serves ln by the loop and returns a function that publishes. If pack is true,
// one write carries all frames that are waiting.
func startLoop(ln net.Listener, setup Setup, pack bool) Publish {
	workers := make([]*socketWorker, min(2, runtime.NumCPU()))
	for i := range workers {
		workers[i] = &socketWorker{frames: make(chan []byte, max(64, setup.Backlog)), pack: pack}
		go workers[i].run()
	}
	var next atomic.Uint32
	accept(ln, func(conn net.Conn) error {
		return workers[int(next.Add(1))%len(workers)].add(conn)
	})
	return func(m Message) error {
		chunk := appendChunk(nil, m)
		for _, w := range workers {
			w.frames <- chunk
		}
		return nil
	}
}

// accept calls serve for each connection of ln, in a goroutine each, and closes the
// connection if serve fails.
func accept(ln net.Listener, serve func(net.Conn) error) {
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				log.Print(err)
				os.Exit(1)
			}
			go func() {
				if err := serve(conn); err != nil {
					_ = conn.Close() // the client has left
				}
			}()
		}
	}()
}

// sendHead reads the request on conn and sends the head of the response. It returns an
// error if either fails.
func sendHead(conn net.Conn) error {
	if _, err := http.ReadRequest(bufio.NewReaderSize(conn, 512)); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if _, err := io.WriteString(conn, socketHead); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	return nil
}

// appendChunk appends m as one chunk of a response to dst and returns the extended slice.
// The data of m must be one line.
func appendChunk(dst []byte, m Message) []byte {
	size := len("event: \ndata: \nid: \n\n") + len(m.Name) + len(m.Data) + len(m.ID)
	dst = append(strconv.AppendInt(dst, int64(size), 16), "\r\n"...)
	return append(appendFrame(dst, m), "\r\n"...)
}

// socketWorker is a goroutine that writes to its part of the connections.
type socketWorker struct {
	frames chan []byte // what to write to each connection
	pack   bool        // write all waiting frames at once

	mu    sync.Mutex
	conns []socket
}

// socket is a connection and its descriptor.
type socket struct {
	conn net.Conn
	fd   int
}

// add sends the head of the response on conn and adds conn to the worker's connections.
func (w *socketWorker) add(conn net.Conn) error {
	if err := sendHead(conn); err != nil {
		return err
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	s := socket{conn: conn}
	if err := raw.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, s)
	return nil
}

// run writes the frames that arrive to the worker's connections. It never returns.
func (w *socketWorker) run() {
	var packed []byte
	for frame := range w.frames {
		if w.pack {
			packed = append(packed[:0], frame...)
			for n := len(w.frames); n > 0; n-- {
				packed = append(packed, <-w.frames...)
			}
			frame = packed
		}
		w.write(frame)
	}
}

// write writes frame to all of the worker's connections. It closes and removes those on
// which the write fails. Nearly always the socket accepts the whole frame at once;
// otherwise the write of the rest waits in the runtime's poller.
func (w *socketWorker) write(frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.conns[:0]
	for _, s := range w.conns {
		n, err := syscall.Write(s.fd, frame)
		if err == syscall.EAGAIN || err == syscall.EINTR || err == nil && n < len(frame) { //nolint:errorlint // a bare errno
			_, err = s.conn.Write(frame[max(0, n):])
		}
		if err != nil {
			_ = s.conn.Close() // the client has left
			continue
		}
		kept = append(kept, s)
	}
	clear(w.conns[len(kept):])
	w.conns = kept
}
