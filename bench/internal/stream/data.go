// Package stream counts the events that arrive on many connections, as cheaply as it
// can: the load generator must cost less than the server it measures. It does not
// read event streams by the specification; it looks for the sequence number that
// each event of the benchmark carries.
package stream

import (
	"strconv"
	"strings"
)

// marker stands before the sequence number of an event, and nowhere else.
const marker = '~'

// digits is the length of a sequence number, which is below limit.
const (
	digits = 8
	limit  = 100_000_000
)

// Data returns the data of event seq, of size bytes and not below nine. The number
// comes last, so that an event counts as received when nearly all of it is. It
// allocates once: what a library allocates is counted with it.
func Data(seq, size int) string {
	var b strings.Builder
	b.Grow(size)
	for n := size - 1 - digits; n > 0; n -= len(padding) {
		b.WriteString(padding[:min(n, len(padding))])
	}
	b.WriteByte(marker)
	for unit := limit / 10; unit > 0; unit /= 10 {
		b.WriteByte('0' + byte(seq/unit%10))
	}
	return b.String()
}

const padding = "abcdefghijklmnopqrstuvwxyz "

// Seq returns the number of the event with that data, or -1 if it has none.
func Seq(data string) int {
	_, number, _ := strings.Cut(data, string(marker))
	seq, err := strconv.Atoi(number)
	if err != nil || len(number) != digits {
		return -1
	}
	return seq
}
