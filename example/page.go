package main

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/go-chi/chi/v5"
)

// The pages are files that a browser takes as they are. The binary holds them.
//
//go:embed page
var pageFiles embed.FS

// policy lets a page load its own files, talk to its own server, and do nothing
// else: both show what strangers have written, so nothing in them may ever run.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pages serves the pages and their parts.
func pages(r chi.Router) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the name above is wrong
	}
	serve := http.FileServerFS(files).ServeHTTP
	r = r.With(pageHeaders)
	for _, path := range []string{"/", "/style.css", "/app.js", "/chat.js", "/icon.svg"} {
		r.Get(path, serve)
	}
	r.Get("/chat", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, files, "chat.html")
	})
}

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
