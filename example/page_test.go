package main

import (
	"html"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/chi-sse/sse/example/internal/page"
)

func TestPage(t *testing.T) {
	url := site(t, newLog(t, ""), noReading)
	for path, kind := range map[string]string{
		"/":          "text/html; charset=utf-8",
		"/style.css": "text/css; charset=utf-8",
		"/app.js":    "text/javascript; charset=utf-8",
		"/chat":      "text/html; charset=utf-8",
		"/chat.js":   "text/javascript; charset=utf-8",
		"/took.js":   "text/javascript; charset=utf-8",
		"/icon.svg":  "image/svg+xml",
	} {
		resp := get(t, url+path)
		assert.Equal(t, http.StatusOK, resp.StatusCode, path)
		assert.Equal(t, kind, resp.Header.Get("Content-Type"))
		assert.Equal(t, page.Policy, resp.Header.Get("Content-Security-Policy"))
		assert.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))
		assert.True(t, resp.Uncompressed || path == "/icon.svg", "%s must be compressed", path)
		assert.NotEmpty(t, resp.text)
	}
	for _, path := range []string{"/page/", "/main.go", "/index.html/", "/chat.html", "/nothing"} {
		assert.Equal(t, http.StatusNotFound, get(t, url+path).StatusCode, path)
	}
}

func TestPageTellsWhereTheLogIs(t *testing.T) {
	log := reopen(t, t.TempDir()+"/<b>&/access.log")
	page := get(t, site(t, log, noReading)+"/").text
	assert.Contains(t, page, "The log is kept when the server stops, and the next run appends to it.")
	assert.Contains(t, page, "<code>"+html.EscapeString(log.path())+"</code>")
	assert.True(t, filepath.IsAbs(log.path()))
}
