package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const three = "retry: 1\n\nid: 1\ndata: one\n\nevent: price\nid: 2\ndata: {\"eur\":1.50}\n\n: beat\n\nevent: \x1b[31m\ndata: a\ndata: b\n\n"

func TestEvents(t *testing.T) {
	t.Parallel()
	s := serve(t, events(three))
	exit, stdout, stderr := complete(t, s.URL)
	assert.Equal(t, 0, exit)
	assert.Equal(t, "TIME message id 1\none\n"+
		"TIME price id 2\n{\"eur\": 1.50}\n"+
		`TIME \x1b[31m id 2`+"\na\nb\n", stdout)
	assert.Equal(t, "* connected: 200 OK, HTTP/1.1\n"+
		"* ended by the server; retry in 100ms (attempt 1)\n"+
		"* ended by the server for good (204): 3 events, 18 B of data, LONG, 0 reconnections\n", stderr)
	assert.Equal(t, http.MethodGet, s.asked()[0].method)
	assert.NotContains(t, s.asked()[0].header, "Last-Event-Id")
	assert.Equal(t, "2", s.asked()[1].header.Get("Last-Event-ID"))
}

// An event is printed as soon as it is complete, not when the next one comes.
func TestEventsAreShownAtOnce(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"-data"}, {"-json"}} {
		p := begin(t, nil, append(flags, serve(t, held("data: now\n\n")).URL)...)
		p.out.await(t, "now")
		p.interrupt()
		assert.Equal(t, 130, p.end(t))
	}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		stream string
		flags  []string
		want   string
		tally  string
	}{
		{"by name", three, []string{"-e", "price"}, "TIME price id 2\n{\"eur\": 1.50}\n", "1 of 3 events, 12 B"},
		{"by names, data", three, []string{"-e", "price", "-event", "message", "-data"}, "one\n{\"eur\":1.50}\n", "2 of 3 events, 15 B"},
		{"by a name that none has", three, []string{"-e", "x"}, "", "0 of 3 events, 0 B"},
		{"data", three, []string{"-data"}, "one\n{\"eur\":1.50}\na\nb\n", "3 events, 18 B"},
		{
			"comments",
			three,
			[]string{"-comments", "-e", "price"},
			"TIME price id 2\n{\"eur\": 1.50}\nTIME : beat\n", "1 of 3 events, 12 B",
		},
		{
			"objects",
			three,
			[]string{"-json", "-comments"},
			`{"time":"TIME","event":"message","id":"1","data":"one"}` + "\n" +
				`{"time":"TIME","event":"price","id":"2","data":{"eur":1.50}}` + "\n" +
				`{"time":"TIME","comment":"beat"}` + "\n" +
				`{"time":"TIME","event":"\u001b[31m","id":"2","data":"a\nb"}` + "\n",
			"3 events, 18 B",
		},
		{"raw", "retry: 1\ndata: \x1b[31m\u202e\n\n", []string{"-data"}, "\x1b[31m\u202e\n", "1 event, 8 B"},
		{"not raw", "retry: 1\ndata: \x1b[31m\u202e\n\n", nil, "TIME message retry 1ms\n" + `\x1b[31m\u202e` + "\n", "1 event, 8 B"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			exit, stdout, stderr := complete(t, append(tt.flags, serve(t, events(tt.stream)).URL)...)
			assert.Equal(t, 0, exit)
			assert.Equal(t, tt.want, stdout)
			assert.Contains(t, stderr, ": "+tt.tally+" of data, ")
		})
	}
}

func TestCountEndsAnOpenStream(t *testing.T) {
	t.Parallel()
	exit, stdout, stderr := complete(t, "-n", "2", "-data", "-e", "a",
		serve(t, held("event: a\ndata: 1\n\ndata: other\n\nevent: a\ndata: 2\n\nevent: a\ndata: 3\n\n")).URL)
	assert.Equal(t, 0, exit)
	assert.Equal(t, "1\n2\n", stdout)
	assert.Equal(t, "* connected: 200 OK, HTTP/1.1\n* stopped by -n: 2 of 3 events, 2 B of data, LONG, 0 reconnections\n", stderr)
}

// A comment does not count as an event.
func TestCountIsOfEvents(t *testing.T) {
	t.Parallel()
	_, stdout, _ := complete(t, "-n", "1", "-json", "-comments", serve(t, held(": a\n\n: b\n\ndata: c\n\ndata: d\n\n")).URL)
	assert.Equal(t, 3, strings.Count(stdout, "\n"), "%s", stdout)
}

func TestLostStreamIsResumed(t *testing.T) {
	t.Parallel()
	s := serve(t, cut("retry: 1\nid: 7\ndata: a\n\n"), page(503, "text/plain", "soon"), events("id: 8\ndata: b\n\n"))
	exit, stdout, stderr := complete(t, "-data", "-id", "6", s.URL)
	assert.Equal(t, 0, exit)
	assert.Equal(t, "a\nb\n", stdout)
	assert.Equal(t, "* connected: 200 OK, HTTP/1.1, resumed after 6\n"+
		"* lost: unexpected EOF; retry in 100ms (attempt 1)\n"+
		"* no connection: expected status 200 but was 503; retry in 100ms (attempt 2)\n"+
		"  HTTP/1.1 503 Service Unavailable, text/plain\n  soon\n"+
		"* connected: 200 OK, HTTP/1.1, resumed after 7\n"+
		"* ended by the server; retry in 100ms (attempt 1)\n"+
		"* ended by the server for good (204): 2 events, 2 B of data, LONG, 1 reconnection\n", stderr)
	var ids []string
	for _, r := range s.asked() {
		ids = append(ids, r.header.Get("Last-Event-ID"))
	}
	assert.Equal(t, []string{"6", "7", "7", "8"}, ids)
}

func TestRetriesOfALostStream(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		retries string
		answers []answer
		exit    int
		want    string
		asked   int
	}{
		{"never, ended", "0", []answer{events("data: a\n\n")}, 0, "\n* ended by the server: 1 event, ", 1},
		{"never, lost", "0", []answer{cut("data: a\n\n")}, 4, "\n* lost: unexpected EOF\n* total: 1 event, ", 1},
		{
			"twice, lost", "2",
			[]answer{cut("retry: 1\ndata: a\n\n"), page(503, "text/plain", ""), page(502, "text/plain", "")},
			5, "(attempt 2)\n* gave up: expected status 200 but was 502, after 2 more attempts\n  HTTP/1.1 502 Bad Gateway, text/plain\n* total: 1 event, ", 3,
		},
		{
			"twice, empty", "2",
			[]answer{events("retry: 1\ndata: a\n\n"), events(""), events("")},
			5, "* gave up: the server ended the stream, 3 times in a row without an event\n", 3,
		},
		{"once, refused", "-1", []answer{cut("retry: 1\ndata: a\n\n"), page(404, "text/plain", "gone")}, 3, "\n* refused: expected status 200 but was 404 (use -retry-refused to go on)\n", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.answers...)
			exit, _, stderr := complete(t, "-retries", tt.retries, s.URL)
			assert.Equal(t, tt.exit, exit)
			assert.Contains(t, stderr, tt.want)
			assert.Len(t, s.asked(), tt.asked)
		})
	}
}

func TestFirstConnectionThatFailsIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	exit, stdout, stderr := complete(t, nobody(t))
	assert.Equal(t, 1, exit)
	assert.Empty(t, stdout)
	assert.Regexp(t, `^\* failed: dial tcp ADDR: .*refused.*\n$`, stderr)

	s := serve(t, page(503, "application/json", `{"error":{"message":"overloaded, please do come back at some other time","type":"server_error","code":null}}`))
	exit, _, stderr = complete(t, s.URL)
	assert.Equal(t, 3, exit)
	assert.Equal(t, `* refused: expected status 200 but was 503
  HTTP/1.1 503 Service Unavailable, application/json
  {
    "error": {
      "message": "overloaded, please do come back at some other time",
      "type": "server_error",
      "code": null
    }
  }
`, stderr)
	assert.Len(t, s.asked(), 1)
}

// nobody returns a URL at which no server listens until the test ends. The client's end of a
// connection has its port, so no other program can use it.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return "http://" + conn.LocalAddr().String()
}

func TestFirstConnectionIsTriedAgainIfAsked(t *testing.T) {
	t.Parallel()
	p := begin(t, nil, "-retries", "-1", nobody(t))
	p.err.await(t, "retry in ")
	p.interrupt()
	assert.Equal(t, 130, p.end(t))
	assert.Regexp(t, `^\* no connection: dial tcp ADDR: .*refused.*; retry in 3s \(attempt 1\)\n`+
		`\* interrupted: 0 events, 0 B of data, LONG, 0 reconnections\n$`, p.err.String())

	s := serve(t, page(503, "text/plain", ""), events("data: a\n\n"))
	exit, stdout, stderr := complete(t, "-retries", "1", "-n", "1", "-data", s.URL) // this takes the 3 seconds
	assert.Equal(t, 0, exit)
	assert.Equal(t, "a\n", stdout)
	assert.Contains(t, stderr, "retry in 3s (attempt 1)\n* connected: 200 OK, HTTP/1.1\n")
}

func TestPost(t *testing.T) {
	t.Parallel()
	echo := func(w http.ResponseWriter, r *http.Request) { events("data: hello\n\n")(w, r) }
	path := filepath.Join(t.TempDir(), "body")
	require.NoError(t, os.WriteFile(path, []byte("of a file"), 0o600))
	tests := []struct {
		name                   string
		flags                  []string
		method, mimeType, body string
	}{
		{"JSON", []string{"-d", `{"a":1}`}, "POST", "application/json", `{"a":1}`},
		{"text", []string{"-d", "a"}, "POST", "text/plain", "a"},
		{"file", []string{"-d", "@" + path}, "POST", "text/plain", "of a file"},
		{"stdin", []string{"-d", "@-"}, "POST", "text/plain", "typed"},
		{"empty", []string{"-d", ""}, "POST", "", ""},
		{"method", []string{"-d", "a", "-X", "PATCH"}, "PATCH", "text/plain", "a"},
		{"type", []string{"-d", "{}", "-H", "content-type: x/y"}, "POST", "x/y", "{}"},
		{"method alone", []string{"-X", "POST"}, "POST", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, echo)
			p := begin(t, strings.NewReader("typed"), append(tt.flags, "-data", "-H", "Authorization: Bearer x", "-H", "X: 1", "-H", "X: 2", s.URL)...)
			assert.Equal(t, 0, p.end(t))
			assert.Equal(t, "hello\n", p.out.String())
			assert.Equal(t, "* connected: 200 OK, HTTP/1.1\n* ended by the server: 1 event, 5 B of data, LONG, 0 reconnections\n", p.err.String())
			require.Len(t, s.asked(), 1, "the POST must not be repeated")
			got := s.asked()[0]
			assert.Equal(t, tt.method, got.method)
			assert.Equal(t, tt.body, got.body)
			assert.Equal(t, tt.mimeType, got.header.Get("Content-Type"))
			assert.Equal(t, "Bearer x", got.header.Get("Authorization"))
			assert.Equal(t, []string{"1", "2"}, got.header["X"])
		})
	}
}

func TestLostPostIsRepeatedOnlyIfAsked(t *testing.T) {
	t.Parallel()
	s := serve(t, cut("retry: 1\ndata: a\n\n"))
	exit, _, stderr := complete(t, "-d", "{}", s.URL)
	assert.Equal(t, 4, exit)
	assert.Contains(t, stderr, "\n* lost: unexpected EOF (-resend repeats the request)\n* total: 1 event, 1 B of data, ")
	assert.Len(t, s.asked(), 1)

	s = serve(t, cut("retry: 1\ndata: a\n\n"))
	exit, _, stderr = complete(t, "-d", "{}", "-resend", s.URL)
	assert.Equal(t, 0, exit)
	assert.Contains(t, stderr, "\n* lost: unexpected EOF; retry in 100ms (attempt 1)\n* ended by the server for good (204): ")
	require.Len(t, s.asked(), 2)
	assert.Equal(t, "{}", s.asked()[1].body)
}

func TestDone(t *testing.T) {
	t.Parallel()
	s := serve(t, held("data: a\n\ndata: [DONE]\n\ndata: b\n\n"))
	exit, stdout, stderr := complete(t, "-done", "[DONE]", "-data", "-e", "message", s.URL)
	assert.Equal(t, 0, exit)
	assert.Equal(t, "a\n", stdout)
	assert.Equal(t, "* connected: 200 OK, HTTP/1.1\n* ended with [DONE]: 1 event, 1 B of data, LONG, 0 reconnections\n", stderr)

	exit, stdout, stderr = complete(t, "-done", "[DONE]", "-data", "-d", "{}", serve(t, events("data: a\n\n")).URL)
	assert.Equal(t, 4, exit)
	assert.Equal(t, "a\n", stdout)
	assert.Contains(t, stderr, "\n* truncated: the stream ended before [DONE] (-resend repeats the request)\n* total: 1 event, ")
}

func TestNoContentEndsForGood(t *testing.T) {
	t.Parallel()
	exit, stdout, stderr := complete(t, serve(t).URL)
	assert.Equal(t, 0, exit)
	assert.Empty(t, stdout)
	assert.Equal(t, "* ended by the server for good (204): 0 events, 0 B of data, LONG, 0 reconnections\n", stderr)
}

func TestSilent(t *testing.T) {
	t.Parallel()
	exit, stdout, stderr := complete(t, "-s", "-data", serve(t, cut("retry: 1\ndata: a\n\n")).URL)
	assert.Equal(t, 0, exit)
	assert.Equal(t, "a\n", stdout)
	assert.Empty(t, stderr)
}

func TestIdleStreamIsBroken(t *testing.T) {
	t.Parallel()
	s := serve(t, held("retry: 1\nid: 1\ndata: a\n\n"), events("data: b\n\n"))
	exit, stdout, stderr := complete(t, "-idle-timeout", "300ms", "-n", "2", "-data", s.URL)
	assert.Equal(t, 0, exit)
	assert.Equal(t, "a\nb\n", stdout)
	assert.Contains(t, stderr, "\n* lost: nothing came for 300ms (-idle-timeout); retry in 100ms (attempt 1)\n* connected: 200 OK, HTTP/1.1, resumed after 1\n")

	exit, _, stderr = complete(t, "-idle-timeout", "300ms", "-retries", "0", serve(t, held("")).URL)
	assert.Equal(t, 4, exit)
	assert.Contains(t, stderr, "\n* lost: nothing came for 300ms (-idle-timeout)\n")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t, events("data: a\n\n"))
	s.EnableHTTP2 = true
	s.StartTLS()
	exit, stdout, stderr := complete(t, s.URL)
	assert.Equal(t, 1, exit)
	assert.Empty(t, stdout)
	assert.Regexp(t, `^\* failed: tls: .*certificate.* \(use -k to accept it anyway\)\n$`, stderr)
	assert.Empty(t, s.asked())

	exit, stdout, stderr = complete(t, "-k", "-n", "1", "-data", s.URL)
	assert.Equal(t, 0, exit)
	assert.Equal(t, "a\n", stdout)
	assert.Contains(t, stderr, "* connected: 200 OK, HTTP/2.0\n")

	exit, _, stderr = complete(t, strings.Replace(serve(t).URL, "http:", "https:", 1))
	assert.Equal(t, 1, exit)
	assert.Equal(t, "* failed: http: server gave HTTP response to HTTPS client (put http:// before the URL)\n", stderr)
}

func TestStdoutThatCannotBeWrittenTo(t *testing.T) {
	t.Parallel()
	follow := func(err error) (exit int, stderr string) {
		log := newScreen()
		stdout := writerFunc(func([]byte) (int, error) { return 0, err })
		exit = run(t.Context(), []string{"follow", serve(t, held("data: a\n\n")).URL}, nil, stdout, log)
		return exit, log.String()
	}
	const connected = "* connected: 200 OK, HTTP/1.1\n"
	for _, err := range []error{&os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}, io.ErrClosedPipe} {
		exit, stderr := follow(err)
		assert.Equal(t, 0, exit)
		assert.Equal(t, connected, stderr, "a reader that has left is not a failure")
	}
	exit, stderr := follow(errors.New("disk\nfull\x1b"))
	assert.Equal(t, 1, exit)
	assert.Equal(t, connected+`* failed: disk\nfull\x1b`+"\n", stderr)
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	tests := []struct {
		name   string
		answer answer
		await  string
		flags  []string
		tally  string
	}{
		{"in the stream", held("data: a\n\n"), "", nil, "1 event, 1 B"},
		{"between streams", cut("retry: 60000\ndata: a\n\n"), "retry in 1m0s", nil, "1 event, 1 B"},
		{
			"before the response",
			func(_ http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				<-r.Context().Done()
			},
			"", nil, "0 events, 0 B",
		},
		{"while stdin is read", nil, "", []string{"-d", "@-"}, "0 events, 0 B"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stdin, typing := io.Pipe()
			defer typing.Close()
			p := begin(t, stdin, append(tt.flags, serve(t, tt.answer).URL)...)
			switch tt.name {
			case "in the stream":
				p.out.await(t, "\na\n")
			case "before the response":
				<-asked
			case "while stdin is read":
				_, err := typing.Write([]byte("x"))
				require.NoError(t, err)
			default:
				p.err.await(t, tt.await)
			}
			p.interrupt()
			assert.Equal(t, 130, p.end(t))
			assert.True(t, strings.HasSuffix(p.err.String(), "* interrupted: "+tt.tally+" of data, LONG, 0 reconnections\n"), "%s", p.err)
		})
	}
}

func TestHeaderCanSetTheLastEventID(t *testing.T) {
	t.Parallel()
	s := serve(t)
	_, _, _ = complete(t, "-H", "Last-Event-ID: 5", s.URL)
	assert.Equal(t, []string{"5"}, s.asked()[0].header["Last-Event-Id"])
}
