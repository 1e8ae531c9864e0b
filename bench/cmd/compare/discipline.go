//go:build linux

package main

import (
	"context"

	"github.com/chi-sse/sse/bench/internal/library"
)

// discipline is one of the things that a library may be able to do.
type discipline struct {
	name string
	can  func(library.Library) bool

	// check compares what the library does with what it was given, before anything is
	// timed.
	check func(context.Context, library.Library) error
}

var (
	encoding = &discipline{"encode", func(l library.Library) bool { return l.NewEncode != nil }, checkEncodeInChild}
	decoding = &discipline{"decode", func(l library.Library) bool { return l.Decode != nil }, checkDecodeInChild}
	reading  = &discipline{"client", func(l library.Library) bool { return l.Read != nil }, checkRead}
	oneByOne = &discipline{"one connection", func(l library.Library) bool { return l.Stream != nil }, checkStream}
	fanOut   = &discipline{"fan-out", func(l library.Library) bool { return l.Start != nil }, checkFanOut}
)

var disciplines = []*discipline{encoding, decoding, reading, oneByOne, fanOut}
