package sse

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
)

// call is the request of a session, and the parent of the session's context. It has the
// values of the request's context but not its end. Its route context is a copy, because chi
// uses the request's own again for another request.
//
// A hub packs the calls of the sessions that it serves: the request with its header, and for
// a detached session the contexts, would be most of what an idle session holds. Each reader
// of a packed call gets a new copy of what was packed.
type call struct {
	live   atomic.Pointer[liveCall] // nil if the call is packed
	packed packedCall
}

type liveCall struct {
	request *http.Request
	route   *chi.Context    // nil if chi has not routed the request
	values  context.Context // the request's context without its end
}

// packedCall is a request and its route context in one string.
type packedCall struct {
	text   string // sections of fields: the request with its header; chi's patterns; chi's method and parameters
	tls    *tls.ConnectionState
	values context.Context // nil for a detached session
}

// init makes c the call of r. The caller sets the request of the liveCall that init returns.
// It needs the session's context, which cannot exist before its parent c.
func (c *call) init(r *http.Request) *liveCall {
	live := &liveCall{request: r, values: context.WithoutCancel(r.Context())}
	if rctx := chi.RouteContext(r.Context()); rctx != nil {
		live.route = rctx.Clone()
	}
	c.live.Store(live)
	return live
}

func (c *call) Deadline() (deadline time.Time, ok bool) { return deadline, false }
func (c *call) Done() <-chan struct{}                   { return nil }
func (c *call) Err() error                              { return nil }

func (c *call) Value(key any) any {
	live := c.live.Load()
	switch {
	case live == nil && key == chi.RouteCtxKey:
		return c.packed.routeContext()
	case live == nil && c.packed.values == nil:
		return nil
	case live == nil:
		return c.packed.values.Value(key)
	case live.route != nil && key == chi.RouteCtxKey:
		return live.route
	}
	return live.values.Value(key)
}

// request returns the request with the context ctx, which is a child of c.
func (c *call) request(ctx context.Context) *http.Request {
	if live := c.live.Load(); live != nil {
		return live.request
	}
	return c.packed.request().WithContext(ctx)
}

// pack drops everything that can be made again from a string. With keepValues it keeps the
// values of the request's context.
func (c *call) pack(keepValues bool) {
	live := c.live.Load()
	if live == nil {
		return
	}
	r := live.request
	fields := []string{r.Method, r.URL.Scheme, r.URL.Host, r.URL.EscapedPath(), r.URL.RawQuery, r.Proto, r.Host, r.RequestURI, r.RemoteAddr}
	for name, values := range r.Header {
		for _, value := range values {
			fields = append(fields, name, value)
		}
	}
	sections := []string{join(fields)}
	if rctx := live.route; rctx != nil {
		params := []string{rctx.RouteMethod}
		for i, key := range rctx.URLParams.Keys {
			params = append(params, key, rctx.URLParams.Values[i])
		}
		sections = append(sections, join(rctx.RoutePatterns), join(params))
	}
	values := live.values
	if !keepValues {
		values = nil
	}
	c.packed = packedCall{text: strings.Join(sections, sectionEnd), tls: r.TLS, values: values}
	c.live.Store(nil)
}

const (
	fieldEnd   = "\x00" // net/http allows it in no field
	sectionEnd = "\x00\x00\x00"
)

// join joins fields. It marks the beginning of each, so that empty fields do not look like
// the end of a section.
func join(fields []string) string {
	quoted := make([]string, len(fields))
	for i, field := range fields {
		quoted[i] = "=" + strings.ReplaceAll(field, fieldEnd, "")
	}
	return strings.Join(quoted, fieldEnd)
}

// section returns the fields of the i-th section, if there is one.
func (p *packedCall) section(i int) []string {
	for n, section := range strings.Split(p.text, sectionEnd) {
		if n == i {
			fields := strings.Split(section, fieldEnd)
			for i := range fields {
				fields[i] = strings.TrimPrefix(fields[i], "=")
			}
			return fields
		}
	}
	return nil
}

func (p *packedCall) request() *http.Request {
	f := p.section(0)
	uri := f[3]
	if f[4] != "" {
		uri += "?" + f[4]
	}
	u, err := url.ParseRequestURI(uri)
	if err != nil { // "*", or a path that a middleware has set
		u = &url.URL{Path: f[3], RawQuery: f[4]}
	}
	u.Scheme, u.Host = f[1], f[2]
	r := &http.Request{
		Method: f[0], URL: u, Proto: f[5], Host: f[6], RequestURI: f[7], RemoteAddr: f[8],
		Header: make(http.Header), Body: http.NoBody, TLS: p.tls,
	}
	r.ProtoMajor, r.ProtoMinor, _ = http.ParseHTTPVersion(r.Proto)
	for pair := range slices.Chunk(f[9:], 2) {
		r.Header[pair[0]] = append(r.Header[pair[0]], pair[1])
	}
	return r
}

func (p *packedCall) routeContext() *chi.Context {
	patterns, params := p.section(1), p.section(2)
	if params == nil { // chi has not routed the request
		return nil
	}
	rctx := chi.NewRouteContext()
	rctx.RouteMethod = params[0]
	if patterns[0] != "" || len(patterns) > 1 {
		rctx.RoutePatterns = patterns
	}
	for pair := range slices.Chunk(params[1:], 2) {
		rctx.URLParams.Add(pair[0], pair[1])
	}
	return rctx
}
