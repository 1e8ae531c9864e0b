package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/chi-sse/sse"
)

const (
	// tailLines is what a client gets that comes without a Last-Event-ID.
	tailLines = 50

	// maxLine bounds, in bytes, what is shown of a line. The access log writes
	// none as long, but the file may be any.
	maxLine = 16 << 10
)

// tail serves a log file as a stream: one event for each line, whose id is the
// offset of the byte after that line. An id is therefore all there is to know
// about where a client stands, and it stays true over a restart of the server: a
// client that reconnects goes on with the next line, and gets none twice.
//
// A client that names no id starts with the last lines of the file. One whose id
// is no place in this file gets the same, after an event "reset" that says why.
func (l *logFile) tail(s *sse.ServerSession) error {
	at, err := l.resume(s)
	if err != nil {
		return err
	}
	c := newCursor(l, at)
	for {
		size, grown := l.state()
		// A place that was good need not stay so: somebody may cut the file.
		if why, err := l.wrong(c.offset, size); err != nil {
			return err
		} else if why != "" {
			if c.offset, err = l.restart(s, why); err != nil {
				return err
			}
		}
		for line, err := range c.lines(size) {
			if err != nil {
				return err
			}
			if err := s.Send(sse.Event{ID: formatOffset(c.offset), Data: line}); err != nil {
				return err
			}
		}
		select {
		case <-grown:
		case <-s.Done():
			return nil
		}
	}
}

// resume opens the stream and returns the offset from which it is to go on.
func (l *logFile) resume(s *sse.ServerSession) (int64, error) {
	id := resumeID(s)
	if id == "" {
		at, err := l.lastLines(tailLines)
		if err != nil {
			return 0, err
		}
		// An event of an id alone is silent, but moves the client's last id. If
		// the connection breaks before the first line comes, the client can
		// still say where it was.
		return at, s.Send(sse.Event{ID: formatOffset(at)})
	}

	offset, err := strconv.ParseUint(id, 10, 63)
	if err != nil {
		return l.restart(s, fmt.Sprintf("%.40q is not an offset", id))
	}
	size, _ := l.state()
	why, err := l.wrong(int64(offset), size)
	switch {
	case err != nil:
		return 0, err
	case why != "":
		return l.restart(s, why)
	}
	// There may be nothing to send yet, but the client shall see that it is
	// connected.
	return int64(offset), s.Open()
}

// wrong says why no line starts at offset, or "" if one does, or will.
func (l *logFile) wrong(offset, size int64) (why string, err error) {
	if offset > size {
		return fmt.Sprintf("offset %d is beyond the end, %d", offset, size), nil
	}
	start, err := l.atLineStart(offset)
	if err != nil || start {
		return "", err
	}
	return fmt.Sprintf("offset %d is in the middle of a line", offset), nil
}

// restart tells the client that what it has does not connect to what comes, and
// returns the offset of what comes: the last lines of the file.
func (l *logFile) restart(s *sse.ServerSession, why string) (int64, error) {
	at, err := l.lastLines(tailLines)
	if err != nil {
		return 0, err
	}
	return at, s.Send(sse.Event{
		ID:   formatOffset(at),
		Name: "reset",
		Data: fmt.Sprintf("%s; starting again with the last %d lines", why, tailLines),
	})
}

// cursor reads the lines of a log file one after the other.
type cursor struct {
	log    *logFile
	offset int64 // of the byte after the last line read
	buf    *bufio.Reader
}

func newCursor(l *logFile, offset int64) *cursor {
	return &cursor{log: l, offset: offset, buf: bufio.NewReaderSize(nil, maxLine)}
}

// lines yields each whole line between the cursor and the offset end, with the
// cursor moved past it. What follows the last line end is left for later.
func (c *cursor) lines(end int64) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		c.buf.Reset(io.NewSectionReader(c.log.file, c.offset, end-c.offset))
		for {
			line, length, err := c.readLine()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				c.offset += length
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// readLine returns the next line as it can be shown, and its length in the file.
func (c *cursor) readLine() (line string, length int64, err error) {
	b, err := c.buf.ReadSlice('\n')
	length = int64(len(b))
	line = strings.TrimRight(string(b), "\r\n")
	if errors.Is(err, bufio.ErrBufferFull) {
		line += "…"
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		b, err = c.buf.ReadSlice('\n')
		length += int64(len(b))
	}
	// An event is text. A file may hold anything.
	return strings.ToValidUTF8(line, "\uFFFD"), length, err
}

// resumeID returns the id of the last event the client has. A browser sends it as
// a header when it reconnects by itself; a page that opens a new EventSource, or
// a reader at a terminal, cannot, and says "?from=" instead.
func resumeID(s *sse.ServerSession) string {
	if id := s.LastEventID(); id != "" {
		return id
	}
	return s.Call().URL.Query().Get("from")
}

func formatOffset(offset int64) string {
	return strconv.FormatInt(offset, 10)
}
