package sse

import (
	"os"
	"sync"
	"syscall"
)

// leavings tells detached sessions that their clients have left: one epoll set, and
// one goroutine while there is any such session, for all of the process. It asks for
// the end of the client's stream only, so what a client may still send wakes nobody.
// But over TLS the end may be a message, so that the first that comes has to be read.
var leavings leaveWatch

type leaveWatch struct {
	mu       sync.Mutex
	poll     *os.File // nil while there are no sessions
	fd       int      // poll's
	next     uint64
	sessions map[uint64]*ServerSession
}

// watch ends s when its client leaves, until the token is forgotten. It reports whether
// it can.
func (l *leaveWatch) watch(conn syscall.RawConn, s *ServerSession, messages bool) (token uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.startLocked() {
		return 0, false
	}
	l.next++ // a token of its own: descriptors are used again
	token = l.next
	l.sessions[token] = s
	var events uint32 = syscall.EPOLLRDHUP | syscall.EPOLLONESHOT // and EPOLLHUP and EPOLLERR, always
	if messages {
		events |= syscall.EPOLLIN
	}
	ok = false
	err := conn.Control(func(fd uintptr) {
		ev := syscall.EpollEvent{
			Events: events,
			Fd:     int32(uint32(token)),
			Pad:    int32(uint32(token >> 32)),
		}
		ok = syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_ADD, int(fd), &ev) == nil
	})
	if err != nil || !ok {
		l.forgetLocked(token)
		return 0, false
	}
	return token, true
}

// forget ends a watch. The system forgets the connection when it is closed.
func (l *leaveWatch) forget(token uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetLocked(token)
}

func (l *leaveWatch) startLocked() bool {
	if l.poll != nil {
		return true
	}
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	_ = syscall.SetNonblock(fd, true) // what lets the runtime wait for an epoll set like for a socket
	poll := os.NewFile(uintptr(fd), "sse-leavings")
	raw, err := poll.SyscallConn()
	if err != nil {
		_ = poll.Close()
		return false
	}
	l.poll, l.fd, l.sessions = poll, fd, make(map[uint64]*ServerSession)
	go l.run(raw, fd)
	return true
}

func (l *leaveWatch) forgetLocked(token uint64) {
	delete(l.sessions, token)
	if len(l.sessions) == 0 && l.poll != nil {
		_ = l.poll.Close() // which ends run
		l.poll, l.sessions = nil, nil
	}
}

// run reads the set until it is closed.
func (l *leaveWatch) run(raw syscall.RawConn, set int) {
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
			l.mu.Lock()
			s := l.sessions[token]
			l.mu.Unlock()
			switch {
			case s == nil:
			case ev.Events&^syscall.EPOLLIN == 0:
				go s.readUntilEnd(s.detached.Load().conn)
			default:
				s.leave()
			}
		}
	}
}
