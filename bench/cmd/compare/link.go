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

// The link is a socket between the server and the load generator. It costs the server
// little, because it does not go through the parent. Each message is a number. The server
// sends one message: the number of the event after the last. The generator sends the first
// event that some subscriber still lacks, again and again as events arrive, or gaveUp.

// gaveUp is the generator's message if it does not wait for missing events any longer.
const gaveUp = 1<<63 - 1

// serverLink is the server's end of the link.
type serverLink struct {
	conn  net.Conn
	acked int // all subscribers have the events before this one
}

// openServerLink returns the server's end of the link, from the descriptor linkFD.
func openServerLink() (*serverLink, error) {
	file := os.NewFile(linkFD, "link")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	return &serverLink{conn: conn}, nil
}

// wait waits for the generator's next message and reports whether it came before the
// timeout. It returns an error if it cannot read.
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

// tell tells the generator that end is the number of the event after the last.
func (l *serverLink) tell(end int) error {
	_, err := l.conn.Write(binary.LittleEndian.AppendUint64(nil, uint64(end)))
	return err
}

// tellServer sends the generator's message: the first event that some subscriber lacks, or
// gaveUp.
func tellServer(floor int) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(floor))
	if _, err := unix.Write(linkFD, b[:]); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	return nil
}

// hearServer reads the server's message, the number of the event after the last. It blocks
// until there is one.
func hearServer() (end int, err error) {
	var b [8]byte
	if _, err := unix.Read(linkFD, b[:]); err != nil {
		return 0, fmt.Errorf("link: %w", err)
	}
	return int(binary.LittleEndian.Uint64(b[:])), nil
}
