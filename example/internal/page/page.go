// Package page has the pages, and serves them.
package page

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

// files holds the pages, their scripts, and their styles, as the browser gets them. index.html
// and chat.html are templates of Data.
//
//go:embed *.html *.js *.css *.svg
var files embed.FS

// Policy is the Content-Security-Policy of the pages. It lets a page load files from its
// own server and connect to it, and forbids everything else. Both pages show text that
// strangers have written, so nothing in that text may ever run.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Data is what the pages tell.
type Data struct {
	LogPath string // where the access log is
	Kept    bool   // whether the chat continues after the server restarts
	Nodes   bool   // whether several nodes serve the chat; there is no page of the machine then
}

// Routes adds the routes of the pages, each a file by its path, and of their other files.
func Routes(r chi.Router, pages map[string]string, data Data) {
	r = r.With(pageHeaders)
	for path, name := range pages {
		var text bytes.Buffer
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
		h.Set("Content-Security-Policy", Policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}
