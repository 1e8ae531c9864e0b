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

// A loop over sockets: the least that a server in Go can do. A goroutine for each
// core owns a part of the connections and writes each frame to each of them; "packed"
// writes all frames that are due at once. Nothing else of a server is here: it reads
// the request's head and forgets about the client.
func init() {
	Register(Library{
		Name:  "socket loop",
		Kind:  Limit,
		Note:  "no HTTP server: a write for each event on each of the raw connections",
		Start: func(ln net.Listener, setup Setup) (Publish, error) { return startLoop(ln, setup, false), nil },
		Stream: func(ln net.Listener, events Source) error {
			accept(ln, func(conn net.Conn) error {
				defer conn.Close()
				if err := answer(conn); err != nil {
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
		Note:  "the same, with all events that are due in one write",
		Start: func(ln net.Listener, setup Setup) (Publish, error) { return startLoop(ln, setup, true), nil },
	})
}

const socketHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"

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

// accept has serve take each connection of ln, and closes those that it fails to.
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

// answer reads the request on conn, and sends the head of the response.
func answer(conn net.Conn) error {
	if _, err := http.ReadRequest(bufio.NewReaderSize(conn, 512)); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if _, err := io.WriteString(conn, socketHead); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	return nil
}

// appendChunk appends m as a chunk of a response.
func appendChunk(dst []byte, m Message) []byte {
	size := len("event: \ndata: \nid: \n\n") + len(m.Name) + len(m.Data) + len(m.ID) // of one line
	dst = append(strconv.AppendInt(dst, int64(size), 16), "\r\n"...)
	return append(appendFrame(dst, m), "\r\n"...)
}

// socketWorker writes to its part of the connections.
type socketWorker struct {
	frames chan []byte
	pack   bool

	mu    sync.Mutex
	conns []socket
}

type socket struct {
	conn net.Conn
	fd   int
}

// add answers the request on conn, and takes it among the worker's connections.
func (w *socketWorker) add(conn net.Conn) error {
	if err := answer(conn); err != nil {
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

// write writes frame to all, and forgets those that fail. Nearly always the socket
// takes it at once; else the runtime's poller waits for it.
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
