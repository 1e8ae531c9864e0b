package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Scanner finds the sequence numbers of events in the HTTP response on one connection.
// Reads and chunks may cut the response anywhere. The zero value is ready to use. A
// Scanner allocates only for the response's head.
type Scanner struct {
	state   scanState
	chunked bool
	left    int    // while the chunk's size is read, the size so far; then the chunk's bytes to come
	head    []byte // what has come of the head; nil once it is complete

	inNumber bool // the marker has come, and digits of its number are missing
	got      int  // digits of the number that have come
	number   int  // the value of these digits
}

type scanState uint8

const (
	inHead scanState = iota
	inSize
	inExtension // between the chunk's size and the end of its line
	inChunk
	afterChunk // at the line end after a chunk
	inBody     // of a response that is not chunked
	ended
)

// maxHead bounds the response's head, in bytes. Every server under test sends less.
const maxHead = 4 << 10

var (
	errHead  = errors.New("stream: the response must begin with the head of an event stream")
	errChunk = errors.New("stream: malformed chunk size")
	errEvent = errors.New("stream: the marker must be followed by eight digits")
)

// Scan takes p as the next bytes of the response and appends the sequence numbers that
// end in p to seqs. It returns the extended slice, and io.EOF at the end of the response.
// It fails if the head does not begin an event stream, if a chunk size is malformed, or if
// a marker is not followed by a sequence number.
func (s *Scanner) Scan(p []byte, seqs []int) ([]int, error) {
	var err error
	for len(p) > 0 && err == nil {
		switch s.state {
		case inHead:
			p, err = s.scanHead(p)
		case inSize:
			p, err = s.scanSize(p)
		case inExtension:
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				return seqs, nil
			}
			p = p[i+1:]
			if s.state = inChunk; s.left == 0 {
				s.state = ended
			}
		case inChunk:
			n := min(s.left, len(p))
			seqs, err = s.scanBody(p[:n], seqs)
			p = p[n:]
			if s.left -= n; s.left == 0 {
				s.state = afterChunk
			}
		case afterChunk:
			if p[0] == '\n' {
				s.state = inSize
			}
			p = p[1:]
		case inBody:
			seqs, err = s.scanBody(p, seqs)
			p = nil
		case ended:
			return seqs, io.EOF
		}
	}
	if s.state == ended && err == nil {
		err = io.EOF
	}
	return seqs, err
}

// scanHead reads the response's head from p and returns what follows it. It returns an
// error if the head is longer than maxHead or does not begin an event stream.
func (s *Scanner) scanHead(p []byte) (rest []byte, err error) {
	had := len(s.head)
	s.head = append(s.head, p...)
	end := bytes.Index(s.head, []byte("\r\n\r\n"))
	if end < 0 {
		if len(s.head) > maxHead {
			return nil, errHead
		}
		return nil, nil
	}
	head := bytes.ToLower(s.head[:end+2])
	if !bytes.HasPrefix(head, []byte("http/1.1 200 ")) || !bytes.Contains(head, []byte("\r\ncontent-type: text/event-stream")) {
		line, _, _ := bytes.Cut(s.head, []byte("\r\n"))
		return nil, fmt.Errorf("%w: %q", errHead, line)
	}
	s.chunked = bytes.Contains(head, []byte("\r\ntransfer-encoding: chunked\r\n"))
	if s.state = inBody; s.chunked {
		s.state = inSize
	}
	s.head = nil
	return p[end+4-had:], nil
}

// scanSize reads a chunk's size from p and returns what follows it. It returns an error if
// the size is not a hexadecimal number or is above 1 GiB.
func (s *Scanner) scanSize(p []byte) (rest []byte, err error) {
	for i, c := range p {
		switch {
		case '0' <= c && c <= '9':
			s.left = s.left<<4 | int(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			s.left = s.left<<4 | int(c|0x20-'a'+10)
		case c == '\r' || c == ';':
			s.state = inExtension
			return p[i+1:], nil
		default:
			return nil, errChunk
		}
		if s.left > 1<<30 {
			return nil, errChunk
		}
	}
	return nil, nil
}

// scanBody appends the sequence numbers that end in p, a part of the body, to seqs.
func (s *Scanner) scanBody(p []byte, seqs []int) ([]int, error) {
	for {
		if !s.inNumber {
			i := bytes.IndexByte(p, marker)
			if i < 0 {
				return seqs, nil
			}
			p = p[i+1:]
			s.inNumber, s.got, s.number = true, 0, 0
		}
		for ; s.got < digits; s.got++ {
			if len(p) == 0 {
				return seqs, nil
			}
			if p[0] < '0' || '9' < p[0] {
				return seqs, errEvent
			}
			s.number = s.number*10 + int(p[0]-'0')
			p = p[1:]
		}
		s.inNumber = false
		seqs = append(seqs, s.number)
	}
}
