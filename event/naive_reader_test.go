package event_test

// This file is a second decoder, as simple and as close to the text of the specification as
// possible. The fuzz tests compare both encoder and decoder with it.

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// The naive reader must pass the decoder's own table.
func TestNaiveReader(t *testing.T) {
	for _, tt := range decodeTests {
		require.Equal(t, tt.want, readNaively([]byte(tt.stream), tt.all, tt.all).events, tt.name)
	}
}

// naiveReader reads a whole stream at once. It follows the specification word for word
// where code allows it, and shares nothing with the package except the type Event.
type naiveReader struct {
	comments, retryOnly bool // like Decoder.Comments and Decoder.RetryOnly

	events           []event.Event
	lastEventID      string
	reconnectionTime time.Duration
	asked            bool // the stream has set reconnectionTime
}

func readNaively(stream []byte, comments, retryOnly bool) *naiveReader {
	n := &naiveReader{comments: comments, retryOnly: retryOnly}
	n.read(stream)
	return n
}

// read parses (WHATWG HTML §9.2.5)
//
//	stream      = [ bom ] *event
//	event       = *( comment / field ) end-of-line
//	comment     = colon *any-char end-of-line
//	field       = 1*name-char [ colon [ space ] *any-char ] end-of-line
//	end-of-line = ( cr lf / cr / lf )
//
// and interprets what it finds (§9.2.6).
func (n *naiveReader) read(stream []byte) {
	text := utf8Decode(stream)
	var block [][]rune
	for {
		end := slices.IndexFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
		if end < 0 {
			return // "any pending data must be discarded"
		}
		line := text[:end]
		if text[end] == '\r' && end+1 < len(text) && text[end+1] == '\n' {
			end++
		}
		text = text[end+1:]
		n.retry(line)
		if len(line) > 0 {
			block = append(block, line)
			continue
		}
		n.interpret(block)
		block = nil
	}
}

// split returns the parts of a line, which must not be empty.
func split(line []rune) (isComment bool, field, value string) {
	colon := slices.Index(line, ':')
	if colon < 0 {
		return false, string(line), ""
	}
	after := line[colon+1:]
	if len(after) > 0 && after[0] == ' ' {
		after = after[1:]
	}
	return colon == 0, string(line[:colon]), string(after)
}

// retry sets the reconnection time if line is a retry field. That is the only field that
// takes effect before its block ends.
func (n *naiveReader) retry(line []rune) {
	if _, field, value := split(line); field == "retry" {
		if ms, ok := digits(value); ok {
			n.reconnectionTime, n.asked = ms, true
		}
	}
}

// digits parses a value that consists of "only ASCII digits" as "an integer in base ten", in
// milliseconds.
func digits(value string) (d time.Duration, ok bool) {
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0, false
	}
	ms, _ := new(big.Int).SetString(value, 10)
	if most := big.NewInt(9223372036854); ms.Cmp(most) > 0 { // the most that a Duration can hold
		ms = most
	}
	return time.Duration(ms.Int64()) * time.Millisecond, true
}

func (n *naiveReader) interpret(block [][]rune) {
	var (
		dataBuffer, eventTypeBuffer, commentBuffer string
		lastEventIDBuffer                          = n.lastEventID
		retry                                      time.Duration
		resetID                                    bool
	)
	for _, line := range block {
		isComment, field, value := split(line)
		switch {
		case isComment:
			commentBuffer += value + "\n"
		case field == "event":
			eventTypeBuffer = value
		case field == "data":
			dataBuffer += value + "\n"
		case field == "id" && !strings.Contains(value, "\x00"):
			lastEventIDBuffer = value
			resetID = value == ""
		case field == "retry":
			if ms, ok := digits(value); ok && ms == 0 {
				retry = event.RetryImmediately
			} else if ok {
				retry = ms
			}
		}
	}
	n.lastEventID = lastEventIDBuffer
	ev := event.Event{ID: n.lastEventID, Retry: retry, ResetID: resetID}
	if n.comments && commentBuffer != "" {
		ev.Comment = strings.TrimSuffix(commentBuffer, "\n")
	}
	switch {
	case dataBuffer != "":
		ev.Name, ev.Data = eventTypeBuffer, strings.TrimSuffix(dataBuffer, "\n")
	case n.comments && commentBuffer != "" && commentBuffer != "\n": // an empty comment alone is not returned
	case n.retryOnly && retry != 0:
	default:
		return
	}
	n.events = append(n.events, ev)
}

// utf8Decode is "UTF-8 decode" (WHATWG Encoding §6) with the decoder of §8.1.1. The
// variables have the names that the standard gives them.
func utf8Decode(stream []byte) (text []rune) {
	const replacement = '\uFFFD'
	if len(stream) >= 3 && stream[0] == 0xEF && stream[1] == 0xBB && stream[2] == 0xBF {
		stream = stream[3:]
	}
	var (
		codePoint              rune
		bytesSeen, bytesNeeded int
		lowerBoundary          byte = 0x80
		upperBoundary          byte = 0xBF
		needed, lower, upper        = leadBytes()
	)
	for i := 0; i < len(stream); i++ {
		b := stream[i]
		if bytesNeeded == 0 {
			switch {
			case b <= 0x7F:
				text = append(text, rune(b))
			case needed[b] == 0:
				text = append(text, replacement)
			default:
				bytesNeeded, lowerBoundary, upperBoundary = needed[b], lower[b], upper[b]
				codePoint = rune(b) & (0x3F >> bytesNeeded)
			}
			continue
		}
		if b < lowerBoundary || b > upperBoundary {
			codePoint, bytesNeeded, bytesSeen = 0, 0, 0
			text = append(text, replacement)
			i-- // "restore byte to ioQueue"
			continue
		}
		lowerBoundary, upperBoundary = 0x80, 0xBF
		codePoint = codePoint<<6 | rune(b&0x3F)
		if bytesSeen++; bytesSeen == bytesNeeded {
			text = append(text, codePoint)
			codePoint, bytesNeeded, bytesSeen = 0, 0, 0
		}
	}
	if bytesNeeded != 0 {
		text = append(text, replacement)
	}
	return text
}

// leadBytes returns, for each byte that can begin a sequence, how many bytes follow, and the
// bounds of the first of these.
func leadBytes() (needed [256]int, lower, upper [256]byte) {
	for _, row := range []struct {
		from, to     int
		needed       int
		lower, upper byte
	}{
		{0xC2, 0xDF, 1, 0x80, 0xBF},
		{0xE0, 0xE0, 2, 0xA0, 0xBF},
		{0xE1, 0xEC, 2, 0x80, 0xBF},
		{0xED, 0xED, 2, 0x80, 0x9F},
		{0xEE, 0xEF, 2, 0x80, 0xBF},
		{0xF0, 0xF0, 3, 0x90, 0xBF},
		{0xF1, 0xF3, 3, 0x80, 0xBF},
		{0xF4, 0xF4, 3, 0x80, 0x8F},
	} {
		for b := row.from; b <= row.to; b++ {
			needed[b], lower[b], upper[b] = row.needed, row.lower, row.upper
		}
	}
	return needed, lower, upper
}
