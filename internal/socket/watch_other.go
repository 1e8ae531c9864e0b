//go:build !linux

package socket

import (
	"net"
	"syscall"
)

// epollSet is empty: only Linux can tell that the peer of a connection has left.
type epollSet[T any] struct{}

func (*Watch[T]) add(syscall.RawConn, T, net.Conn, bool) (token uint64, ok bool) { return 0, false }

// Remove has no effect. The goroutine that reads from a connection ends when it is closed.
func (*Watch[T]) Remove(uint64) {}
