// BufferPolicy: what the buffer keeps, how much memory it uses, and a model of it.

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// bufferPipe is a RoundTripper that answers each request with a stream of the next body.
type bufferPipe struct {
	bodies []io.Reader
}

func (b *bufferPipe) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(b.bodies) == 0 {
		return nil, errors.New("no further body")
	}
	body := b.bodies[0]
	b.bodies = b.bodies[1:]
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"text/event-stream"}},
		Body:       io.NopCloser(body),
		Request:    r,
	}, nil
}

// bufferAfter returns what policy keeps after the given number of events of streams. Each
// stream is one connection.
func bufferAfter(t testing.TB, policy client.BufferPolicy, events int, streams ...io.Reader) string {
	t.Helper()
	c := install(&http.Client{Transport: &bufferPipe{streams}}, client.Config{
		MaxReconnectionAttempts: len(streams), BufferPolicy: policy,
	})
	enough := errors.New("enough")
	err := c.SSE(t.Context(), "http://buffer.test/", func(s *client.Session) error {
		if events == 0 {
			return enough
		}
		n := 0
		for _, err := range s.Incoming() {
			if err != nil {
				return err
			}
			if n++; n == events {
				return enough
			}
		}
		return errors.New("too few events")
	})
	require.ErrorIs(t, err, enough)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	again, err := io.ReadAll(e.Response.Body)
	require.NoError(t, err)
	require.Equal(t, string(e.Body), string(again), "Error.Body and the body of Error.Response differ")
	return string(e.Body)
}

func TestBufferPolicyKeepsWhatWasHandedOut(t *testing.T) {
	const stream = ": hello\nretry: 10\n\nid: 1\ndata: a\n\ndata: b1\ndata: b2\n\n\n: c\nevent: x\ndata: c\n\ndata: d\n\n"
	const a, b, c = ": hello\nretry: 10\n\nid: 1\ndata: a\n\n", "data: b1\ndata: b2\n\n", "\n: c\nevent: x\ndata: c\n\n"
	for _, tt := range []struct {
		policy client.BufferPolicy
		events int
		want   string
	}{
		{client.Off, 0, ""},
		{client.Off, 3, ""},
		{client.All, 0, ""},
		{client.All, 1, a},
		{client.All, 2, a + b},
		{client.All, 3, a + b + c},
		{client.LastEvent, 0, ""},
		{client.LastEvent, 1, a},
		{client.LastEvent, 2, b},
		{client.LastEvent, 3, c},
		{client.LastEvents(1), 3, c},
		{client.LastEvents(2), 1, a},
		{client.LastEvents(2), 2, a + b},
		{client.LastEvents(2), 3, b + c},
		{client.LastEvents(3), 3, a + b + c},
		{client.LastEvents(1_000_000), 3, a + b + c},
		{client.LastEvents(math.MaxInt), 3, a + b + c},
		{client.LastLines(1), 0, ""},
		{client.LastLines(1), 2, "\n"},
		{client.LastLines(2), 2, "data: b2\n\n"},
		{client.LastLines(3), 2, b},
		{client.LastLines(4), 2, "\n" + b},
		{client.LastLines(5), 2, "data: a\n\n" + b},
		{client.LastLines(5), 3, c},
		{client.LastLines(100), 3, a + b + c},
		{client.LastLines(math.MaxInt), 3, a + b + c},
	} {
		t.Run(fmt.Sprintf("%v after %d", tt.policy, tt.events), func(t *testing.T) {
			for _, eol := range []string{"\n", "\r", "\r\n"} {
				stream, want := strings.ReplaceAll(stream, "\n", eol), strings.ReplaceAll(tt.want, "\n", eol)
				require.Equal(t, want, bufferAfter(t, tt.policy, tt.events, strings.NewReader(stream)), "%q", eol)
			}
			require.Equal(t, tt.want, bufferAfter(t, tt.policy, tt.events, iotest.OneByteReader(strings.NewReader(stream))), "byte by byte")
			require.Equal(t, tt.want, bufferAfter(t, tt.policy, tt.events, iotest.DataErrReader(strings.NewReader(stream))), "with the end")
		})
	}
}

// The LF after the CR of a blank line belongs to the event before it, even if it arrives
// after that event was handed out.
func TestBufferLeavesOutTheLFOfTheEventBefore(t *testing.T) {
	const stream = "data: a\r\n\r\ndata: b\r\n\r\ndata: c\r\n\r\n"
	for events, want := range map[int]string{1: "data: a\r\n\r", 2: "data: b\r\n\r", 3: "data: c\r\n\r"} {
		require.Equal(t, want, bufferAfter(t, client.LastEvent, events, iotest.OneByteReader(strings.NewReader(stream))))
	}
	require.Equal(t, "data: b\r\n\r\ndata: c\r\n\r",
		bufferAfter(t, client.LastEvents(2), 3, iotest.OneByteReader(strings.NewReader(stream))))
	require.Equal(t, "\r\ndata: c\r\n\r",
		bufferAfter(t, client.LastLines(3), 3, iotest.OneByteReader(strings.NewReader(stream))))
	require.Equal(t, stream[:len(stream)-1],
		bufferAfter(t, client.All, 3, iotest.OneByteReader(strings.NewReader(stream))))
}

func TestBufferKeepsTheBytesAsTheyCame(t *testing.T) {
	const stream = "\uFEFFdata: \xFF\xC3\x28\x00\ndata:x\r\nunknown\n\r"
	require.Equal(t, stream, bufferAfter(t, client.All, 1, strings.NewReader(stream)))
	require.Equal(t, stream, bufferAfter(t, client.LastEvent, 1, strings.NewReader(stream)))
	require.Equal(t, "unknown\n\r", bufferAfter(t, client.LastLines(2), 1, strings.NewReader(stream)))
}

// A comment or retry block that an option shows is handed out, and counts as an event.
func TestBufferCountsCommentsThatAreShown(t *testing.T) {
	c := install(&http.Client{Transport: &bufferPipe{[]io.Reader{strings.NewReader("data: a\n\n: b\n\nretry: 5\n\n: c\n\n")}}}, client.Config{
		ShowCommentEvents: true, ShowRetryEvents: true, BufferPolicy: client.LastEvents(2),
	})
	enough := errors.New("enough")
	err := c.SSE(t.Context(), "http://buffer.test/", func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			if ev.Retry != 0 {
				return enough
			}
		}
		return nil
	})
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, ": b\n\nretry: 5\n\n", string(e.Body))
}

func TestBufferStartsAnewWithEachConnection(t *testing.T) {
	for policy, want := range map[client.BufferPolicy]string{
		client.Off:           "",
		client.All:           "data: c\n\n",
		client.LastEvents(3): "data: c\n\n",
		client.LastLines(9):  "data: c\n\n",
	} {
		got := bufferAfter(t, policy, 3, strings.NewReader("data: a\n\ndata: b\n\ndata: half"), strings.NewReader("data: c\n\ndata: d\n\n"))
		require.Equal(t, want, got, policy)
	}
}

func TestBufferPolicyOfACallWinsOverTheInstalled(t *testing.T) {
	c := install(&http.Client{Transport: &bufferPipe{[]io.Reader{strings.NewReader("data: a\n\ndata: b\n\n")}}}, client.Config{BufferPolicy: client.All})
	boom := errors.New("boom")
	err := c.SSE(t.Context(), "http://buffer.test/", func(s *client.Session) error {
		for _, err := range s.Incoming() {
			assert.NoError(t, err)
		}
		return boom
	}, client.WithConfig(func(cfg *client.Config) { cfg.BufferPolicy = client.LastEvent }))
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "data: b\n\n", string(e.Body))
}

// The error of a stream that broke off has the buffer and the response, as the error of a
// block does.
func TestBufferOfAStreamThatBrokeOff(t *testing.T) {
	boom := errors.New("boom")
	body := io.MultiReader(strings.NewReader("data: a\n\ndata: b\n\ndata: hal"), iotest.ErrReader(boom))
	c := install(&http.Client{Transport: &bufferPipe{[]io.Reader{body}}}, client.Config{BufferPolicy: client.LastEvent})
	_, err := collect(session(t, c, "http://buffer.test/"))
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, boom)
	require.Equal(t, "data: b\n\ndata: hal", string(e.Body))
	require.Equal(t, http.StatusOK, e.Response.StatusCode)
}

// A session that lost its stream and cannot reconnect still has the last response and the
// part of its stream that was kept.
func TestBufferOfAStreamThatCannotBeResumed(t *testing.T) {
	c := install(&http.Client{Transport: &bufferPipe{[]io.Reader{strings.NewReader("data: a\n\n")}}}, client.Config{
		BufferPolicy: client.All, MaxReconnectionAttempts: 2,
	})
	events, err := collect(session(t, c, "http://buffer.test/"))
	require.Equal(t, []string{"a"}, dataOf(events))
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.ErrorContains(t, err, "no further body")
	require.NotNil(t, e.Response, "there is no last response")
	require.Equal(t, http.StatusOK, e.Response.StatusCode)
	require.Equal(t, "data: a\n\n", string(e.Body))
}

// The buffer holds the bytes of the body, after net/http has decoded chunks and compression.
func TestBufferOverASocket(t *testing.T) {
	url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"3\r\ndat\r\n7\r\na: a\r\r\r\r\n8\r\ndata: b\r\r\n5\r\nda")
	})
	c := install(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, client.Config{BufferPolicy: client.All})
	_, err := collect(session(t, c, url))
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, "data: a\r\rdata: b\rda", string(e.Body))
}

// bufferModel returns what policy should keep after the given number of events of stream,
// which r reads. It takes all that was handed out and cuts it.
func bufferModel(t testing.TB, policy client.BufferPolicy, events int, stream []byte, r io.Reader) string {
	t.Helper()
	if policy == client.Off {
		return ""
	}
	d := event.NewDecoder(r)
	ends := []int{0}
	for range events {
		if _, err := d.DecodeRaw(); err != nil { // require.NoError takes longer than the event
			require.NoError(t, err)
		}
		ends = append(ends, int(d.InputOffset()))
	}
	end := ends[len(ends)-1]
	from := 0
	switch n := int(policy); {
	case policy == client.All:
	case n > 0:
		if n <= events {
			from = ends[events-n]
			if from > 0 && stream[from-1] == '\r' && stream[from] == '\n' {
				from++
			}
		}
	default:
		for from = end; from > 0 && n < 0; {
			from--
			if from == 0 || stream[from-1] == '\n' || stream[from-1] == '\r' && stream[from] != '\n' {
				n++ // a line begins here
			}
		}
	}
	return string(stream[max(from, end-client.MaxBuffer):end])
}

// bufferStream returns a random stream with the given number of events. No line of data
// in it is longer than size.
func bufferStream(r *rand.Rand, events, size int) []byte {
	var stream bytes.Buffer
	eol := func() string { return []string{"\n", "\r", "\r\n"}[r.IntN(3)] }
	one := eol()
	if r.IntN(2) == 0 {
		eol = func() string { return one }
	}
	for range events {
		for range r.IntN(3) {
			stream.WriteString([]string{": c", "", "x", "id: 1", "event: é"}[r.IntN(5)] + eol())
		}
		for range r.IntN(3) + 1 {
			stream.WriteString("data: " + strings.Repeat("x", r.IntN(size+1)) + eol())
		}
		stream.WriteString(eol())
		if b := stream.Bytes(); r.IntN(2) == 0 && bytes.HasSuffix(b, []byte("\r\n")) && !bytes.HasSuffix(b, []byte("\r\n\r\n")) {
			stream.WriteString("\n")
		}
	}
	return stream.Bytes()
}

// bufferChunks reads text in chunks of random size.
type bufferChunks struct {
	text []byte
	r    *rand.Rand
	most int
}

func (c *bufferChunks) Read(p []byte) (n int, err error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n = copy(p, c.text[:min(len(c.text), c.r.IntN(c.most)+1)])
	c.text = c.text[n:]
	return n, nil
}

func TestBufferAgainstAModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 600 {
		stream := bufferStream(r, 1+r.IntN(80), 1<<r.IntN(9))
		total := 0
		for d := event.NewDecoder(bytes.NewReader(stream)); ; total++ {
			if _, err := d.DecodeRaw(); err != nil {
				break
			}
		}
		events := r.IntN(total + 1)
		n := 1 + r.IntN(1<<r.IntN(8))
		policy := []client.BufferPolicy{client.All, client.LastEvents(n), client.LastLines(n)}[r.IntN(3)]
		seed, most := r.Uint64(), 1<<r.IntN(13)
		chunks := func() io.Reader { return &bufferChunks{stream, rand.New(rand.NewPCG(seed, 0)), most} }
		require.Equal(t, bufferModel(t, policy, events, stream, chunks()), bufferAfter(t, policy, events, chunks()),
			"%v after %d events, stream %d", policy, events, i)
	}
}

// Of a stream of many MiB, the session keeps the latest MaxBuffer bytes that it has handed
// out, however large events and reads are.
func TestBufferOfLargeStreamsAgainstAModel(t *testing.T) {
	many := func(n, size int) string {
		var stream strings.Builder
		for i := range n {
			fmt.Fprintf(&stream, "id: %d\ndata: %s\n\n", i, strings.Repeat("x", i*7919%size))
		}
		return stream.String()
	}
	huge := "data: " + strings.Repeat("y", 3<<20) + "\n\n"
	for name, tt := range map[string]struct {
		stream string
		events []int
	}{
		"small events":                 {many(15_000, 300), []int{1, 14_990}},
		"large events":                 {many(30, 300_000), []int{2, 15, 29}},
		"huge events":                  {many(4, 20) + huge + huge + many(4, 20), []int{4, 5, 8}},
		"one huge and many small":      {huge + many(10_000, 300), []int{1, 100, 9_900}},
		"two small, one of many lines": {"data: a\n\ndata: b\n\n" + strings.Repeat("data: yyyyyyyy\n", 200_000) + "\ndata: c\n\n", []int{1, 2, 3}},
	} {
		for _, policy := range []client.BufferPolicy{client.LastEvents(2), client.LastEvents(5000), client.LastLines(3), client.All} {
			t.Run(name+"/"+policy.String(), func(t *testing.T) {
				for i, events := range tt.events {
					newReader := func() io.Reader { return strings.NewReader(tt.stream) }
					if i%2 == 1 {
						newReader = func() io.Reader { return bufferPackets{strings.NewReader(tt.stream)} }
					}
					want := bufferModel(t, policy, events, []byte(tt.stream), newReader())
					got := bufferAfter(t, policy, events, newReader())
					if want != got { // a diff of several MiB is no help
						assert.Fail(t, "the buffer differs", "after %d events: %d bytes, want %d, equal at their end: %d",
							events, len(got), len(want), bufferCommonEnd(got, want))
					}
				}
			})
		}
	}
}

// bufferCommonEnd returns the length of the longest common suffix of a and b.
func bufferCommonEnd(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// bufferPackets reads at most 15,000 bytes at a time, as from a socket.
type bufferPackets struct{ io.Reader }

func (p bufferPackets) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), 15_000)]) }

// An incomplete event does not push out the events that were handed out before. Its
// beginning comes after them.
func TestBufferSurvivesAHugeEventThatBreaksOff(t *testing.T) {
	boom := errors.New("boom")
	for _, policy := range []client.BufferPolicy{client.LastEvent, client.LastEvents(5), client.LastLines(2), client.All} {
		body := io.MultiReader(strings.NewReader("data: a\n\ndata: "+strings.Repeat("x", 5<<20)), iotest.ErrReader(boom))
		events, err := collect(client.Read(context.Background(), body, client.WithConfig(func(cfg *client.Config) { cfg.BufferPolicy = policy })))
		require.Equal(t, []string{"a"}, dataOf(events))
		require.ErrorIs(t, err, boom)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		want := "data: a\n\ndata: " + strings.Repeat("x", event.MaxRest-len("data: "))
		assert.True(t, bytes.Equal([]byte(want), e.Body), "%v: %d bytes", policy, len(e.Body))
	}
}

// bufferEndless reads an endless stream of small events until it is stopped.
type bufferEndless struct {
	block   []byte
	rest    []byte
	stopped atomic.Bool
}

func (e *bufferEndless) Read(p []byte) (int, error) {
	if e.stopped.Load() {
		return 0, io.ErrClosedPipe
	}
	if len(e.rest) == 0 {
		e.rest = e.block
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// A long session keeps no more bytes at its end than at its beginning, whatever the
// policy.
func TestBufferMemoryIsBounded(t *testing.T) {
	for _, policy := range []client.BufferPolicy{
		client.LastEvents(1000), client.LastEvents(1_000_000), client.LastLines(1_000_000), client.All,
	} {
		t.Run(policy.String(), func(t *testing.T) {
			body := &bufferEndless{block: []byte(strings.Repeat("data\n\n", 1000))}
			s := client.Read(context.Background(), body, client.WithConfig(func(cfg *client.Config) { cfg.BufferPolicy = policy }))
			t.Cleanup(func() { s.Close() })
			before := heapInUse()
			var after uint64
			n := 0
			for _, err := range s.Incoming() {
				if err != nil { // require.NoError takes longer than the event
					require.NoError(t, err)
				}
				if n++; n == 800_000 {
					after = heapInUse()
					break
				}
			}
			runtime.KeepAlive(s)
			const most = 7 << 20 // MaxBuffer, as much again before it is cut, and the rest of the session
			assert.Less(t, int64(after)-int64(before), int64(most))
		})
	}
}

// bufferMeter measures the heap when its reader reaches a given offset.
type bufferMeter struct {
	io.Reader
	left int // bytes until that offset
	heap int64
}

func (m *bufferMeter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if m.left -= n; m.left <= 0 && m.heap == 0 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		m.heap = int64(stats.HeapAlloc)
	}
	return n, err
}

// The buffer is bounded while a huge event arrives, and after it.
func TestBufferMemoryIsBoundedWithHugeEvents(t *testing.T) {
	const huge = 10 << 20
	stream := []byte("data: " + strings.Repeat("x", huge) + "\n\n" + strings.Repeat("data: "+strings.Repeat("y", 100)+"\n\n", 20_000))
	used := func(policy client.BufferPolicy, at int) int64 {
		meter := &bufferMeter{Reader: bufferPackets{bytes.NewReader(stream)}, left: at}
		s := client.Read(context.Background(), meter, client.WithConfig(func(cfg *client.Config) { cfg.BufferPolicy = policy }))
		for _, err := range s.Incoming() {
			if err != nil {
				require.NoError(t, err)
			}
		}
		return meter.heap
	}
	for _, at := range []int{huge - 1000, len(stream) - 1000} {
		base := used(client.Off, at)
		for _, policy := range []client.BufferPolicy{client.LastEvent, client.LastLines(5), client.All} {
			assert.Less(t, used(policy, at)-base, int64(7<<20), "%v at %d", policy, at)
		}
	}
	runtime.KeepAlive(stream)
}

// The largest numbers work like all others.
func TestBufferOfTheLargestPolicies(t *testing.T) {
	stream := strings.Repeat("data: a\n\n", 100)
	for _, policy := range []client.BufferPolicy{client.LastEvents(math.MaxInt), client.LastEvents(math.MaxInt - 1), client.LastLines(math.MaxInt)} {
		require.NotPanics(t, func() {
			require.Equal(t, stream, bufferAfter(t, policy, 100, strings.NewReader(stream)))
		}, policy)
	}
}

func TestBufferPolicyString(t *testing.T) {
	for want, policy := range map[string]client.BufferPolicy{
		"Off": client.Off, "All": client.All, "LastEvent": client.LastEvents(1), "LastEvents(2)": client.LastEvents(2),
		"LastLines(1)": client.LastLines(1), "LastLines(7)": client.LastLines(7),
	} {
		require.Equal(t, want, policy.String())
	}
	require.Equal(t, client.LastEvent, client.LastEvents(1))
	require.Zero(t, client.Off)
}

func TestBufferPolicyOfNothingPanics(t *testing.T) {
	for _, n := range []int{0, -1, math.MinInt} {
		require.PanicsWithValue(t, fmt.Sprintf("client: LastEvents(%d) must have a positive number; to keep nothing, use client.Off", n), func() { client.LastEvents(n) })
		require.PanicsWithValue(t, fmt.Sprintf("client: LastLines(%d) must have a positive number; to keep nothing, use client.Off", n), func() { client.LastLines(n) })
	}
}

// A session that does not open leaves the buffer of another session as it is.
func TestBufferOfAnErrorIsACopy(t *testing.T) {
	c := install(&http.Client{Transport: &bufferPipe{[]io.Reader{strings.NewReader("data: a\n\ndata: b\n\n")}}}, client.Config{BufferPolicy: client.LastEvent})
	s := session(t, c, "http://buffer.test/")
	boom := errors.New("boom")
	var e *client.Error
	err := c.SSE(context.Background(), "http://buffer.test/", func(*client.Session) error { return boom })
	require.ErrorAs(t, err, &e, "%v", err)
	events, err := collect(s)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, dataOf(events))
}
