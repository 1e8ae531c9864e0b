// Package elapsed formats how long something took, by the same rule in all of this
// module's programs. The pages do the same in JavaScript.
package elapsed

import (
	"fmt"
	"time"
)

// Text returns d with its unit: the largest of ms, s, min, and h of which d is at
// least ten, or ms if d is shorter. From 10 ms up, milliseconds are whole; every other
// number has one decimal:
//
//	0.2 ms   843 ms   9999 ms   12.3 s   599.9 s   62.1 min   25.0 h
func Text(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d.Round(time.Millisecond) < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < 10*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 10*time.Hour:
		return fmt.Sprintf("%.1f min", d.Minutes())
	default:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
}
