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
		t.Fatalf("no %q", name)
	}
	return lib
}

// Every library passes the check and loses nothing.
func TestLibraries(t *testing.T) {
	for _, lib := range library.All() {
		if strings.HasPrefix(lib.Name, "fake ") && lib.Name != "fake right" {
			continue
		}
		t.Run(lib.Name, func(t *testing.T) {
			t.Parallel()
			if err := checked(t.Context(), lib); err != nil {
				t.Fatal(err)
			}
			workloads := []workload{burst(20, 200, time.Second)}
			if lib.Kind != library.Peer || lib.Name == "fake right" {
				workloads = append(workloads, full(20, 50*time.Millisecond), rate(20, 100, 100*time.Millisecond))
			}
			for _, w := range workloads {
				out, err := w.run(t.Context(), lib)
				if err != nil || out.trouble != "" {
					t.Errorf("%s: %v %s", w.name, err, out.trouble)
				}
				for i, column := range w.columns {
					if bad := column.Title == "lost" || column.Title == "twice" || column.Title == "streams ended"; bad != (out.figures[i] == 0) && !strings.HasPrefix(column.Title, "allocations") {
						t.Errorf("%s: %v of %s", w.name, out.figures[i], column.Title)
					}
				}
			}
		})
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	for name, want := range map[string]string{
		"fake alters": "abd",
		"fake swaps":  "in place of",
		"fake dies":   "of its own accord",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := checked(t.Context(), find(t, name)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestBurstCountsWhatIsLostAndWhatComesTwice(t *testing.T) {
	for name, want := range map[string][3]float64{
		"fake drops":   {20, 0, 0},
		"fake repeats": {0, 20, 0},
		"fake closes":  {200 - 30, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := burst(10, 200, 300*time.Millisecond).run(t.Context(), find(t, name))
			if err != nil {
				t.Fatal(err)
			}
			got := [3]float64(out.figures[:3])
			if name == "fake closes" && want[0]-5 <= got[0] && got[0] <= want[0]+5 {
				got[0] = want[0] // how many the gathering took is not known
			}
			if got != want {
				t.Errorf("lost, twice, ended: got %v, want %v", got, want)
			}
		})
	}
}

func TestFullRateFailsWhenAStreamEnds(t *testing.T) {
	_, err := full(10, time.Minute).run(t.Context(), find(t, "fake closes"))
	if err == nil || !strings.Contains(err.Error(), "1 streams ended") {
		t.Errorf("got %v", err)
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
		t.Errorf("after %v", d)
	}
}
