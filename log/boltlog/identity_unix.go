//go:build unix && !linux

package boltlog

import (
	"os"
	"syscall"
)

// identify returns what tells f from a copy of it: its inode.
func identify(f *os.File) (identity, error) {
	info, err := f.Stat()
	if err != nil {
		return identity{}, err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return identity{inode: uint64(s.Ino)}, nil
	}
	return identity{}, nil
}
