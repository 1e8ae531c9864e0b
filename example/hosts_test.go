package main

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/guard"
)

func TestHosts(t *testing.T) {
	o := options{addr: "127.0.0.2:0", logPath: t.TempDir() + "/access.log"}
	for _, host := range []string{"mybox:8081", "chat.example", "[2001:DB8::1]"} {
		require.NoError(t, o.hosts.Set(host))
	}
	p := runOptions(t, o)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	for host, want := range map[string]int{
		"localhost:" + port:                 http.StatusOK,
		"LocalHost:" + port:                 http.StatusOK,
		"127.0.0.1:" + port:                 http.StatusOK,
		"[::1]:" + port:                     http.StatusOK,
		"127.0.0.2:" + port:                 http.StatusOK, // of -addr
		"mybox:8081":                        http.StatusOK, // of -host
		"MyBox:8081":                        http.StatusOK,
		"chat.example":                      http.StatusOK,
		"chat.example:80":                   http.StatusOK,
		"[2001:db8::1]":                     http.StatusOK,
		"localhost":                         http.StatusMisdirectedRequest, // this is port 80
		"localhost:1":                       http.StatusMisdirectedRequest,
		"127.0.0.3:" + port:                 http.StatusMisdirectedRequest,
		"mybox:" + port:                     http.StatusMisdirectedRequest,
		"chat.example:" + port:              http.StatusMisdirectedRequest,
		"foreign.example:" + port:           http.StatusMisdirectedRequest,
		"localhost.foreign.example:" + port: http.StatusMisdirectedRequest,
	} {
		for _, path := range []string{"/", "/chat", "/hello", "/log", "/vitals", "/chat/events", "/nothing"} {
			status, body := getAs(t, p.url+path, host)
			if want == http.StatusOK && path == "/nothing" {
				assert.Equal(t, http.StatusNotFound, status, "%s for %s", path, host)
				continue
			}
			assert.Equal(t, want, status, "%s for %s", path, host)
			if want == http.StatusMisdirectedRequest {
				assert.Contains(t, body, `this server does not answer for the host "`+host+`", only for 127.0.0.1:`+port+", ")
				assert.Contains(t, body, "-host")
			}
		}
	}
}

// getAs requests url with host as its Host. It returns the status and, unless that is 200, the
// body.
func getAs(t *testing.T, url, host string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return resp.StatusCode, "" // it may be a stream, which has no end
	}
	return resp.StatusCode, readAll(t, resp.Body)
}

// A server that listens on all addresses answers for the one that the client has connected to.
func TestHostsOfAllAddresses(t *testing.T) {
	p := runProgram(t, "0.0.0.0:0", t.TempDir()+"/access.log")
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	for host, want := range map[string]int{
		"127.0.0.2:" + port:       http.StatusOK,
		"127.0.0.3:" + port:       http.StatusMisdirectedRequest,
		"0.0.0.0:" + port:         http.StatusOK,
		"foreign.example:" + port: http.StatusMisdirectedRequest,
	} {
		status, _ := getAs(t, "http://127.0.0.2:"+port+"/hello", host)
		assert.Equal(t, want, status, host)
	}
}

func TestHostsOfHTTP2AndHTTP10(t *testing.T) {
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	for host, want := range map[string]int{"": http.StatusOK, "foreign.example": http.StatusMisdirectedRequest} {
		req, err := http.NewRequest(http.MethodGet, p.url+"/hello", nil)
		require.NoError(t, err)
		req.Host = host
		resp, err := (&http.Client{Transport: transport}).Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, 2, resp.ProtoMajor)
		assert.Equal(t, want, resp.StatusCode)
	}

	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("GET /hello HTTP/1.0\r\n\r\n"))
	require.NoError(t, err)
	assert.Contains(t, readAll(t, conn), " 421 ", "a request without a Host is refused")
}

func TestHostsFlag(t *testing.T) {
	var h guard.Hosts
	for _, host := range []string{"", "http://mybox:8080", "mybox:8080/", "my box"} {
		require.ErrorContains(t, h.Set(host), "must be a host and its port as in a URL", host)
	}
	require.NoError(t, h.Set("mybox:8080"))
	require.NoError(t, h.Set("chat.example"))
	assert.Equal(t, "mybox:8080, chat.example", h.String())
}
