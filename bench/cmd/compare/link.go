//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The link is a socket between the server and the load generator, on which each
// message is a number. The server says, once, the number of the event after the last;
// the generator says, as they come, the first event that some subscriber lacks, or
// gaveUp. It is direct, and so costs the server little.
const gaveUp = 1<<63 - 1

// serverLink is the server's end.
type serverLink struct {
	conn  net.Conn
	acked int
}

func openServerLink() (*serverLink, error) {
	file := os.NewFile(linkFD, "link")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	return &serverLink{conn: conn}, nil
}

// wait waits for the generator's next word, and reports whether it came in time.
func (l *serverLink) wait(timeout time.Duration) (bool, error) {
	if err := l.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return false, err
	}
	var b [8]byte
	if _, err := l.conn.Read(b[:]); os.IsTimeout(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("link: %w", err)
	}
	l.acked = max(l.acked, int(binary.LittleEndian.Uint64(b[:])))
	return true, nil
}

// tell says that no event follows the one before end.
func (l *serverLink) tell(end int) error {
	_, err := l.conn.Write(binary.LittleEndian.AppendUint64(nil, uint64(end)))
	return err
}

// tellServer is the generator's word.
func tellServer(floor int) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(floor))
	if _, err := unix.Write(linkFD, b[:]); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	return nil
}

// hearServer reads the server's word, which must be there.
func hearServer() (end int, err error) {
	var b [8]byte
	if _, err := unix.Read(linkFD, b[:]); err != nil {
		return 0, fmt.Errorf("link: %w", err)
	}
	return int(binary.LittleEndian.Uint64(b[:])), nil
}
