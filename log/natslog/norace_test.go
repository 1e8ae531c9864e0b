//go:build !race

package natslog

// raceEnabled says that the tests run with the race detector.
const raceEnabled = false
