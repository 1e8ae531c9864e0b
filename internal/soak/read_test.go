package soak

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// errCut is the end of a connection that the client has cut.
var errCut = errors.New("cut")

// body reads a connection as its kind says.
type body struct {
	io.Reader
	cn   *conn
	rest int           // bytes until the kind shows, or negative
	rate int           // bytes a second, or 0
	stop time.Duration // of reading

	bytes int64
}

func (cn *conn) newBody(r io.Reader) *body {
	b := &body{Reader: r, cn: cn, rest: -1}
	some := int(cn.r.ExpFloat64() * 20_000)
	switch cn.kind {
	case slow:
		b.rate = 4000 << cn.r.IntN(6) // 4 to 128 KB/s
	case pausing:
		b.rest, b.stop = some, exponential(cn.r, 3*time.Second)
	case stalled:
		b.rest, b.stop = some, 20*time.Second
	case cut, reset:
		b.rest = some
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	if b.rate > 0 && !b.cn.soak.stopping() {
		p = p[:min(len(p), max(1, b.rate/20))]
	}
	if b.rest == 0 {
		b.rest = -1
		switch {
		case b.cn.kind == cut || b.cn.kind == reset:
			b.cn.line.Cut(b.cn.kind == reset)
			return 0, errCut
		case b.cn.kind == stalled:
			pause(b.stop, b.cn.ended, b.cn.soak.stop)
		default:
			pause(b.stop, b.cn.soak.stop)
		}
	}
	if b.rest > 0 {
		p = p[:min(len(p), b.rest)]
	}
	n, err := b.Reader.Read(p)
	b.bytes += int64(n)
	if b.rest > 0 {
		b.rest -= n
	}
	if b.rate > 0 {
		pause(time.Duration(n)*time.Second/time.Duration(b.rate), b.cn.soak.stop)
	}
	return n, err
}

// read reads the stream to its end, checks it, and waits for the end of the session.
func (cn *conn) read(ctx context.Context, r io.Reader, cancel func()) {
	b := cn.newBody(r)
	if cn.kind != healthy && cn.kind != vanishing {
		after := 3*time.Second + exponential(cn.r, 8*time.Second) // at the latest
		if cn.kind == stalled {
			after += b.stop
		}
		defer cn.background(func(over <-chan struct{}) {
			if pause(after, over, cn.soak.stop); cn.soak.stopping() {
				return
			}
			if cn.kind == cut || cn.kind == reset {
				cn.line.Cut(cn.kind == reset)
			}
			cancel()
		})()
	}
	d := event.NewDecoder(nil)
	d.Reset(b, cn.from)
	var err error
	for {
		var e event.Event
		if e, err = d.Decode(); err != nil {
			break
		}
		cn.soak.received.Add(1)
		if e.Name == hub.GapEvent {
			cn.acceptGap(e)
		} else {
			cn.acceptEvent(e, time.Now())
		}
	}
	cn.soak.receivedBytes.Add(b.bytes)
	own := ctx.Err() != nil || errors.Is(err, errCut)
	cancel()
	cn.id = d.LastEventID()
	cn.acceptID(cn.id)
	left := time.Now()
	if !cn.soak.late.await(cn.ended) {
		cn.soak.fault("%v: %v after the client's end (%v), the session has not ended", cn, time.Since(left), err)
		return
	}
	cn.soak.noteGone(cn.endedAt.Sub(left))
	cn.checkEnd(err, own)
}

// checkEnd checks the end of the stream against that of the session. err is the client's, and
// own means that the client has caused it.
func (cn *conn) checkEnd(err error, own bool) {
	s := cn.soak
	kicked, isKicked := errors.AsType[*kick](cn.cause)
	if isKicked {
		<-kicked.done
		cn.checkKick(kicked)
	}
	s.noteEnd(cn.end.Reason, isKicked, own)
	if own || !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if cn.end.Reason == sse.EndPanic || cn.end.Reason == sse.EndHandlerError {
			s.fault("%v: the session has ended with %v: %v", cn, cn.end.Reason, cn.end.Err)
		}
		return
	}
	// The stream looks complete.
	switch {
	case isKicked:
		s.whole.Add(1)
		cn.checkComplete(kicked.before)
	case cn.end.Reason == sse.EndShutdown:
		<-cn.era.Load().closed
		s.whole.Add(1)
		cn.checkComplete(cn.era.Load().hub.Position().Offset)
	case cn.end.Reason == sse.EndSlow && cn.policy == hub.SlowEnd: // as documented, in order
	default:
		s.fault("%v: the stream looks complete, but the session has ended with %v: %v", cn, cn.end.Reason, cn.end.Err)
	}
}
