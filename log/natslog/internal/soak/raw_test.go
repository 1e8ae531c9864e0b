//go:build unix

package soak

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// readRaw opens a connection and reads it, byte by byte as the format says, until it ends, ctx
// ends, or the reader leaves, which it does without a word.
func (r *reader) readRaw(ctx context.Context) {
	if err := r.readBytes(ctx); err != nil {
		r.s.fail("%s: %v", r.name, err)
	}
	if ctx.Err() == nil {
		time.Sleep(r.retryWait())
	}
}

// readBytes returns an error only if the bytes are wrong.
func (r *reader) readBytes(ctx context.Context) error {
	address := r.choose()
	conn, err := r.dial(ctx, "tcp", address.Host)
	if err != nil {
		return nil // the node is down
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if r.id != "" {
		req.Header.Set("Last-Event-ID", r.id)
	}
	if err := req.Write(conn); err != nil {
		return nil // the connection is lost
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil // likewise
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests:
		return nil // it is shutting down
	case resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream":
		return fmt.Errorf("status %d with %v", resp.StatusCode, resp.Header)
	}
	r.s.opened.Add(1)
	return r.readBlocks(ctx, conn, resp.Body)
}

// deadliner is a connection as readBlocks needs it.
type deadliner interface{ SetReadDeadline(time.Time) error }

// readBlocks reads the blocks of a stream.
func (r *reader) readBlocks(ctx context.Context, conn deadliner, body io.Reader) error {
	in := bufio.NewReaderSize(body, 4<<10)
	var block []byte
	for n := 0; ; {
		_ = conn.SetReadDeadline(time.Now().Add(4 * beat))
		line, err := in.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) && len(block)+len(line) > 0 {
				return fmt.Errorf("a stream that looks complete ends with %.200q", append(block, line...))
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				r.s.silences.Add(1)
			}
			return nil
		}
		if block = append(block, line...); len(line) > 1 {
			continue
		}
		if err := r.takeBlock(block); err != nil || ctx.Err() != nil {
			return err
		}
		block = block[:0]
		if n++; r.leaves(n) {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // the server gets a reset
			}
			return nil
		}
		r.rest(n)
	}
}

// takeBlock checks a block: it must have the bytes that the event has.
func (r *reader) takeBlock(block []byte) error {
	ev := sse.Event{}
	comment := true
	for line := range strings.SplitSeq(strings.TrimSuffix(string(block), "\n\n"), "\n") {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "":
			continue
		case "id":
			ev.ID = value
		case "event":
			ev.Name = value
		case "data":
			ev.Data = value
		case "retry":
			return nil
		default:
			return fmt.Errorf("the line %.200q", line)
		}
		comment = false
	}
	if comment {
		return nil
	}
	if want, err := ev.AppendText(nil); err != nil || !bytes.Equal(want, block) {
		return fmt.Errorf("the block %.200q, but the event is %.200q", block, want)
	}
	if ev.Data == "" {
		at, err := hub.ParsePosition(ev.ID)
		if err == nil {
			err = r.takePosition(at)
		}
		if err == nil {
			r.id = ev.ID
		}
		return err
	}
	if err := r.take(ev.ID, ev.Name, ev.Data); err != nil {
		return err
	}
	r.id = ev.ID
	return nil
}
