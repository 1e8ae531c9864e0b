package hub

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Position is a place in a hub's log: the place of an event, or, for a reader that
// continues from there, the place just after it. Its text form, such as "k3f9x2ab-1024", is
// the id of each event, unless the hub has Config.IDKey or Config.OwnIDs. It is a valid value of
// an HTTP header. [Hub.ID] returns the id in each case.
//
// Positions of one epoch are ordered by their offsets, over all topics. Each hub that is
// made has a new epoch. So a hub can tell a position of an earlier process from its own,
// and cannot resume from it.
type Position struct {
	Epoch  uint64 // identifies the log
	Offset uint64 // number of events published up to and including this one; the log need not hold them all
}

// IsZero reports whether p is the zero Position, which is not the position of any event.
func (p Position) IsZero() bool { return p == Position{} }

// String returns p's text form.
func (p Position) String() string {
	text, _ := p.AppendText(make([]byte, 0, 32)) // its error is always nil
	return string(text)
}

// AppendText appends p's text form to dst: the epoch in base 36, a hyphen, and the offset
// in base 10. Its error is always nil. It implements [encoding.TextAppender].
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

// ParsePosition parses the text form of a position. It accepts only the form that
// [Position.String] returns: no capital letters, no sign, no leading zeros. Otherwise it
// returns an error.
func ParsePosition(text string) (Position, error) {
	if len(text) > maxPosition {
		return Position{}, fmt.Errorf("hub: a text of %d bytes is not a position; one has at most %d", len(text), maxPosition)
	}
	var p Position
	epoch, offset, ok := strings.Cut(text, "-")
	if ok {
		var err1, err2 error
		p.Epoch, err1 = strconv.ParseUint(epoch, 36, 64)
		p.Offset, err2 = strconv.ParseUint(offset, 10, 64)
		ok = err1 == nil && err2 == nil && p.String() == text
	}
	if !ok {
		return Position{}, fmt.Errorf("hub: %q is not a position", text)
	}
	return p, nil
}

// maxPosition is the length of the longest position's text form: 13 digits, a hyphen, 20 digits.
const maxPosition = 34

// newEpoch returns a random epoch, so that no other log is likely to have it. Its text form
// has 8 characters.
func newEpoch() uint64 {
	lowest := uint64(math.Pow(36, 7))
	return lowest + rand.Uint64N(35*lowest)
}
