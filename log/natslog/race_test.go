//go:build race

package natslog

// raceEnabled says that the tests run with the race detector, with which a server needs five times
// the processor time.
const raceEnabled = true
