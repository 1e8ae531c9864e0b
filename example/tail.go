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
	// tailLines is how many lines a client gets at first if it sends no Last-Event-ID.
	tailLines = 50

	// maxLine is how many bytes of a line are sent. The access log writes no line as
	// long, but -log may name any file.
	maxLine = 16 << 10
)

// tail serves the log file as a stream with one event for each line. An event's id is
// the offset of the byte after its line. So the id alone says which lines a client has,
// even after the server has restarted: a client that reconnects continues with the next
// line and gets no line twice.
//
// A client that sends no id starts with the last lines of the file. A client whose id is
// not the start of a line in this file gets the same lines, after an event "reset" that
// says why.
func (l *logFile) tail(s *sse.ServerSession) error {
	at, err := l.openAt(s)
	if err != nil {
		return err
	}
	c := newCursor(l, at)
	for {
		size, grown := l.state()
		// Another program may have truncated the file, so the offset must be checked
		// each time.
		if why, err := l.invalid(c.offset, size); err != nil {
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

// openAt opens the stream and returns the offset at which its lines start.
func (l *logFile) openAt(s *sse.ServerSession) (int64, error) {
	id := resumeID(s)
	if id == "" {
		at, err := l.lastLines(tailLines)
		if err != nil {
			return 0, err
		}
		// An event that has only an id sets the client's last id, and the client shows
		// no event for it. If the connection breaks before the first line arrives, the
		// client can still send that id.
		return at, s.Send(sse.Event{ID: formatOffset(at)})
	}

	offset, err := strconv.ParseUint(id, 10, 63)
	if err != nil {
		return l.restart(s, fmt.Sprintf("%.40q is not an offset", id))
	}
	size, _ := l.state()
	why, err := l.invalid(int64(offset), size)
	switch {
	case err != nil:
		return 0, err
	case why != "":
		return l.restart(s, why)
	}
	// There may be no line to send yet. Open the stream now, so that the client sees
	// that it is connected.
	return int64(offset), s.Open()
}

// invalid returns why no line starts at offset in a file of size bytes, or "" if a line
// starts there or will start there.
func (l *logFile) invalid(offset, size int64) (why string, err error) {
	if offset > size {
		return fmt.Sprintf("offset %d is beyond the end of the log, which has %d bytes", offset, size), nil
	}
	start, err := l.atLineStart(offset)
	if err != nil || start {
		return "", err
	}
	return fmt.Sprintf("offset %d is in the middle of a line", offset), nil
}

// restart sends an event "reset", which says that the next lines do not follow the ones
// that the client has. It returns the offset of the next lines, which are the last of the
// file.
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

// cursor reads the lines of a log file in order.
type cursor struct {
	log    *logFile
	offset int64 // of the byte after the last line that was read
	buf    *bufio.Reader
}

func newCursor(l *logFile, offset int64) *cursor {
	return &cursor{log: l, offset: offset, buf: bufio.NewReaderSize(nil, maxLine)}
}

// lines yields each whole line from the cursor to the offset end, and moves the cursor
// past a line before it yields the line. A line that has no end yet is left for later.
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

// readLine returns the next line as valid UTF-8 and cut to maxLine bytes, and its length
// in the file. It returns io.EOF if the line has no end yet.
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
	// An event must be UTF-8, and the file may contain any bytes.
	return strings.ToValidUTF8(line, "\uFFFD"), length, err
}

// resumeID returns the id of the last event that the client has. A browser that
// reconnects by itself sends it in the header Last-Event-ID. A page that opens a new
// EventSource cannot set that header, so it sends the query parameter "from"; so can a
// user of curl. The header takes precedence, since it is newer.
func resumeID(s *sse.ServerSession) string {
	if id := s.LastEventID(); id != "" {
		return id
	}
	return s.Call().URL.Query().Get("from")
}

func formatOffset(offset int64) string {
	return strconv.FormatInt(offset, 10)
}
