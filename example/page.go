package main

import (
	"bytes"
	"embed"
	"html/template"
	"io/fs"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

// pageFiles holds the pages, their scripts, and their styles, as the browser gets them.
// index.html and chat.html are templates.
//
//go:embed page
var pageFiles embed.FS

// policy is the Content-Security-Policy of the pages. It lets a page load files from its
// own server and connect to it, and forbids everything else. Both pages show text that
// strangers have written, so nothing in that text may ever run.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pages adds the routes of the pages and their files. The page of the machine tells
// where the access log is. That of the chat tells whether the chat is kept in a file.
func pages(r chi.Router, logPath string, kept bool) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // only if the name is invalid
	}
	r = r.With(pageHeaders)
	for path, name := range map[string]string{"/": "index.html", "/chat": "chat.html"} {
		var text bytes.Buffer
		data := struct {
			LogPath string
			Kept    bool
		}{logPath, kept}
		if err := template.Must(template.ParseFS(files, name)).Execute(&text, data); err != nil {
			panic(err) // only if the template is wrong
		}
		r.Get(path, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(text.Bytes()))
		})
	}
	serve := http.FileServerFS(files).ServeHTTP
	for _, path := range []string{"/style.css", "/app.js", "/chat.js", "/took.js", "/icon.svg"} {
		r.Get(path, serve)
	}
}

// pageHeaders is middleware that sets the security headers of the pages, and has the
// browser ask for each file again.
func pageHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}
