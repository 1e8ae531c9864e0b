package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOwnPagesOnly(t *testing.T) {
	for _, test := range []struct {
		name, fetchSite, origin string
		allowed                 bool
	}{
		{"curl", "", "", true},
		{"own page", "same-origin", "own", true},
		{"own page, without Sec-Fetch-Site", "", "own", true},
		{"typed address", "none", "", true},
		{"other site", "cross-site", "http://foreign.example", false},
		{"other site, without Origin", "cross-site", "", false},
		{"other site, without Sec-Fetch-Site", "", "http://foreign.example", false},
		{"other port", "same-site", "http://127.0.0.1:1", false},
		{"other port, without Sec-Fetch-Site", "", "http://127.0.0.1:1", false},
		{"sandboxed page", "cross-site", "null", false},
		{"sandboxed page, without Sec-Fetch-Site", "", "null", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			site, c := chatSite(t, true)
			before := c.Hub().Position()
			for _, request := range []struct {
				method, path, body string
				want               int // if the request is allowed
			}{
				{"GET", "/chat/events?name=Teal+Otter", "", http.StatusOK},
				{"GET", "/chat/events", "", http.StatusOK},
				{"HEAD", "/chat/events", "", http.StatusOK},
				{"POST", "/chat/messages", "name=Teal+Otter&text=Hello", http.StatusCreated},
				{"POST", "/chat/cut", "key=none", http.StatusNotFound},
				{"POST", "/drop?page=none", "", http.StatusNoContent},
				{"GET", "/chat", "", http.StatusOK}, // a page of another site may link to it
			} {
				req, err := http.NewRequest(request.method, site+request.path, strings.NewReader(request.body))
				require.NoError(t, err)
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if test.fetchSite != "" {
					req.Header.Set("Sec-Fetch-Site", test.fetchSite)
				}
				if test.origin != "" {
					req.Header.Set("Origin", strings.Replace(test.origin, "own", site, 1))
				}
				resp, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				if test.allowed || request.path == "/chat" {
					assert.Equal(t, request.want, resp.StatusCode, request.path)
				} else {
					if assert.Equal(t, http.StatusForbidden, resp.StatusCode, request.path) && request.method != "HEAD" {
						assert.Contains(t, readAll(t, resp.Body), "a page of another origin has sent this request")
					}
					assert.Equal(t, before, c.Hub().Position(), "nobody may have joined or posted")
				}
				require.NoError(t, resp.Body.Close())
			}
		})
	}
}
