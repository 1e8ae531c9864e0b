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

// tornMark is what ends a line that a crash or a full disk has cut off. The line is not
// removed, because nothing in the file may move: each offset that a client has must stay
// valid.
const tornMark = " (cut off here)\n"

// logFile is a file of lines that only grows, and that many readers follow. It stays
// when the program ends, and the next run appends to it.
//
// No other code is needed to broadcast the log. Each reader keeps its own offset, reads
// from the file at its own speed, and waits on a channel that the next append closes.
// There is no list of readers, and no reader has a queue, so a slow or stuck reader costs
// the others nothing.
type logFile struct {
	file *os.File

	mu    sync.Mutex
	torn  bool          // the last write ended in the middle of a line
	size  int64         // bytes in the file
	grown chan struct{} // closed, and replaced, when size changes
}

// openLogFile opens the file at path to append to it. It creates the file and its folder
// if they do not exist.
func openLogFile(path string) (*logFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// Requests can contain secrets, so only the owner may read the file.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &logFile{file: file, grown: make(chan struct{})}
	if err := l.endTornLine(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use %s as the log: %w", path, err), file.Close())
	}
	return l, nil
}

// endTornLine reads the size of the file, and ends its last line if the run before died
// while it wrote that line. It returns an error if the file is not a regular one.
func (l *logFile) endTornLine() error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	l.size = info.Size()
	whole, err := l.atLineStart(l.size)
	if err != nil || whole {
		return err
	}
	l.torn = true
	return l.append("")
}

// append writes line and wakes all readers. If the last line is torn, append ends that
// one first; with an empty line it does nothing else.
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
	// Ask for the size rather than add it up, because another server may be appending
	// to the same file.
	info, statErr := l.file.Stat()
	if statErr == nil {
		l.size = info.Size()
		close(l.grown)
		l.grown = make(chan struct{})
	}
	return errors.Join(err, statErr)
}

// path returns the absolute path of the file.
func (l *logFile) path() string { return l.file.Name() }

// state returns the size of the file, and a channel that is closed as soon as the size
// changes. Both are taken under one lock, so a reader that reads up to size and then
// waits on grown misses no line.
func (l *logFile) state() (size int64, grown <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size, l.grown
}

// atLineStart reports whether a line starts at offset or will start there. A reader can
// resume only at such an offset.
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

// lastLines returns the offset at which the last n whole lines of the file start. It is
// 0 if the file has at most n lines.
func (l *logFile) lastLines(n int) (int64, error) {
	end, _ := l.state()
	buf := make([]byte, 16<<10)
	// This goes backward. The first line end that it finds is the end of the last
	// whole line. Line end n+1 is the end of the line before the last n, so the last
	// n start just after it.
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

func (l *logFile) close() error { return l.file.Close() }
