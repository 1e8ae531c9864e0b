//go:build linux

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
)

func find(t *testing.T, name string) library.Library {
	t.Helper()
	lib, ok := library.Find(name)
	if !ok {
		t.Fatalf("library %q does not exist", name)
	}
	return lib
}

// Every library passes the checks of what it can do and loses nothing.
func TestLibraries(t *testing.T) {
	for _, lib := range library.All() {
		if strings.HasPrefix(lib.Name, "fake ") && lib.Name != "fake right" {
			continue
		}
		t.Run(lib.Name, func(t *testing.T) {
			t.Parallel()
			for _, of := range disciplines {
				if !of.can(lib) {
					continue
				}
				if err := of.check(t.Context(), lib); err != nil {
					t.Errorf("%s: %v", of.name, err)
				}
			}
			const d = 50 * time.Millisecond
			workloads := []workload{burst(20, 200, time.Second), encode(small, d), decode(pages, d), read(small, d), send(d)}
			if lib.Kind != library.Peer || lib.Name == "fake right" {
				workloads = append(workloads, full(20, d), rate(20, 100, 2*d))
			}
			for _, w := range workloads {
				if !w.takes(lib) {
					continue
				}
				out, err := w.run(t.Context(), lib)
				if err != nil || out.trouble != "" {
					t.Errorf("%s: %v %s", w.name, err, out.trouble)
					continue
				}
				for i, column := range w.columns {
					if bad := column.Title == "lost" || column.Title == "duplicates" || column.Title == "streams ended"; bad != (out.figures[i] == 0) && !strings.HasPrefix(column.Title, "allocations") {
						t.Errorf("%s: got %v in column %q", w.name, out.figures[i], column.Title)
					}
				}
			}
		})
	}
}

func TestALibraryThatHangsIsEnded(t *testing.T) {
	began := time.Now()
	err := within(t.Context(), 300*time.Millisecond, func(ctx context.Context) error {
		_, err := full(10, time.Second).run(ctx, find(t, "fake hangs"))
		return err
	})
	if err == nil || err.Error() != "not done in 300ms" {
		t.Errorf("got %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("took %v, want at most 5s", d)
	}
}
