package sse

import (
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"weak"

	"github.com/go-chi/chi/v5"
)

// SSE routes on chi's own routers. chi does not tell which router a nested one belongs to. So the
// plugin notes the routers that it is installed on, and those that are mounted on them. To search
// the routes of all plugins instead would be a data race with the goroutines that are adding some.

// Handle adds a route at pattern to r, as [Router.SSE] does. r may be any router of an installed
// one: the router itself, those that its With, Route and Group return or pass on, and those that
// are mounted on one of these. See [From].
//
// Handle panics if r has no plugin, or if h is nil.
func Handle(r chi.Router, pattern string, h Handler, opts ...RouteOption) {
	From(r).SSE(pattern, h, opts...)
}

// From returns r as a Router. r is one of these:
//
//   - a Router, also as the plain chi.Router that Route, Group and With return or pass on
//   - the chi.Mux on which [Install] has installed the plugin
//   - a chi.Mux that is mounted by [Router.Mount], or was mounted on such a one before that
//   - what With and Group of such a chi.Mux return or pass on
//
// If a router with a plugin is mounted on another one, what is mounted on the inner one belongs to
// the inner plugin. Otherwise From panics. So mount a router before you add SSE routes to it. And
// because chi's own Route mounts a router only when its function has returned, call
// From(r).Route in place of r.Route on a chi.Mux.
func From(r chi.Router) *Router {
	switch r := r.(type) {
	case *Router:
		return r
	case *chi.Mux:
		if p := knownMuxes.plugin(r); p != nil {
			return &Router{Router: r, plugin: p}
		}
	}
	panic(noPlugin(r))
}

// noPlugin is the text of a panic.
func noPlugin(r chi.Router) string {
	return fmt.Sprintf("sse: no plugin on this router (%T); make this router, or the one around it, with sse.Install(r, sse.Config{}), "+
		"and mount this one, by Mount of the sse.Router, before SSE routes are added to it", r)
}

// muxes are the chi.Muxes that have a plugin, until they are garbage.
type muxes struct {
	mu    sync.Mutex
	last  uint64                // number of a muxEntry
	byKey map[uintptr]*muxEntry // see keyOfMux
}

type muxEntry struct {
	number uint64
	plugin weak.Pointer[Plugin]
	own    bool // the plugin is installed here
	shared bool // other plugins have it too
}

var knownMuxes = muxes{byKey: make(map[uintptr]*muxEntry)}

// keyOfMux returns what is the same for a mux and what its With and Group make: the address of their
// tree. If chi has no such field any longer, it is the mux's own.
func keyOfMux(mux *chi.Mux) uintptr {
	v := reflect.ValueOf(mux)
	if tree := v.Elem().FieldByName("tree"); tree.Kind() == reflect.Pointer {
		return tree.Pointer()
	}
	return v.Pointer()
}

// plugin returns the plugin that mux has, or nil.
func (m *muxes) plugin(mux *chi.Mux) *Plugin {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byKey[keyOfMux(mux)]
	if e == nil {
		return nil
	}
	if e.shared {
		panic("sse: this router is mounted on routers of two plugins; mount SSEHandler of the one that the sessions belong to")
	}
	return e.plugin.Value()
}

// add notes that mux has the plugin p. own says that p is installed there. It returns false if mux
// has a plugin of its own.
func (m *muxes) add(mux *chi.Mux, p *Plugin, own bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	key, plugin := keyOfMux(mux), weak.Make(p)
	if e := m.byKey[key]; e != nil && e.plugin.Value() != nil { // otherwise it is of a mux that was at the same address
		e.shared = e.shared || !e.own && e.plugin != plugin
		return !e.own
	}
	m.last++
	number := m.last
	m.byKey[key] = &muxEntry{number: number, plugin: plugin, own: own}
	runtime.AddCleanup(mux, func(key uintptr) { m.forget(key, number) }, key)
	return true
}

// forget removes the entry with the number.
func (m *muxes) forget(key uintptr, number uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byKey[key]; e != nil && e.number == number {
		delete(m.byKey, key)
	}
}

// addMounted notes that what is mounted has the plugin p, and all that is mounted on it.
func (m *muxes) addMounted(mounted any, p *Plugin) {
	routes, ok := mounted.(chi.Routes)
	if !ok {
		return
	}
	if mux, ok := mounted.(*chi.Mux); ok && !m.add(mux, p, false) {
		return
	}
	for _, r := range routes.Routes() {
		if r.SubRoutes != nil {
			m.addMounted(r.SubRoutes, p)
		}
	}
}
