package sse

import (
	"net/http"
	"slices"
	"strings"
)

// writeHead writes the head of a stream. last says that the connection is not used again. It
// returns last, or true if the handler has set "Connection: close". It fails if nothing passes g
// any longer.
func writeHead(w http.ResponseWriter, r *http.Request, g *guard, last bool) (bool, error) {
	h := w.Header()
	if !g.enter() {
		return last, errSealed
	}
	last = setStreamHeader(h, r, last)
	if g.mayBeCompressed(w, r) {
		h.Set("Content-Encoding", "identity")
	}
	g.leave()
	w.WriteHeader(http.StatusOK)
	return last, nil
}

// setStreamHeader sets the header of every stream (WHATWG HTML §9.2.5, RFC 9111 §5.2.2),
// and removes what a middleware may have set for another body. last says that the
// connection is not used again (RFC 9112 §9.6). It is also not used again if the header says so
// already, which setStreamHeader returns.
//
// It does without the methods of http.Header, which check each name and allocate each value:
// with them it took an eighth of an opening.
func setStreamHeader(h http.Header, r *http.Request, last bool) bool {
	if len(h) > 0 {
		last = last || slices.ContainsFunc(h["Connection"], func(v string) bool { return strings.EqualFold(v, "close") })
		for _, name := range [...]string{
			"Connection", // RFC 9113 §8.2.2; and HTTP/1.0 ends a stream by closing
			"Content-Length", "Content-Encoding", "Transfer-Encoding", "Trailer", "Etag", "Last-Modified", "Expires", "Pragma",
		} {
			delete(h, name)
		}
	}
	values := []string{"text/event-stream", "no-store, no-transform", "no", "keep-alive"}
	h["Content-Type"] = values[0:1:1]
	h["Cache-Control"] = values[1:2:2]
	h["X-Accel-Buffering"] = values[2:3:3] // nginx
	if r.ProtoMajor == 1 && r.ProtoMinor >= 1 {
		if last {
			values[3] = "close"
		}
		h["Connection"] = values[3:4:4]
	}
	return last
}

// savedHeader is a copy of a header for which few ask. To make it takes less time than
// http.Header.Clone, which was an eighth of an opening, and half the memory.
type savedHeader struct{ fields []headerField }

type headerField struct {
	name   string
	values []string
}

func saveHeader(h http.Header) *savedHeader {
	fields := make([]headerField, 0, len(h))
	all := make([]string, 0, len(h)) // most fields have one value
	for name, values := range h {
		n := len(all)
		all = append(all, values...)
		fields = append(fields, headerField{name, all[n:]})
	}
	return &savedHeader{fields}
}

// header returns the copy, which is empty if s is nil.
func (s *savedHeader) header() http.Header {
	if s == nil {
		return http.Header{}
	}
	h := make(http.Header, len(s.fields))
	for _, f := range s.fields {
		h[f.name] = f.values
	}
	return h
}
