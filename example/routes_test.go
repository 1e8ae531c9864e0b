package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The streams can be read as they are: curl gets them without compression.
func TestCurl(t *testing.T) {
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	get(t, p.url+"/hello")

	text := readUntil(t, rawGet(t, p.url, "/log"), "HTTP/1.1\"\nid: ")
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	assert.Contains(t, head, "HTTP/1.1 200 OK")
	assert.NotContains(t, head, "Content-Encoding")
	assert.Contains(t, text, "retry: 2000\n\n")
	assert.Regexp(t, `data: .* "GET /hello HTTP/1.1"\nid: $`, text)

	text = readUntil(t, rawGet(t, p.url, "/vitals"), "}\nid: ")
	assert.Contains(t, text, "event: host\ndata: {\"system\":")
	assert.Regexp(t, `event: vitals\ndata: {"time":".*Z","cpu":{.*\nid: $`, text)
}

func TestDropEndsTheStreamsOfOnePage(t *testing.T) {
	url := site(t, newLog(t, ""), noReading)
	mine := []*stream{dial(t, url+"/log?page=mine", ""), dial(t, url+"/vitals?page=mine", "")}
	theirs := dial(t, url+"/log?page=theirs", "")
	post := func(query string, header ...string) int {
		req, err := http.NewRequest(http.MethodPost, url+"/drop"+query, nil)
		require.NoError(t, err)
		if len(header) > 0 {
			req.Header.Set(header[0], header[1])
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	assert.Equal(t, http.StatusBadRequest, post(""))
	assert.Equal(t, http.StatusForbidden, post("?page=mine", "Sec-Fetch-Site", "cross-site"))
	assert.Equal(t, http.StatusNoContent, post("?page=nobody"))
	for range 3 {
		theirs.next() // the three requests; no stream has ended
	}
	assert.Equal(t, http.StatusNoContent, post("?page=mine"))
	for _, s := range mine {
		s.ended()
	}
	for range 3 {
		theirs.next() // the two streams and the request that closed them
	}
	theirs.quiet()
}
