package elapsed

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                          "0.0 ms",
		340 * time.Microsecond:     "0.3 ms",
		9876 * time.Microsecond:    "9.9 ms",
		10 * time.Millisecond:      "10 ms",
		843_499 * time.Microsecond: "843 ms",
		9999 * time.Millisecond:    "9999 ms",
		10*time.Second - 1:         "10.0 s",
		10 * time.Second:           "10.0 s",
		12_345_678_901:             "12.3 s",
		90 * time.Second:           "90.0 s",
		10 * time.Minute:           "10.0 min",
		90 * time.Minute:           "90.0 min",
		25 * time.Hour:             "25.0 h",
	} {
		assert.Equal(t, want, Text(d), "%d ns", d)
	}
}
