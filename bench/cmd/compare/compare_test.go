//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

func find(t *testing.T, name string) library.Library {
	t.Helper()
	lib, ok := library.Find(name)
	if !ok {
		t.Fatalf("no %q", name)
	}
	return lib
}

// Every library passes the checks of what it can do, and loses nothing.
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

func TestEachCheckFindsAWrongEvent(t *testing.T) {
	for _, of := range []*discipline{encoding, decoding, reading, oneByOne} {
		t.Run(of.name, func(t *testing.T) {
			t.Parallel()
			err := of.check(t.Context(), find(t, "fake alters"))
			if err == nil || !strings.Contains(err.Error(), "abd") {
				t.Errorf("got %v", err)
			}
		})
	}
	err := checkEncode(library.Library{NewEncode: func() library.Encode {
		return func(m library.Message) ([]byte, error) {
			return fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n\ndata: x\n\n", m.ID, m.Name, m.Data), nil
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "which is 2 events") {
		t.Errorf("one event too many: %v", err)
	}
	err = checkDecode(library.Library{Decode: func(io.Reader, library.Sink) error { return nil }})
	if err == nil || err.Error() != "0 of 200 events came" {
		t.Errorf("no events: %v", err)
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

func TestProfile(t *testing.T) {
	folder := t.TempDir()
	w := encode(small, 20*time.Millisecond)
	ctx := withProfile(t.Context(), folder, cell{w.name, "fake right"})
	if _, err := w.run(ctx, find(t, "fake right")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(folder, "encode-100-fake-right.pprof")); err != nil || info.Size() == 0 {
		t.Errorf("%v %v", info, err)
	}
}

func TestAFurtherRunSaysWhatItHasReproduced(t *testing.T) {
	folder := t.TempDir()
	lib := find(t, "fake right")
	w := encode(small, 10*time.Millisecond)
	for i, want := range []string{"", "Of 2 medians, 0 differ by no more"} {
		c := &comparison{options: options{libraries: []library.Library{lib}, workloads: []workload{w}, reps: 1}, began: time.Now()}
		rate := float64(1000 * (i + 1))
		c.outcome = map[cell]*record{{w.name, lib.Name}: {samples: []report.Samples{{rate}, {rate}, {1}}}}
		if err := c.write(folder, c.tables()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(folder, "RESULTS.md"))
		if err != nil {
			t.Fatal(err)
		}
		if again := strings.Contains(string(text), "There was a run before"); again != (want != "") || !strings.Contains(string(text), want) {
			t.Errorf("run %d:\n%s", i+1, text)
		}
		if !strings.Contains(string(text), "(results/encode-100.svg)") {
			t.Error("no plot")
		}
	}
	if err := os.WriteFile(filepath.Join(folder, plotFolder, figureFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &comparison{options: options{reps: 1}}
	if err := c.write(folder, nil); err == nil || !strings.Contains(err.Error(), "figures of an earlier run") {
		t.Errorf("figures that are none: %v", err)
	}
}
