package sse

import (
	"net/http"
	"reflect"
	"strings"
	"sync"
)

// Compressors outside the plugin have seen the request before it, so only the response can
// keep them off: a Content-Encoding of identity makes them pass it on unchanged. It should not be
// sent otherwise (RFC 9110 §8.4.1).

// mayCompress reports whether w, or a writer that it wraps, may be a compressor. It reports
// false only if all of them are known, down to the server's own.
func mayCompress(w http.ResponseWriter) bool {
	for {
		t := reflect.TypeOf(w)
		if isServers(elem(t).PkgPath()) {
			return false
		}
		if !isPassive(t) {
			return true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return true
		}
		w = u.Unwrap()
	}
}

// isServers reports whether the writers of the package path are a server's own.
func isServers(path string) bool {
	return path == "net/http" || strings.HasPrefix(path, "net/http/") || path == "golang.org/x/net/http2"
}

// passive are the packages whose writers change no bytes, as far as their names are not in
// compressors.
var passive = map[string]bool{
	"github.com/alexedwards/scs/v2":                                 true,
	"github.com/felixge/httpsnoop":                                  true, // of otelhttp, gorilla/handlers and others
	"github.com/getsentry/sentry-go/internal/httputils":             true,
	"github.com/gin-gonic/gin":                                      true,
	"github.com/go-chi/chi/v5/middleware":                           true,
	"github.com/labstack/echo/v4":                                   true,
	"github.com/labstack/echo/v5":                                   true,
	"github.com/prometheus/client_golang/prometheus/promhttp":       true,
	"github.com/urfave/negroni":                                     true,
	"github.com/urfave/negroni/v3":                                  true,
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp": true,
}

// compressors are the names of the compressors in the packages that are passive otherwise.
var compressors = map[string]bool{"compressResponseWriter": true}

var passiveTypes sync.Map // reflect.Type -> bool

// isPassive reports whether a writer of the type t changes no bytes of a response. That is
// known of some packages, and of each type that has no place for an encoder.
func isPassive(t reflect.Type) bool {
	if known, ok := passiveTypes.Load(t); ok {
		return known.(bool)
	}
	is := passive[packageOf(t)] && !compressors[elem(t).Name()] || holdsNoEncoder(t)
	passiveTypes.Store(t, is)
	return is
}

// holdsNoEncoder reports whether t is a struct that has nothing but one ResponseWriter, with
// its other interfaces, and plain values, as a recorder of statuses and sizes has.
func holdsNoEncoder(t reflect.Type) bool {
	t = elem(t)
	if t.Kind() != reflect.Struct {
		return false
	}
	writers := 0
	for field := range t.Fields() {
		switch kind := field.Type.Kind(); {
		case kind == reflect.Interface && field.Type.Implements(responseWriterType):
			writers++
		case kind == reflect.Interface && field.Type.PkgPath() == "net/http": // Flusher, Hijacker and the like
		case kind >= reflect.Bool && kind <= reflect.Float64, kind == reflect.String:
		case field.Type == requestType, field.Type.PkgPath() == "time":
		default:
			return false
		}
	}
	return writers == 1
}

var (
	responseWriterType = reflect.TypeFor[http.ResponseWriter]()
	requestType        = reflect.TypeFor[*http.Request]()
)

// packageOf returns the path of the package that t is from. A struct without a name counts as
// from the package of its first field.
func packageOf(t reflect.Type) string {
	t = elem(t)
	for t.PkgPath() == "" && t.Kind() == reflect.Struct && t.NumField() > 0 {
		t = elem(t.Field(0).Type)
	}
	return t.PkgPath()
}

func elem(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}
