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

// read is how fast a client reads a stream over loopback, from a server that writes as
// fast as it can. The process that is measured is the client's.
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
			if err := p.load.call("flood", floodArgs{s, 0}, &url); err != nil {
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
			// The server also ran in the warm-up, at about the same rate.
			share := t.Duration.Seconds() / took.Seconds()
			out.figures = append(t.figures(), 1000*share*micros(after-before, t.Events))
			return out, nil
		},
	}
}

type readArgs struct {
	URL      string
	Shape    shape
	Duration time.Duration // 0: check Count events
	Count    int
}

// read has the library's client read the stream at URL.
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

// checkedRead has the library's client read a stream and compares each event.
func checkedRead(ctx context.Context, lib library.Library) error {
	p, err := newPair(ctx, lib.Name)
	if err != nil {
		return err
	}
	defer p.end()
	for _, s := range []shape{tokens, small, pages} {
		const count = 200
		var url string
		if err := p.load.call("flood", floodArgs{s, count}, &url); err != nil {
			return err
		}
		if err := p.server.call("read", readArgs{URL: url, Shape: s, Count: count}, nil); err != nil {
			return err
		}
	}
	return nil
}

type floodArgs struct {
	Shape shape
	Count int // of events, after which the stream waits; 0: no end
}

// flood serves a stream, at the URL that it returns.
func flood(args floodArgs) (url string, err error) {
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
				if err := pour(conn, body, args.Count == 0); err != nil {
					log.Print(err) // the client has left, which is for it to explain
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String() + "/", nil
}

// pour answers the request on conn with the chunks of body, once or over and over.
func pour(conn net.Conn, body []byte, again bool) error {
	if _, err := conn.Read(make([]byte, 4<<10)); err != nil { // the head is in one segment
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
