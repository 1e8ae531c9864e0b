package boltlog

import (
	"os"

	"golang.org/x/sys/unix"
)

// identify returns what tells f from a copy of it: its inode, and when that was made, if the
// file system knows.
func identify(f *os.File) (identity, error) {
	var s unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &s)
	if err != nil {
		return identity{}, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	id := identity{inode: s.Ino}
	if s.Mask&unix.STATX_BTIME != 0 {
		id.born = uint64(s.Btime.Sec)*1e9 + uint64(s.Btime.Nsec)
	}
	return id, nil
}
