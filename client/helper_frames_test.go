// A server of raw HTTP/2 frames, for what no server of net/http can be made to send.

package client_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/chi-sse/sse/internal/testkit"
)

// Types, flags and codes of HTTP/2 frames (RFC 9113 §6 and §7).
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing = 0, 1, 3, 4, 6

	flagEndStream, flagAck, flagEndHeaders = 1, 1, 4

	resetProtocolError, resetInternalError, resetRefusedStream, resetCancel, resetCalm = 1, 2, 7, 8, 11
)

// frameConn is a connection of a frameServer, to answer requests with.
type frameConn struct {
	frames chan []byte
	done   chan struct{}
}

// write sends a frame, soon.
func (c *frameConn) write(kind, flags byte, stream uint32, payload []byte) {
	frame := make([]byte, 9, 9+len(payload))
	binary.BigEndian.PutUint32(frame, uint32(len(payload))<<8|uint32(kind))
	frame[4] = flags
	binary.BigEndian.PutUint32(frame[5:], stream)
	select {
	case c.frames <- append(frame, payload...):
	case <-c.done:
	}
}

// reset ends the stream with RST_STREAM.
func (c *frameConn) reset(stream, code uint32) {
	c.write(frameReset, 0, stream, binary.BigEndian.AppendUint32(nil, code))
}

// head sends the header of a response. retryAfter may be empty.
func (c *frameConn) head(stream uint32, status, contentType, retryAfter string) {
	// RFC 7541 §6.2.2: literals without indexing, with names of the static table.
	head := append([]byte{8, byte(len(status))}, status...)
	head = append(append(head, 15, 31-15, byte(len(contentType))), contentType...)
	if retryAfter != "" {
		head = append(append(head, 15, 53-15, byte(len(retryAfter))), retryAfter...)
	}
	c.write(frameHeaders, flagEndHeaders, stream, head)
}

// data sends a part of the body of a response.
func (c *frameConn) data(stream uint32, text string, end bool) {
	flags := byte(0)
	if end {
		flags = flagEndStream
	}
	c.write(frameData, flags, stream, []byte(text))
}

// serveFrames serves HTTP/2 on conn until it ends. It calls answer with the stream and the
// body of each request, once that is complete.
func serveFrames(conn net.Conn, answer func(c *frameConn, stream uint32, body string)) {
	c := &frameConn{make(chan []byte, 1000), make(chan struct{})}
	var writer sync.WaitGroup
	writer.Go(func() { // a pipe has no buffer, so reading must go on
		for {
			select {
			case frame := <-c.frames:
				if _, err := conn.Write(frame); err != nil {
					return
				}
			case <-c.done:
				return
			}
		}
	})
	defer writer.Wait()
	defer conn.Close()
	defer close(c.done)

	r := bufio.NewReader(conn)
	if _, err := io.CopyN(io.Discard, r, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	c.write(frameSettings, 0, 0, nil)
	bodies := make(map[uint32]string)
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[:])>>8)
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		stream := binary.BigEndian.Uint32(head[5:]) &^ (1 << 31)
		switch kind, flags := head[3], head[4]; {
		case kind == frameSettings && flags&flagAck == 0:
			c.write(frameSettings, flagAck, 0, nil)
		case kind == framePing && flags&flagAck == 0:
			c.write(framePing, flagAck, 0, payload)
		case kind == frameHeaders || kind == frameData:
			if kind == frameData {
				bodies[stream] += string(payload)
			}
			if flags&flagEndStream != 0 {
				answer(c, stream, bodies[stream])
				delete(bodies, stream)
			}
		}
	}
}

// frameClient returns a client whose connections are pipes to serveFrames.
func frameClient(t testing.TB, answer func(c *frameConn, stream uint32, body string)) *http.Client {
	t.Helper()
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	transport := &http.Transport{
		Protocols: testkit.H2C.Protocols(),
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			context.AfterFunc(ctx, func() { theirs.Close() })
			conns.Go(func() { serveFrames(theirs, answer) })
			return ours, nil
		},
	}
	t.Cleanup(func() {
		cancel()
		transport.CloseIdleConnections()
		conns.Wait()
	})
	return &http.Client{Transport: transport}
}
