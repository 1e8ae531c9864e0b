//go:build !linux

package sse

import "syscall"

// leavings can tell on Linux only. Elsewhere a goroutine reads from each connection.
var leavings leaveWatch

type leaveWatch struct{}

func (leaveWatch) watch(syscall.RawConn, *ServerSession, bool) (token uint64, ok bool) {
	return 0, false
}
func (leaveWatch) forget(uint64) {}
