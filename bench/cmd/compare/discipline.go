//go:build linux

package main

import (
	"context"

	"github.com/chi-sse/sse/bench/internal/library"
)

// discipline is one of the things that a library may do.
type discipline struct {
	name  string
	can   func(library.Library) bool
	check func(context.Context, library.Library) error // of its bytes, before anything is timed
}

var (
	encoding = &discipline{"encode", func(l library.Library) bool { return l.NewEncode != nil }, checkedEncode}
	decoding = &discipline{"decode", func(l library.Library) bool { return l.Decode != nil }, checkedDecode}
	reading  = &discipline{"client", func(l library.Library) bool { return l.Read != nil }, checkedRead}
	oneByOne = &discipline{"one connection", func(l library.Library) bool { return l.Stream != nil }, checkedStream}
	fanOut   = &discipline{"fan-out", func(l library.Library) bool { return l.Start != nil }, checked}
)

var disciplines = []*discipline{encoding, decoding, reading, oneByOne, fanOut}
