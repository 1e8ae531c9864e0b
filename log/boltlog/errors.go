package boltlog

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// ErrClosed is matched by the error of every method after [Log.Close].
var ErrClosed = errors.New("boltlog: the log is closed")

// LockedError reports that another process, or another Log of this one, has the file open.
type LockedError struct{ Path string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("boltlog: %s is open elsewhere, and may be open once; close it there, or raise Config.LockTimeout if that is about to happen", e.Path)
}

// FormatError reports that a file is not one that this version of the package can open. The
// file has not been changed.
type FormatError struct {
	Path    string
	Version uint64 // of the file's format; 0 if the file is not one of this package
}

func (e *FormatError) Error() string {
	if e.Version == 0 {
		return fmt.Sprintf("boltlog: %s is not a log; name a log's file, or one that does not exist yet", e.Path)
	}
	return fmt.Sprintf("boltlog: %s has the format %d, and this program knows %d; open it with a program that knows its format", e.Path, e.Version, formatVersion)
}

// CorruptError reports that a file is damaged. The file has not been changed. If it cannot be
// restored, move it away: Open then makes a new one, and clients are told of a gap.
type CorruptError struct {
	Path   string
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("boltlog: %s is damaged: %s; restore it from a backup, or move it away for a new one to be made", e.Path, e.Reason)
}

// FullError reports that there is no room for records: the disk is full, or a quota or a
// limit on file sizes is reached. They have not been appended. The Log can still be read, and
// takes records again when there is room.
type FullError struct {
	Path string
	Err  error // of the operating system
}

func (e *FullError) Error() string {
	return fmt.Sprintf("boltlog: there is no room for %s to grow; make room, and append again: %v", e.Path, e.Err)
}

// Unwrap returns the error of the operating system.
func (e *FullError) Unwrap() error { return e.Err }

// MovedError reports that the file is no longer what was opened: it was deleted, moved or
// replaced, or another file was written over it. What would be appended to it would be lost for
// the next process, so the Log takes no more records. Close it, and open it again.
type MovedError struct{ Path string }

func (e *MovedError) Error() string {
	return fmt.Sprintf("boltlog: %s has been deleted, moved or replaced while it was open; close the log and open it again", e.Path)
}

// fullErrors are what systems say when a file cannot grow.
var fullErrors = [...]syscall.Errno{syscall.ENOSPC, syscall.EFBIG, errQuota}

// asFull returns a FullError if err says that a file cannot grow, and err otherwise. bbolt
// passes on some errors only as text.
func asFull(path string, err error) error {
	for _, full := range fullErrors {
		if errors.Is(err, full) {
			return &FullError{path, err}
		}
		if strings.HasSuffix(err.Error(), full.Error()) {
			return &FullError{path, fmt.Errorf("%w (%w)", err, full)}
		}
	}
	return err
}
