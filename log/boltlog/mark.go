package boltlog

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
)

// The mark file notices that the bolt file is not the one that was open last, but an older
// state of it. It is written after the bolt file, never before. So if it says more than that,
// the bolt file was restored.
//
//   - Opening and closing give both files another random mark. A backup of an earlier session
//     has an earlier one.
//   - Each commit writes the newest offset into the mark file, without syncing it: the
//     operating system keeps it when the process is killed. A backup of the same session has
//     a lower one.
//   - Each block of offsets that is reserved is written and synced before it is used.
//   - The bolt file's inode, and when that was made, tell a copy from it.

// identity is what tells a file from a copy of it. Zero is unknown.
type identity struct{ inode, born uint64 }

// mark is what the mark file says of the bolt file.
type mark struct {
	file     identity
	mark     uint64
	reserved uint64
	last     uint64
}

const (
	markSuffix = ".mark"
	markMagic  = 0x73_73_65_6d_61_72_6b_01 // "ssemark" and a version
	markSize   = 6*8 + 4
)

func (m *mark) encode() []byte {
	b := make([]byte, 0, markSize)
	for _, n := range [...]uint64{markMagic, m.file.inode, m.file.born, m.mark, m.reserved, m.last} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readMark returns what the mark file f says. ok is false if it is new or damaged.
func readMark(f *os.File) (m mark, ok bool) {
	b := make([]byte, markSize+1)
	if n, err := f.ReadAt(b, 0); n != markSize || err != io.EOF {
		return m, false
	}
	b = b[:markSize]
	if binary.BigEndian.Uint32(b[markSize-4:]) != crc32.Checksum(b[:markSize-4], castagnoli) || binary.BigEndian.Uint64(b) != markMagic {
		return m, false
	}
	for i, n := range [...]*uint64{&m.file.inode, &m.file.born, &m.mark, &m.reserved, &m.last} {
		*n = binary.BigEndian.Uint64(b[8+8*i:])
	}
	return m, true
}

// write writes m to the mark file f, durably if sync is set.
func (m *mark) write(f *os.File, sync bool) error {
	if _, err := f.WriteAt(m.encode(), 0); err != nil {
		return err
	}
	if sync {
		return f.Sync()
	}
	return nil
}

// loadMark reads the mark file of the bolt file at path. ok is false if there is none, or it is
// damaged.
func loadMark(path string) (m mark, ok bool) {
	f, err := os.Open(path + markSuffix)
	if err != nil {
		return m, false
	}
	defer f.Close()
	return readMark(f)
}

// isOf reports whether m was written for the file with the identity, and not for a copy of it.
func (m *mark) isOf(file identity) bool {
	return m.file.inode == file.inode && (m.file.born == file.born || m.file.born == 0 || file.born == 0)
}

// misfit says why a bolt file with the state s and the identity is not the one that m was
// written for, or is an older state of it. It returns "" if it is the one.
func (m *mark) misfit(s *state, file identity) string {
	switch {
	case !m.isOf(file):
		return "the file is a copy"
	case m.mark != s.Mark && m.mark != s.OldMark: // OldMark: the process ended between the two files
		return "the file was open elsewhere, or restored from an older state"
	case m.last > s.Last, m.mark == s.Mark && m.reserved > s.Reserved:
		return "the file was restored from an older state"
	}
	return ""
}
