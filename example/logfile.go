package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// tornMark finishes a line that a crash, or a full disk, cut off. The line is
// finished and not taken away: what a file holds stays where it is, so every
// offset ever given to a client stays true.
const tornMark = " (cut off here)\n"

// logFile is an append-only file of lines that many readers follow.
//
// It is the whole of the broadcast: a reader keeps nothing here but an offset of
// its own, reads from the file when it likes, and waits on a channel that the
// next append closes. There is no list of readers and no queue for any of them,
// so a reader that is slow, or stuck, costs the others nothing.
type logFile struct {
	file *os.File

	mu    sync.Mutex
	torn  bool          // the last write ended in the middle of a line
	size  int64         // bytes in the file
	grown chan struct{} // closed, and replaced, when size changes
}

// openLogFile opens the file at path to append to it, and makes it, with its
// folder, if there is none.
func openLogFile(path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// Requests can hold secrets, so the file is its owner's alone.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &logFile{file: file, grown: make(chan struct{})}
	if err := l.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), file.Close())
	}
	return l, nil
}

// recover takes the file as the last run left it, and finishes its last line if
// that run died while it wrote it.
func (l *logFile) recover() error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	l.size = info.Size()
	whole, err := l.atLineStart(l.size)
	if err != nil || whole {
		return err
	}
	l.torn = true
	return l.append("")
}

// append writes one line and wakes all readers. An empty line only finishes a
// torn one.
func (l *logFile) append(line string) error {
	l.mu.Lock()
	defer l.mu.Unlock()

	text := make([]byte, 0, len(tornMark)+len(line)+1)
	if l.torn {
		text = append(text, tornMark...)
	}
	if line != "" {
		text = append(text, line...)
		text = append(text, '\n')
	}

	n, err := l.file.Write(text)
	if n > 0 {
		l.torn = text[n-1] != '\n'
	}
	// The size is asked for, not added up: another server may be appending to
	// the same file.
	info, statErr := l.file.Stat()
	if statErr == nil {
		l.size = info.Size()
		close(l.grown)
		l.grown = make(chan struct{})
	}
	return errors.Join(err, statErr)
}

// state returns the size of the file and a channel that is closed when that size
// is no longer true. Both are of the same moment, so a reader that reads up to
// size and then waits misses no line.
func (l *logFile) state() (size int64, grown <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size, l.grown
}

// atLineStart tells whether a line starts, or will start, at offset: a place
// where a reader can go on from.
func (l *logFile) atLineStart(offset int64) (bool, error) {
	if offset == 0 {
		return true, nil
	}
	var before [1]byte
	if _, err := l.file.ReadAt(before[:], offset-1); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return before[0] == '\n', nil
}

// lastLines returns the offset at which the last n whole lines of the file start.
func (l *logFile) lastLines(n int) (int64, error) {
	end, _ := l.state()
	buf := make([]byte, 16<<10)
	// Going backwards, the first line end met closes the last whole line, and
	// the one after n of them closes the line before those asked for.
	for ends := 0; end > 0; {
		start := max(0, end-int64(len(buf)))
		read, err := l.file.ReadAt(buf[:end-start], start)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		chunk := buf[:read]
		for len(chunk) > 0 {
			i := bytes.LastIndexByte(chunk, '\n')
			if i < 0 {
				break
			}
			if ends++; ends > n {
				return start + int64(i) + 1, nil
			}
			chunk = chunk[:i]
		}
		end = start
	}
	return 0, nil
}

func (l *logFile) close() error {
	return l.file.Close()
}
