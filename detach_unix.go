//go:build unix

package sse

import "syscall"

const canWriteNow = true

// writeNow writes what the system takes of p without waiting. That it took less is
// no error.
func writeNow(fd uintptr, p []byte) (n int, err error) {
	for n < len(p) {
		k, err := send(int(fd), p[n:])
		if k > 0 {
			n += k
		}
		switch err {
		case nil, syscall.EINTR: //nolint:errorlint // a bare errno
		case syscall.EAGAIN:
			return n, nil
		default:
			return n, err
		}
	}
	return n, nil
}
