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
	solMPTCP        = 284
	mptcpInfo       = 1
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

// progress returns the field snd_una of struct mptcp_info. Package syscall has no function that
// gets that struct, but one for another of the size that the struct has up to that field.
func progress(fd int) (uint64, error) {
	info, err := syscall.GetsockoptICMPv6Filter(fd, solMPTCP, mptcpInfo)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt", err)
	}
	return uint64(info.Data[6])<<32 | uint64(info.Data[7]), nil // on either byte order it changes when snd_una does
}
