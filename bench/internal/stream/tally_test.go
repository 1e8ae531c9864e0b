package stream

import (
	"testing"
)

func TestTally(t *testing.T) {
	for _, c := range []struct {
		name                string
		seqs                []int
		missing, duplicates int
	}{
		{"all", []int{10, 11, 12, 13, 14}, 0, 0},
		{"none", nil, 5, 0},
		{"the end is missing", []int{10, 11}, 3, 0},
		{"the start is missing", []int{13, 14}, 3, 0},
		{"a gap", []int{10, 14}, 3, 0},
		{"a gap filled late", []int{10, 14, 12, 13, 11}, 0, 0},
		{"twice", []int{10, 11, 11, 12, 10, 13, 14}, 0, 2},
		{"a gap filled twice", []int{10, 13, 14, 12, 12}, 1, 1},
		{"an event from before the base", []int{10, 3, 11, 12, 13, 14}, 0, 1},
	} {
		var tally Tally
		tally.Start(10)
		for _, seq := range c.seqs {
			tally.Add(seq)
		}
		if m, d := tally.Missing(15), tally.Duplicates(); m != c.missing || d != c.duplicates {
			t.Errorf("%s: got %d missing and %d duplicates, want %d and %d", c.name, m, d, c.missing, c.duplicates)
		}
	}
}

func TestFloor(t *testing.T) {
	f := NewFloor(3, 10)
	for _, step := range []struct{ seq, want int }{
		{10, 10}, {11, 10}, {10, 10}, {12, 10}, {10, 11}, {11, 11}, {12, 11}, {11, 12}, {12, 13}, {9, 13},
	} {
		f.Add(step.seq)
		if f.Floor() != step.want {
			t.Fatalf("after event %d: got %d, want %d", step.seq, f.Floor(), step.want)
		}
	}
}
