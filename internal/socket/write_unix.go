//go:build unix

package socket

import "syscall"

const canWriteNow = true

// writeNow writes as much of p as the system takes without waiting. To take less than all
// of p is not an error.
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
