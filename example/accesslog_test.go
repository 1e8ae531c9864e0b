package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var linePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\d{3}) +(\d+) B +(?:\d+\.\d|\d+) (?:ms|s) 192\.0\.2\.1:1234 ("[[:print:]]+")$`)

func TestAccessLog(t *testing.T) {
	log := newLog(t, "")
	r := chi.NewRouter()
	r.Use(accessLog(log, slog.New(slog.DiscardHandler)), quietRecoverer)
	r.Get("/*", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
		case "/panic":
			panic("a panic of the handler")
		case "/abort":
			_, _ = fmt.Fprint(w, "half of i")
			panic(http.ErrAbortHandler)
		default:
			_, _ = fmt.Fprint(w, "hello")
		}
	})

	for _, test := range []struct{ method, target, want string }{
		{"GET", "/", `200 5 "GET / HTTP/1.1"`},
		{"GET", "/silent?a=b&c", `200 0 "GET /silent?a=b&c HTTP/1.1"`},
		{"POST", "/", `405 0 "POST / HTTP/1.1"`},
		{"GET", "/panic", `500 0 "GET /panic HTTP/1.1"`},
		{"GET", "/abort", `200 9 "GET /abort HTTP/1.1"`},
		{"GET", `/"><script>`, `200 5 "GET /\"><script> HTTP/1.1"`},
		{"GET", "/\u20ac\u2028\xff", `200 5 "GET /\u20ac\u2028\xff HTTP/1.1"`},
		{"GET", "/" + strings.Repeat("x", 5000), `200 5 "GET /` + strings.Repeat("x", maxTarget-1) + `... HTTP/1.1"`},
	} {
		before, _ := log.state()
		req := httptest.NewRequest(test.method, "/", nil)
		req.RequestURI = test.target
		req.URL.Path, _, _ = strings.Cut(test.target, "?")
		func() {
			defer func() { _ = recover() }() // as net/http does for ErrAbortHandler
			r.ServeHTTP(httptest.NewRecorder(), req)
		}()
		line := strings.TrimSuffix(read(t, log.file.Name())[before:], "\n")
		parts := linePattern.FindStringSubmatch(line)
		require.NotNil(t, parts, line)
		assert.Equal(t, test.want, strings.Join(parts[1:], " "))
	}
}

// quietRecoverer is chi's Recoverer, but prints no stack.
func quietRecoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				w.WriteHeader(http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// If a line cannot be written, the operator is told of it, and the client still gets its
// response.
func TestAccessLogThatFails(t *testing.T) {
	log := newLog(t, "")
	require.NoError(t, log.close())
	var logged strings.Builder
	h := accessLog(log, slog.New(slog.NewTextHandler(&logged, nil)))(http.HandlerFunc(hello))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/hello", nil))
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Contains(t, logged.String(), "a line could not be written to the access log")
}

// A stream gets its line when it has ended. The line has all the bytes that it sent.
func TestAccessLogOfAStream(t *testing.T) {
	log := newLog(t, "")
	url := site(t, log, noReading)
	conn := rawGet(t, url, "/log?mine")
	readUntil(t, conn, "id: 0\n\n")
	assert.Empty(t, read(t, log.file.Name()))
	get(t, url+"/hello")
	readUntil(t, conn, "/hello HTTP/1.1\"\nid: ")
	require.NoError(t, conn.Close())

	require.Eventually(t, func() bool {
		return strings.Contains(read(t, log.file.Name()), "/log?mine")
	}, patience, time.Millisecond)
	line := lines(read(t, log.file.Name()))[1]
	// the retry field, the first id, and one line of the log
	want := len("retry: 2000\n\nid: 0\n\n") + len("data: ") + len(lines(read(t, log.file.Name()))[0]) + len("\nid: 87\n\n")
	assert.Regexp(t, fmt.Sprintf(`Z 200 +%d B `, want), line)
}
