//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// read measures for d how fast a client reads events of shape s over loopback from a server
// that writes as fast as it can. The measured process is the client's.
func read(s shape, d time.Duration) workload {
	return workload{
		name:  "client-" + s.Name,
		title: "A client reads events of " + s.Title + "; over loopback, from a server that writes as fast as it can",
		of:    reading,
		columns: []report.Column{
			timedColumns[0],
			timedColumns[1],
			timedColumns[2],
			{Title: "server CPU, ns"},
		},
		limit: time.Minute + 2*d,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			p, err := newPair(ctx, lib.Name)
			if err != nil {
				return out, err
			}
			defer p.end()
			var url string
			if err := p.load.call("serve", serveArgs{s, 0}, &url); err != nil {
				return out, err
			}
			var before, after, took time.Duration
			if err := p.load.call("cpu", nil, &before); err != nil {
				return out, err
			}
			began := now()
			var t timed
			if err := p.server.call("read", readArgs{URL: url, Shape: s, Duration: d}, &t); err != nil {
				return out, err
			}
			took = now() - began
			if err := p.load.call("cpu", nil, &after); err != nil {
				return out, err
			}
			// The server's CPU includes the warm-up, when it ran at about the same rate.
			share := t.Duration.Seconds() / took.Seconds()
			out.figures = append(t.figures(), 1000*share*micros(after-before, t.Events))
			return out, nil
		},
	}
}

type readArgs struct {
	URL      string
	Shape    shape
	Duration time.Duration // 0: compare Count events instead of measuring
	Count    int
}

// read measures, or checks, how the library's client reads the stream at args.URL.
func (s *server) read(args readArgs) (t timed, err error) {
	ctx := context.Background()
	if args.Duration == 0 {
		v := &verifier{shape: args.Shape, frames: s.lib.Kind == library.Limit, count: args.Count}
		return t, v.result(s.lib.Read(ctx, args.URL, v))
	}
	c := &counter{duration: args.Duration}
	if err := s.lib.Read(ctx, args.URL, c); err != nil {
		return t, err
	}
	return c.result, nil
}

// checkRead compares the events that the library's client reads with what was sent.
func checkRead(ctx context.Context, lib library.Library) error {
	p, err := newPair(ctx, lib.Name)
	if err != nil {
		return err
	}
	defer p.end()
	for _, s := range []shape{tokens, tiny, small, pages} {
		const count = 200
		var url string
		if err := p.load.call("serve", serveArgs{s, count}, &url); err != nil {
			return err
		}
		if err := p.server.call("read", readArgs{URL: url, Shape: s, Count: count}, nil); err != nil {
			return err
		}
	}
	return nil
}

type serveArgs struct {
	Shape shape
	Count int // send this many events and then nothing; 0: send events without end
}

// serveStream starts a server that sends events on each connection as fast as it can. It
// returns the server's URL.
func serveStream(args serveArgs) (url string, err error) {
	count := args.Count
	if count == 0 {
		count = args.Shape.mebibyte()
	}
	var body []byte
	for rest := args.Shape.text(count); rest != ""; {
		n := min(len(rest), 16<<10)
		body = fmt.Appendf(body, "%x\r\n%s\r\n", n, rest[:n])
		rest = rest[n:]
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				log.Print(err)
				return
			}
			go func() {
				defer conn.Close()
				if err := respond(conn, body, args.Count == 0); err != nil {
					log.Print(err) // the client has left, and its process reports why
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String() + "/", nil
}

// respond reads the request on conn and sends a response with the chunks of body, once or,
// if again is true, over and over. It returns when the client has left.
func respond(conn net.Conn, body []byte, again bool) error {
	if _, err := conn.Read(make([]byte, 4<<10)); err != nil { // the request's head arrives in one segment
		return err
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		return err
	}
	for {
		if _, err := conn.Write(body); err != nil {
			return err
		}
		if !again {
			_, err := io.Copy(io.Discard, conn) // until the client leaves
			return err
		}
	}
}
