package main

import (
	"io"
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// readerLeft returns a channel that is closed when nobody can read from w any longer, if w is
// a pipe. Otherwise it is nil. A write would tell too, but a quiet stream has nothing to write.
func readerLeft(w io.Writer) <-chan struct{} {
	file, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if info, err := file.Stat(); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return nil
	}
	left := make(chan struct{})
	go func() {
		// poll always reports an error of the file, which is what a pipe without a reader has.
		poll := struct {
			fd              int32
			events, revents int16
		}{fd: int32(file.Fd())}
		for {
			n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, 0, 0, 0, 0)
			switch {
			case errno == syscall.EINTR:
			case errno != 0:
				return
			case n > 0:
				close(left)
				return
			}
		}
	}()
	return left
}
