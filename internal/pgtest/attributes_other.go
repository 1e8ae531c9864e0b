//go:build !unix

package pgtest

import "syscall"

// attributes returns nil: a process runs as this user.
func attributes(int, int) *syscall.SysProcAttr { return nil }
