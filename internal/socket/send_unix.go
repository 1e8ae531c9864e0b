//go:build unix && (!linux || 386)

package socket

import "syscall"

func send(fd int, p []byte) (n int, err error) { return syscall.Write(fd, p) }
