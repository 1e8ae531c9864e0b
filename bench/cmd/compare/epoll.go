//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chi-sse/sse/bench/internal/stream"
)

// generator is the load generator: one thread that reads all subscribers' streams by epoll.
// It allocates nothing per event.
type generator struct {
	epoll  int // its descriptor
	conns  []subscriber
	slow   []int // descriptors of clients that never read
	open   int   // streams that are open
	events []unix.EpollEvent
	buf    []byte
	seqs   []int
}

// subscriber is one stream.
type subscriber struct {
	fd    int // -1 if the stream is closed
	scan  stream.Scanner
	tally stream.Tally
	seen  bool // the stream has received an event
}

// listener receives what happens on the streams.
type listener interface {
	arrived(s *subscriber, seq int, at time.Duration) // event seq came on s
	closed(s *subscriber, why error)                  // s was closed
	told(end int)                                     // the server says that end is the event after the last
	idle() error                                      // everything that had come is read
	finished() bool                                   // listen must return
}

// newGenerator returns a generator that watches only the link to the server.
func newGenerator() (*generator, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	g := &generator{epoll: epoll, events: make([]unix.EpollEvent, 1024), buf: make([]byte, 256<<10), seqs: make([]int, 0, 4096)}
	if err := g.watch(linkFD, -1); err != nil {
		return nil, err
	}
	return g, nil
}

// watch adds a descriptor to the epoll set. index is the subscriber's index in conns, or -1
// for the link.
func (g *generator) watch(fd, index int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(index)} // the index, with which read finds the subscriber
	if err := unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

type connectArgs struct {
	Addr, Target string
	N            int
	Slow         bool // add one client that never reads
}

// connect opens the streams and sends their requests. It does not wait for responses.
func (g *generator) connect(args connectArgs) (struct{}, error) {
	addr, err := netip.ParseAddrPort(args.Addr)
	if err != nil {
		return struct{}{}, err
	}
	request := []byte("GET " + args.Target + " HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
	if args.Slow {
		fd, err := dial(addr, true)
		if err != nil {
			return struct{}{}, err
		}
		if _, err := unix.Write(fd, request); err != nil {
			return struct{}{}, fmt.Errorf("request: %w", err)
		}
		g.slow = append(g.slow, fd)
	}
	g.conns = make([]subscriber, args.N)
	for i := range g.conns {
		fd, err := dial(addr, false)
		if err != nil {
			return struct{}{}, err
		}
		g.conns[i].fd = fd
		g.open++
		if _, err := unix.Write(fd, request); err != nil {
			return struct{}{}, fmt.Errorf("request: %w", err)
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return struct{}{}, fmt.Errorf("socket: %w", err)
		}
		if err := g.watch(fd, i); err != nil {
			return struct{}{}, err
		}
		if i%256 == 255 {
			time.Sleep(5 * time.Millisecond) // the server's queue of new connections is short
		}
	}
	return struct{}{}, nil
}

// dial returns the descriptor of a socket that is connected to addr. If slow is true, the
// socket has a receive buffer of 4 KiB and segments of 1,400 bytes, like one across a
// network. Without that, the server could send megabytes over loopback before it noticed
// that the client does not read.
func dial(addr netip.AddrPort, slow bool) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fd, fmt.Errorf("socket: %w", err)
	}
	if slow {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1400)
		}
	}
	if err == nil { // so that a closed connection does not keep its port in TIME_WAIT
		err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
	}
	if err != nil {
		return fd, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// disconnect closes all streams.
func (g *generator) disconnect(struct{}) (struct{}, error) {
	for i := range g.conns {
		g.drop(&g.conns[i])
	}
	g.conns = nil
	return struct{}{}, nil
}

// drop closes a stream.
func (g *generator) drop(s *subscriber) {
	if s.fd >= 0 {
		_ = unix.Close(s.fd) // this also removes it from the epoll set
		s.fd = -1
		g.open--
	}
}

// listen reads from the streams and calls l until l.finished returns true.
func (g *generator) listen(l listener) error {
	for !l.finished() {
		n, err := unix.EpollWait(g.epoll, g.events, 0)
		if n == 0 && err == nil {
			if err := l.idle(); err != nil {
				return err
			}
			n, err = unix.EpollWait(g.epoll, g.events, 50)
		}
		if err == unix.EINTR {
			continue
		} else if err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, ev := range g.events[:n] {
			if ev.Fd >= 0 {
				g.read(&g.conns[ev.Fd], l)
				continue
			}
			end, err := hearServer()
			if err != nil {
				return err
			}
			l.told(end)
		}
	}
	return nil
}

// read reads what has come on one stream and passes it to l.
func (g *generator) read(s *subscriber, l listener) {
	for s.fd >= 0 {
		n, err := unix.Read(s.fd, g.buf)
		if err == unix.EAGAIN || err == unix.EINTR { //nolint:errorlint // a bare errno
			return
		}
		at := now()
		if err == nil {
			g.seqs, err = s.scan.Scan(g.buf[:max(0, n)], g.seqs[:0])
			for _, seq := range g.seqs {
				s.seen = true
				l.arrived(s, seq, at)
			}
		}
		if err == nil && n == 0 {
			err = errClosed
		}
		if err != nil {
			g.drop(s)
			l.closed(s, err)
		}
		if n < len(g.buf) {
			return
		}
	}
}
