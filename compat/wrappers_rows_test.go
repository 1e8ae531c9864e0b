package compat

// This file defines the rows for libraries that applications put around or into a router. The
// table in docs/MIDDLEWARE.md is made of these rows.

import (
	"io"
	"log"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	sentryhttp "github.com/getsentry/sentry-go/http"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/httprate"
	"github.com/gorilla/handlers"
	"github.com/gorilla/mux"
	"github.com/justinas/nosurf"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/unrolled/secure"
	"github.com/urfave/negroni/v3"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
)

// library represents a library that wraps handlers.
type library struct {
	name string // as in the documents
	form string // how it is used
	use  func(http.Handler) http.Handler

	// Part of what http.Server logs if the library, around the router, recovers from the panic
	// that breaks a stream, and then writes a status.
	late string

	volatile []string // fields of the header that differ from one response to the next
}

func libraries() []library {
	gin.SetMode(gin.ReleaseMode)
	registry := prometheus.NewRegistry()
	return []library{
		{name: "otelhttp", form: "`NewMiddleware`", use: otelhttp.NewMiddleware("compat")},
		{name: "promhttp", form: "`InstrumentHandler…`", use: instrument(registry)},
		{name: "sentry-go", form: "`sentryhttp`, with `Repanic`", use: sentryhttp.New(sentryhttp.Options{Repanic: true}).Handle},
		{name: "alexedwards/scs", form: "`LoadAndSave`", use: sessions(), volatile: []string{"Set-Cookie"}},
		{name: "gin", form: "an engine with `WrapH`", use: ginEngine},
		{name: "echo", form: "an `Echo` with `WrapHandler`", use: echoServer},
		{name: "gorilla/mux", form: "`PathPrefix`, and a middleware", use: gorillaMux},
		{name: "gorilla/handlers", form: "`CombinedLoggingHandler`, `ProxyHeaders`, `RecoveryHandler`", use: gorillaHandlers, late: "gorilla/handlers"},
		{name: "negroni", form: "`Recovery` and `Logger`", use: negroniStack, late: "negroni"},
		{name: "httprate", form: "`LimitBy`", use: httprate.LimitBy(1_000_000, time.Minute, httprate.Key("*")), volatile: []string{"X-Ratelimit-Remaining", "X-Ratelimit-Reset"}},
		{name: "nosurf", form: "`New`", use: csrf, volatile: []string{"Set-Cookie"}},
		{name: "unrolled/secure", form: "`Handler`", use: secure.New(secure.Options{FrameDeny: true, ContentTypeNosniff: true}).Handler},
	}
}

func instrument(registry *prometheus.Registry) func(http.Handler) http.Handler {
	labels := []string{"code", "method"}
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests"}, labels)
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "duration"}, labels)
	size := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "size"}, labels)
	head := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "head"}, labels)
	running := prometheus.NewGauge(prometheus.GaugeOpts{Name: "running"})
	registry.MustRegister(counter, duration, size, head, running)
	return func(next http.Handler) http.Handler {
		next = promhttp.InstrumentHandlerTimeToWriteHeader(head, next)
		next = promhttp.InstrumentHandlerResponseSize(size, next)
		next = promhttp.InstrumentHandlerCounter(counter, next)
		next = promhttp.InstrumentHandlerDuration(duration, next)
		return promhttp.InstrumentHandlerInFlight(running, next)
	}
}

// sessions also stores something in the session of each request.
func sessions() func(http.Handler) http.Handler {
	manager := scs.New()
	return func(next http.Handler) http.Handler {
		return manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			manager.Put(r.Context(), "seen", true)
			next.ServeHTTP(w, r)
		}))
	}
}

func ginEngine(next http.Handler) http.Handler {
	engine := gin.New()
	engine.Use(gin.CustomRecoveryWithWriter(io.Discard, func(_ *gin.Context, v any) { panic(v) }))
	engine.Any("/*path", gin.WrapH(next))
	return engine
}

func echoServer(next http.Handler) http.Handler {
	e := echo.New()
	e.Any("/*", echo.WrapHandler(next))
	return e
}

func gorillaMux(next http.Handler) http.Handler {
	r := mux.NewRouter()
	r.Use(func(next http.Handler) http.Handler { return handlers.LoggingHandler(io.Discard, next) })
	r.PathPrefix("/").Handler(next)
	return r
}

func gorillaHandlers(next http.Handler) http.Handler {
	quiet := handlers.RecoveryLogger(log.New(io.Discard, "", 0))
	return handlers.CombinedLoggingHandler(io.Discard, handlers.ProxyHeaders(handlers.RecoveryHandler(quiet)(next)))
}

func negroniStack(next http.Handler) http.Handler {
	recovery := negroni.NewRecovery()
	recovery.Logger, recovery.PrintStack = log.New(io.Discard, "", 0), false
	logger := negroni.NewLogger()
	logger.ALogger = log.New(io.Discard, "", 0)
	n := negroni.New(recovery, logger)
	n.UseHandler(next)
	return n
}

// csrf asks nothing of the POST requests of the tests, which have no token.
func csrf(next http.Handler) http.Handler {
	h := nosurf.New(next)
	h.ExemptFunc(func(*http.Request) bool { return true })
	return h
}
