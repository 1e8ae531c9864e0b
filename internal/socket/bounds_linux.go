package socket

import (
	"errors"
	"math"
	"os"
	"syscall"
	"time"
	"unsafe"
)

var errUnsupported = errors.ErrUnsupported

// Options that package syscall does not name.
const (
	tcpUserTimeout  = 18
	tcpNotSentLowat = 25
	siocOutQ        = syscall.TIOCOUTQ
)

func limitUnsent(fd int) error {
	return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpNotSentLowat, UnsentLimit))
}

func setUnackedTimeout(fd int, d time.Duration) error {
	ms := int(min(d.Milliseconds(), math.MaxInt32))
	return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpUserTimeout, ms))
}

func unacked(fd int) (int, error) {
	var n int32
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), siocOutQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0, os.NewSyscallError("ioctl", errno)
	}
	return int(n), nil
}
