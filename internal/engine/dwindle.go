package engine

import "time"

const (
	dwindleStep  = 20 * time.Millisecond
	dwindleQuiet = 200 * time.Millisecond
	dwindleMost  = time.Second
)

// AwaitDwindling waits as long as left falls: until it is 0, until it has not fallen for 200
// ms, or for a second. A shutdown whose time has been used up by another lets its healthy
// clients leave in that way, and waits for no other.
func AwaitDwindling(left func() int) {
	began := time.Now()
	for n, fell := left(), began; n > 0; {
		time.Sleep(dwindleStep)
		now := time.Now()
		switch m := left(); {
		case m < n:
			n, fell = m, now
		case now.Sub(fell) >= dwindleQuiet:
			return
		}
		if now.Sub(began) >= dwindleMost {
			return
		}
	}
}
