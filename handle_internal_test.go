package sse

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"weak"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

// Nothing keeps a plugin that nobody uses any longer, nor its routers.
func TestHandleKeepsNoPlugin(t *testing.T) {
	t.Parallel()
	var plugins []weak.Pointer[Plugin]
	var keys []uintptr
	var numbers []uint64
	func() {
		for range 100 {
			sub, deeper := chi.NewRouter(), chi.NewRouter()
			r := Install(chi.NewRouter(), Config{})
			sub.Mount("/deeper", deeper)
			r.Mount("/sub", sub)
			Handle(deeper.With(), "/", func(s *ServerSession) error { return s.Open() })
			rec := httptest.NewRecorder()
			r.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/sub/deeper", nil))
			require.Equal(t, ": open\n\n", rec.Body.String())
			plugins = append(plugins, weak.Make(r.plugin))
			for _, mux := range []*chi.Mux{r.Router.(*chi.Mux), sub, deeper} {
				key := keyOfMux(mux)
				knownMuxes.mu.Lock()
				keys, numbers = append(keys, key), append(numbers, knownMuxes.byKey[key].number)
				knownMuxes.mu.Unlock()
			}
		}
	}()
	testkit.Eventually(t, func() bool {
		runtime.GC()
		for _, p := range plugins {
			if p.Value() != nil {
				return false
			}
		}
		knownMuxes.mu.Lock()
		defer knownMuxes.mu.Unlock()
		for i, key := range keys {
			if e := knownMuxes.byKey[key]; e != nil && e.number == numbers[i] {
				return false
			}
		}
		return true
	}, "the end of the plugins")
}

// A mux at the address of one that is garbage is another one, and the cleanup of the old one, which
// may run late, leaves it alone.
func TestHandleKnowsAMuxAtTheAddressOfAnother(t *testing.T) {
	t.Parallel()
	m := muxes{byKey: make(map[uintptr]*muxEntry)}
	mux, p := chi.NewRouter(), new(Plugin)
	key := keyOfMux(mux)
	m.byKey[key] = &muxEntry{own: true} // its plugin is garbage
	require.True(t, m.add(mux, p, false))
	require.Same(t, p, m.plugin(mux))
	m.forget(key, 0)
	require.Same(t, p, m.plugin(mux))
	m.forget(key, 1)
	require.Nil(t, m.plugin(mux))
	runtime.KeepAlive(p)
}
