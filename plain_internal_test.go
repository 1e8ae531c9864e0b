package sse

import (
	"net/http"
	"runtime"
	"sync"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

// Nothing keeps a server that nobody uses any longer, nor its plugin.
func TestServeKeepsNoServer(t *testing.T) {
	t.Parallel()
	var ps pluginsOfServers
	var plugins []weak.Pointer[Plugin]
	func() {
		for range 100 {
			srv := new(http.Server)
			plugins = append(plugins, weak.Make(ps.of(srv)))
		}
	}()
	kept := ps.of(nil)
	testkit.Eventually(t, func() bool {
		runtime.GC()
		for _, p := range plugins {
			if p.Value() != nil {
				return false
			}
		}
		n := 0
		ps.known.Range(func(any, any) bool { n++; return true })
		return n == 1
	}, "the end of the plugins")
	require.Same(t, kept, ps.of(nil))
}

var globalServer http.Server

func TestServeHasOnePluginForEachServer(t *testing.T) {
	t.Parallel()
	var ps pluginsOfServers
	within := &struct {
		name string
		http.Server
	}{}
	servers := []*http.Server{nil, &globalServer, {}, &within.Server}
	all := make([][100]*Plugin, len(servers))
	var running sync.WaitGroup
	for i, srv := range servers {
		for j := range all[i] {
			running.Go(func() { all[i][j] = ps.of(srv) })
		}
	}
	running.Wait()
	seen := make(map[*Plugin]bool)
	for i := range all {
		for j := range all[i] {
			require.Same(t, all[i][0], all[i][j])
		}
		seen[all[i][0]] = true
	}
	require.Len(t, seen, len(servers))
	runtime.GC()
	require.Same(t, all[3][0], ps.of(&within.Server))
	runtime.KeepAlive(within)
}
