// Package stream counts the events that arrive on many connections. It must be cheap,
// because the load generator has to cost less than the server that it measures. So it
// does not parse event streams as the specification says. It only looks for the sequence
// number that each event of the benchmark carries.
package stream

import (
	"strconv"
	"strings"
)

// marker precedes the sequence number of an event and occurs nowhere else in a stream.
const marker = '~'

// A sequence number has digits digits and is below limit.
const (
	digits = 8
	limit  = 100_000_000
)

// Data returns the data of event seq: size bytes, but at least nine. The sequence number
// comes last, so an event counts as received only when nearly all of it has arrived.
// Data allocates once, because its allocations are counted together with those of the
// measured library.
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

// Seq returns the sequence number in an event's data, or -1 if data has none.
func Seq(data string) int {
	_, number, _ := strings.Cut(data, string(marker))
	seq, err := strconv.Atoi(number)
	if err != nil || len(number) != digits {
		return -1
	}
	return seq
}
