package hub

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Position is a place in the log of a hub: that of one event, or that right behind
// it for who reads on from there. Its text form, as in "k3f9x2ab-1024", is the id of
// events that have none of their own. It can stand in an HTTP header.
//
// Positions of one epoch are ordered by their offsets, over all topics. A hub has an
// epoch of its own each time it is made, so a position that outlives the process
// means nothing to the next, and is told from its own.
type Position struct {
	Epoch  uint64 // which log
	Offset uint64 // events published before, and this one; not all need be in the log still
}

// IsZero reports whether p is no position.
func (p Position) IsZero() bool { return p == Position{} }

// String returns p's text form.
func (p Position) String() string {
	text, _ := p.AppendText(make([]byte, 0, 32)) // it has no error
	return string(text)
}

// AppendText appends p's text form: the epoch in base 36, a hyphen, and the offset.
// It implements [encoding.TextAppender].
func (p Position) AppendText(dst []byte) ([]byte, error) {
	dst = strconv.AppendUint(dst, p.Epoch, 36)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, p.Offset, 10), nil
}

// MarshalText implements [encoding.TextMarshaler].
func (p Position) MarshalText() ([]byte, error) { return p.AppendText(nil) }

// UnmarshalText implements [encoding.TextUnmarshaler]. See [ParsePosition].
func (p *Position) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePosition(string(text))
	return err
}

// ParsePosition reads the text form of a position, and no other spelling of it.
func ParsePosition(text string) (Position, error) {
	var p Position
	epoch, offset, ok := strings.Cut(text, "-")
	if ok {
		var err1, err2 error
		p.Epoch, err1 = strconv.ParseUint(epoch, 36, 64)
		p.Offset, err2 = strconv.ParseUint(offset, 10, 64)
		ok = err1 == nil && err2 == nil && p.String() == text
	}
	if !ok {
		return Position{}, fmt.Errorf("hub: %q is no position", text)
	}
	return p, nil
}

// newEpoch returns an epoch that no other log has, of 8 characters.
func newEpoch() uint64 {
	lowest := uint64(math.Pow(36, 7))
	return lowest + rand.Uint64N(35*lowest)
}
