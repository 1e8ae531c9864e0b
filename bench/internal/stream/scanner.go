package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Scanner finds the sequence numbers in the response on one connection, wherever
// reads and chunks cut it. The zero value is ready. It allocates for the head only.
type Scanner struct {
	state   scanState
	chunked bool
	left    int    // of the chunk: its size, while that is read, then its bytes to come
	head    []byte // until it is whole

	inNumber bool // the marker has come
	got      int  // digits of the number
	number   int
}

type scanState uint8

const (
	inHead scanState = iota
	inSize
	inExtension // what follows the size, to the end of its line
	inChunk
	afterChunk // the line end
	inBody     // not chunked
	ended
)

// maxHead is more than any of the servers sends.
const maxHead = 4 << 10

var (
	errHead  = errors.New("stream: no head of an event stream")
	errChunk = errors.New("stream: malformed chunk")
	errEvent = errors.New("stream: a marker without a number")
)

// Scan reads p, which follows what it was given before, and appends the numbers of
// the events in it to seqs. It returns io.EOF at the end of the response.
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
