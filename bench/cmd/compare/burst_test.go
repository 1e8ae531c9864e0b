//go:build linux

package main

import (
	"testing"
	"time"
)

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
				got[0] = want[0] // gathering takes an unknown number of events first
			}
			if got != want {
				t.Errorf("lost, duplicates, streams ended: got %v, want %v", got, want)
			}
		})
	}
}
