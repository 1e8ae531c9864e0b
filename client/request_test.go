// What a request looks like on the wire.

package client_test

import (
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

func TestRequestOfAStream(t *testing.T) {
	var l requestLog
	overEach(t, loggedStreams(&l, "data: x\n\n"), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL+"/a?b"))
		require.NoError(t, err)
		require.Equal(t, []string{"x"}, dataOf(events))
		got := l.last(t)
		require.Equal(t, "GET", got.Method)
		require.Equal(t, "/a?b", got.URI)
		require.Equal(t, requestAddr(srv), got.Host)
		require.Empty(t, got.Body)
		require.Zero(t, got.Length)
		require.Equal(t, http.Header{
			"Accept":          {"text/event-stream"},
			"Accept-Encoding": {"identity"},
			"Cache-Control":   {"no-cache"},
			"User-Agent":      got.Header["User-Agent"],
		}, got.Header)
	})
}

func TestRequestHasAContentLengthOnlyWithABody(t *testing.T) {
	for name, tt := range map[string]struct {
		options []client.Option
		want    []string
	}{
		"GET":                     {nil, nil},
		"GET without body":        {[]client.Option{client.WithBody("", nil)}, nil},
		"DELETE":                  {[]client.Option{client.WithMethod("DELETE")}, nil},
		"POST":                    {[]client.Option{client.WithBody("text/plain", strings.NewReader("12345"))}, []string{"5"}},
		"POST without body":       {[]client.Option{client.WithMethod("POST")}, []string{"0"}},
		"POST of unknown length":  {[]client.Option{client.WithBody("", onlyReader{strings.NewReader("12345")})}, nil},
		"length in a header, GET": {[]client.Option{client.WithHeader("Content-Length", "9")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			heads := make(chan http.Header, 1)
			lengths := make(chan int64, 1)
			url := serveRaw(t, func(conn net.Conn, r *http.Request) {
				heads <- r.Header
				lengths <- r.ContentLength
				_, _ = io.Copy(io.Discard, r.Body)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: x\n\n")
			})
			transport := new(http.Transport)
			defer transport.CloseIdleConnections()
			_, err := collect(session(t, install(&http.Client{Transport: transport}, client.Config{}), url, tt.options...))
			require.NoError(t, err)
			head, length := <-heads, <-lengths
			require.Equal(t, tt.want, head["Content-Length"])
			if tt.want != nil {
				require.Equal(t, tt.want[0], strconv.FormatInt(length, 10))
			}
		})
	}
}

func TestPostWithABodyAndItsType(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		send(w, "data: %s %s %d %s\n\n", r.Method, r.Header.Get("Content-Type"), r.ContentLength, body)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL,
			client.WithBody("application/json", strings.NewReader(`{"q":1}`))))
		require.NoError(t, err)
		require.Equal(t, []string{`POST application/json 7 {"q":1}`}, dataOf(events))
	})
}

func TestCookiesOfAJarDoNotPileUp(t *testing.T) {
	var l requestLog
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := l.add(r)
		http.SetCookie(w, &http.Cookie{Name: "n", Value: strconv.Itoa(n), Path: "/"})
		send(w, "id: %d\ndata: a\n\n", n)
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		hc := srv.Client()
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		u, err := url.Parse(srv.URL)
		require.NoError(t, err)
		jar.SetCookies(u, []*http.Cookie{{Name: "session", Value: "s"}})
		hc.Jar = jar
		before := len(l.all())
		s := session(t, install(hc, client.Config{MaxReconnectionAttempts: 9}), srv.URL, client.WithHeader("Cookie", "own=o"))
		n := 0
		for _, err := range s.Incoming() {
			require.NoError(t, err)
			if n++; n == 5 {
				break
			}
		}
		all := l.all()[before:]
		require.Len(t, all, 5)
		for i, r := range all {
			got := slices.Sorted(slices.Values(strings.Split(strings.Join(r.Header["Cookie"], "; "), "; ")))
			want := []string{"own=o", "session=s"}
			if i > 0 {
				want = []string{"n=" + strconv.Itoa(before+i), "own=o", "session=s"}
			}
			require.Equal(t, want, got)
		}
	})
}

func TestHeadersAreTheSameOnEachAttempt(t *testing.T) {
	var l requestLog
	srv := serve(t, loggedStreams(&l, "data: a\n\n", "data: b\n\n", ""))
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 3})
	_, err := collect(session(t, c, srv.URL,
		client.WithHeader("Authorization", "Bearer t"), client.WithHeader("X", "1"), client.WithHeader("X", "2")))
	require.NoError(t, err)
	all := l.all()
	require.Len(t, all, 3)
	require.Equal(t, []string{"Bearer t"}, all[0].Header["Authorization"])
	require.Equal(t, []string{"1", "2"}, all[0].Header["X"])
	for _, r := range all {
		require.Equal(t, all[0].Header, r.Header)
	}
}
