package report

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		samples Samples
		want    float64
	}{
		{Samples{3}, 3},
		{Samples{3, 1, 2}, 2},
		{Samples{4, 1, 3, 2}, 2.5},
		{Samples{inf, 1, 2}, 2},
		{Samples{inf, inf}, inf},
		{Samples{1, inf}, inf},
	} {
		if got := c.samples.Median(); got != c.want {
			t.Errorf("%v: got %v, want %v", c.samples, got, c.want)
		}
	}
	if got := (Samples{}).Median(); !math.IsNaN(got) {
		t.Errorf("no samples: got %v, want NaN", got)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, c := range []struct {
		sorted  []int64
		missing int
		p, want float64
	}{
		{hundred, 0, 0.5, 50},
		{hundred, 0, 0.99, 99},
		{hundred, 0, 1, 100},
		{hundred, 0, 0, 1},
		{hundred[:1], 0, 0.99, 1},
		{hundred[:99], 1, 0.99, 99},
		{hundred[:98], 2, 0.99, math.Inf(1)},
		{nil, 1, 0.5, math.Inf(1)},
	} {
		if got := Percentile(c.sorted, c.missing, c.p); got != c.want {
			t.Errorf("percentile %v of %d figures and %d missing: got %v, want %v", c.p, len(c.sorted), c.missing, got, c.want)
		}
	}
}

func TestFormat(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.0001: "<0.001", 0.0123: "0.012", 0.1234: "0.123", 1.005: "1.00", 9.999: "10.0", 12.34: "12.3",
		123.4: "123", 1234: "1,230", 1234567: "1,230,000", 999.9: "1,000", -1234: "-1,230", -123: "-123",
		math.Inf(1): "never",
	} {
		if got := Format(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}
