package sse

import (
	"encoding/binary"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"
)

// How a request and its route context are packed into a string: their fields in a fixed order,
// each text after its length, so that it may hold any byte.

// packCall packs r, and rctx, which may be nil.
func packCall(r *http.Request, rctx *chi.Context) string {
	p := packer{make([]byte, 0, 512)}
	p.route(rctx)
	p.request(r, rctx)
	return string(p.b)
}

type packer struct{ b []byte }

func (p *packer) number(n int) { p.b = binary.AppendUvarint(p.b, uint64(n)) }

func (p *packer) flags(flags ...bool) {
	n := 0
	for i, set := range flags {
		if set {
			n |= 1 << i
		}
	}
	p.number(n)
}

func (p *packer) text(texts ...string) {
	for _, text := range texts {
		p.number(len(text))
		p.b = append(p.b, text...)
	}
}

func (p *packer) list(list []string) {
	p.number(len(list))
	p.text(list...)
}

// route packs what URLParam and RoutePattern need.
func (p *packer) route(rctx *chi.Context) {
	p.flags(rctx != nil)
	if rctx == nil {
		return
	}
	p.text(rctx.RouteMethod)
	p.list(rctx.RoutePatterns)
	p.list(rctx.URLParams.Keys)
	p.list(rctx.URLParams.Values)
}

// request packs r after its route. What chi has set in r is the same as in rctx, and takes a byte.
func (p *packer) request(r *http.Request, rctx *chi.Context) {
	u := r.URL
	password, hasPassword := u.User.Password()
	p.flags(u.ForceQuery, u.OmitHost, r.Close, u.User != nil, hasPassword, r.Pattern == rctx.RoutePattern())
	p.text(r.Method, u.Scheme, u.Opaque, u.Host, u.Path, u.RawPath, u.RawQuery, u.Fragment, u.RawFragment)
	if u.User != nil {
		p.text(u.User.Username(), password)
	}
	p.text(r.Proto, r.Host, r.RequestURI, r.RemoteAddr)
	p.number(r.ProtoMajor)
	p.number(r.ProtoMinor)
	p.number(int(r.ContentLength + 1)) // -1: unknown
	p.list(r.TransferEncoding)
	p.number(len(r.Header))
	for name, values := range r.Header {
		p.text(name)
		p.list(values)
	}
	if r.Pattern != rctx.RoutePattern() {
		p.text(r.Pattern)
	}
	var values []string // pairs of a name and a path value
	for name, value := range pathParams(rctx, r.Pattern) {
		if got := r.PathValue(name); got != value {
			values = append(values, name, got)
		}
	}
	p.list(values)
}

// pathParams returns the names that the path values of a request may have, with the values that
// they have as a rule. (A request does not tell its names.) They are those of chi's parameters,
// and of the wildcards in the pattern of an http.ServeMux.
func pathParams(rctx *chi.Context, pattern string) map[string]string {
	params := make(map[string]string)
	for rest := pattern; ; {
		var name string
		var ok bool
		if _, rest, ok = strings.Cut(rest, "{"); !ok {
			break
		}
		if name, rest, ok = strings.Cut(rest, "}"); ok {
			name, _, _ = strings.Cut(name, ":")
			params[strings.TrimSuffix(name, "...")] = ""
		}
	}
	if rctx != nil {
		for i, name := range rctx.URLParams.Keys {
			params[name] = rctx.URLParams.Values[i]
		}
	}
	return params
}

// unpackRoute returns the route context that packCall has packed, or nil.
func unpackRoute(packed string) *chi.Context { return (&unpacker{packed}).route() }

// unpackRequest returns a new copy of the request that packCall has packed, without a body.
func unpackRequest(packed string) *http.Request {
	p := unpacker{packed}
	rctx := p.route()
	return p.request(rctx)
}

type unpacker struct{ rest string }

func (p *unpacker) number() (n int) {
	for shift := 0; ; shift += 7 {
		c := p.rest[0]
		p.rest = p.rest[1:]
		n |= int(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
}

func (p *unpacker) text() string {
	n := p.number()
	text := p.rest[:n]
	p.rest = p.rest[n:]
	return text
}

func (p *unpacker) list() []string {
	n := p.number()
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = p.text()
	}
	return list
}

func (p *unpacker) route() *chi.Context {
	if p.number() == 0 {
		return nil
	}
	rctx := chi.NewRouteContext()
	rctx.RouteMethod = p.text()
	rctx.RoutePatterns = p.list()
	rctx.URLParams.Keys, rctx.URLParams.Values = p.list(), p.list()
	return rctx
}

func (p *unpacker) request(rctx *chi.Context) *http.Request {
	flags := p.number()
	has := func(i int) bool { return flags&(1<<i) != 0 }
	r := &http.Request{Method: p.text(), Body: http.NoBody, Close: has(2)}
	r.URL = &url.URL{
		Scheme: p.text(), Opaque: p.text(), Host: p.text(), Path: p.text(), RawPath: p.text(), RawQuery: p.text(),
		Fragment: p.text(), RawFragment: p.text(), ForceQuery: has(0), OmitHost: has(1),
	}
	if has(3) {
		name, password := p.text(), p.text()
		if r.URL.User = url.User(name); has(4) {
			r.URL.User = url.UserPassword(name, password)
		}
	}
	r.Proto, r.Host, r.RequestURI, r.RemoteAddr = p.text(), p.text(), p.text(), p.text()
	r.ProtoMajor, r.ProtoMinor = p.number(), p.number()
	r.ContentLength = int64(p.number()) - 1
	r.TransferEncoding = p.list()
	n := p.number()
	r.Header = make(http.Header, n)
	for range n {
		name := p.text()
		r.Header[name] = p.list()
	}
	if r.Pattern = rctx.RoutePattern(); !has(5) {
		r.Pattern = p.text()
	}
	for name, value := range pathParams(rctx, r.Pattern) {
		if value != "" {
			r.SetPathValue(name, value)
		}
	}
	values := p.list()
	for i := 0; i < len(values); i += 2 {
		r.SetPathValue(values[i], values[i+1])
	}
	return r
}
