//go:build unix && !linux

package pgtest

import "syscall"

// attributes makes a process run as a user, or as this one if uid is negative.
func attributes(uid, gid int) *syscall.SysProcAttr {
	if uid < 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
