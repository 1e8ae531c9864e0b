package socket

import (
	"net"
	"os"
	"sync"
	"syscall"
)

// epollSet is the connections of a Watch that the kernel watches. The set asks for the end
// of the peer's stream only, so that what a peer still sends wakes nobody. Over TLS the end
// may be a message. There the first message to come starts a goroutine that reads.
type epollSet[T any] struct {
	mu     sync.Mutex
	poll   *os.File // nil while nothing is watched
	fd     int      // poll's descriptor
	next   uint64   // the token that was given last
	values map[uint64]T
	conns  map[uint64]net.Conn // only those that a message makes a goroutine read from
}

// add watches raw. With messages, it also waits for the first message, and then reads from
// conn. It reports whether the system can do so.
func (w *Watch[T]) add(raw syscall.RawConn, v T, conn net.Conn, messages bool) (token uint64, ok bool) {
	s := &w.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.startLocked() {
		return 0, false
	}
	s.next++ // never a descriptor: the system uses those again
	token = s.next
	s.values[token] = v
	var events uint32 = syscall.EPOLLRDHUP | syscall.EPOLLONESHOT // EPOLLHUP and EPOLLERR always count
	if messages {
		events |= syscall.EPOLLIN
		s.conns[token] = conn
	}
	ok = false
	err := raw.Control(func(fd uintptr) {
		ev := syscall.EpollEvent{
			Events: events,
			Fd:     int32(uint32(token)),
			Pad:    int32(uint32(token >> 32)),
		}
		ok = syscall.EpollCtl(s.fd, syscall.EPOLL_CTL_ADD, int(fd), &ev) == nil
	})
	if err != nil || !ok {
		s.removeLocked(token)
		return 0, false
	}
	return token, true
}

// Remove ends the watch of a connection. The system forgets the connection when it is
// closed. A call of the function that is already under way goes on.
func (w *Watch[T]) Remove(token uint64) {
	w.set.mu.Lock()
	defer w.set.mu.Unlock()
	w.set.removeLocked(token)
}

// startLocked makes the set and starts its goroutine, unless they exist.
func (w *Watch[T]) startLocked() bool {
	s := &w.set
	if s.poll != nil {
		return true
	}
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	_ = syscall.SetNonblock(fd, true) // only then does the runtime wait for the set as it does for a socket
	poll := os.NewFile(uintptr(fd), "sse-watch")
	raw, err := poll.SyscallConn()
	if err != nil {
		_ = poll.Close()
		return false
	}
	s.poll, s.fd = poll, fd
	s.values, s.conns = make(map[uint64]T), make(map[uint64]net.Conn)
	go w.readEvents(raw, fd)
	return true
}

// removeLocked forgets a connection. Without any, it closes the set, which ends readEvents.
func (s *epollSet[T]) removeLocked(token uint64) {
	delete(s.values, token)
	delete(s.conns, token)
	if len(s.values) == 0 && s.poll != nil {
		_ = s.poll.Close()
		s.poll, s.values, s.conns = nil, nil, nil
	}
}

// readEvents calls the function for each peer that leaves, until the set is closed.
func (w *Watch[T]) readEvents(raw syscall.RawConn, set int) {
	events := make([]syscall.EpollEvent, 64)
	for {
		var n int
		err := raw.Read(func(uintptr) bool {
			var err error
			for {
				if n, err = syscall.EpollWait(set, events, 0); err != syscall.EINTR {
					break
				}
			}
			return n != 0 || err != nil
		})
		if err != nil || n < 0 {
			return
		}
		for _, ev := range events[:n] {
			token := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
			w.set.mu.Lock()
			v, ok := w.set.values[token]
			conn := w.set.conns[token]
			w.set.mu.Unlock()
			switch {
			case !ok: // removed since
			case ev.Events&^syscall.EPOLLIN == 0:
				go w.readUntilEnd(conn, v)
			default:
				w.left(v)
			}
		}
	}
}
