package sse

import "net/http"

// writeHead writes the head of a stream. last says that the connection is not used again.
func writeHead(w http.ResponseWriter, r *http.Request, g *guard, last bool) {
	setStreamHeader(w.Header(), r, last)
	if g.mayBeCompressed(r) {
		w.Header().Set("Content-Encoding", "identity")
	}
	w.WriteHeader(http.StatusOK)
}

// setStreamHeader sets the header of every stream (WHATWG HTML §9.2.5, RFC 9111 §5.2.2),
// and removes what a middleware may have set for another body. last says that the
// connection is not used again (RFC 9112 §9.6).
func setStreamHeader(h http.Header, r *http.Request, last bool) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx
	if r.ProtoMajor == 1 && r.ProtoMinor >= 1 {
		h.Set("Connection", "keep-alive")
		if last {
			h.Set("Connection", "close")
		}
	} else {
		h.Del("Connection") // RFC 9113 §8.2.2; and HTTP/1.0 ends a stream by closing
	}
	for _, name := range [...]string{"Content-Length", "Content-Encoding", "Transfer-Encoding", "Trailer", "Etag", "Last-Modified", "Expires", "Pragma"} {
		h.Del(name)
	}
}
