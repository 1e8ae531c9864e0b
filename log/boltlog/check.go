package boltlog

import (
	"bytes"
	"fmt"
	"os"
)

// Open checks the whole file before bbolt sees it. bbolt has checksums only for its two meta
// pages. A damaged page can make it panic, loop, read beyond its mapping, or, worst, return
// less than there is without a word. So the check walks all pages with bounds (pages.go), and
// compares what it finds with the state: nothing is missing, and the index and the keys are
// what was written. Single damaged records are allowed.

// contents is what checkFile has found.
type contents struct {
	fresh    bool // there is nothing in the file
	blank    bool // the file has only zeros, which bbolt would refuse
	lostMeta bool // one of the two meta pages is damaged
	state    state
	damaged  int // number of damaged records
}

// maxBlank is how long a file can be that a process has begun to make, in bytes.
const maxBlank = 1 << 20

// checkFile checks the file f. It does not change it. The error is a *FormatError, a
// *CorruptError, or one of the operating system.
func checkFile(f *os.File, path string) (found contents, err error) {
	info, err := f.Stat()
	if err != nil {
		return found, fmt.Errorf("boltlog: open: %w", err)
	}
	if !info.Mode().IsRegular() {
		return found, &FormatError{Path: path}
	}
	if info.Size() == 0 {
		return contents{fresh: true}, nil
	}
	if info.Size() <= maxBlank {
		all := make([]byte, info.Size())
		if _, err := f.ReadAt(all, 0); err != nil {
			return found, fmt.Errorf("boltlog: open: %w", err)
		}
		if len(bytes.TrimLeft(all, "\x00")) == 0 {
			return contents{fresh: true, blank: true}, nil
		}
	}
	c := &checker{file: pages{file: f, size: info.Size()}}
	if err := c.check(); err != nil {
		switch err := err.(type) { //nolint:errorlint // check returns them bare
		case *FormatError:
			err.Path = path
			return found, err
		case *CorruptError:
			err.Path = path
			return found, err
		}
		return found, fmt.Errorf("boltlog: open: %w", err)
	}
	return c.found, nil
}

// checker checks a file.
type checker struct {
	file  pages
	found contents

	count   uint64 // records
	size    uint64 // sum of their sizes
	first   uint64 // offset of the first one
	last    uint64 // and of the last one
	due     uint64 // records that must be in the index
	indexed uint64 // entries in the bucket index
	keyed   uint64 // entries in the bucket keys

	sum uint64 // of all these entries; see state.Sum
}

// check walks through all buckets, and compares what it has found with the state.
func (c *checker) check() error {
	root, err := c.file.root()
	if err != nil {
		return err
	}
	buckets := map[string]bucket{}
	err = c.file.walk(root, func(e element) error {
		if !e.isBucket {
			return &FormatError{}
		}
		b, err := e.bucket()
		buckets[string(e.key)] = b
		return err
	})
	switch {
	case err != nil:
		return err
	case len(buckets) == 0 && c.file.txid > 1:
		return corrupt("it has no buckets")
	case len(buckets) == 0: // the process that made the file has crashed before its first transaction
		c.found.fresh = true
		return c.file.checkFreelist()
	}
	c.found.lostMeta = c.file.lostMeta
	if _, ok := buckets[string(logBucket)]; !ok || len(buckets) != 4 {
		return &FormatError{}
	}
	for _, step := range [...]struct {
		name  []byte
		visit func(e element) error
	}{{logBucket, c.visitState}, {recordsBucket, c.visitRecord}, {indexBucket, c.visitIndex}, {keysBucket, c.visitKey}} {
		b, ok := buckets[string(step.name)]
		if !ok {
			return &FormatError{}
		}
		err := c.file.walk(b, func(e element) error {
			if e.isBucket {
				return corrupt("bucket %q has a bucket in it", step.name)
			}
			return step.visit(e)
		})
		if err != nil {
			return err
		}
	}
	if err := c.file.checkFreelist(); err != nil {
		return err
	}
	return c.compare()
}

func (c *checker) visitState(e element) error {
	s, version := decodeState(e.value)
	switch {
	case !bytes.Equal(e.key, stateKey):
		return corrupt("bucket %q has the key %q", logBucket, e.key)
	case version == 0:
		return corrupt("its state cannot be decoded")
	case version != formatVersion:
		return &FormatError{Version: version}
	}
	c.found.state = s
	return nil
}

func (c *checker) visitRecord(e element) error {
	offset := offsetIn(e.key)
	if offset == 0 {
		return corrupt("a record has the key %x", e.key)
	}
	if c.count == 0 {
		c.first = offset
	}
	c.last = offset
	c.count++
	c.size += recordSize(e.value)
	if offset <= c.found.state.Indexed {
		c.due++
	}
	if _, _, ok := open(offset, e.value); !ok {
		c.found.damaged++
	}
	return nil
}

func (c *checker) visitIndex(e element) error {
	if len(e.key) != len(indexKey(hash{}, 0)) || len(e.value) > 0 {
		return corrupt("the index has the key %x", e.key)
	}
	c.indexed++
	c.sum += entry{e.key, nil}.sum()
	return nil
}

func (c *checker) visitKey(e element) error {
	if offset := offsetIn(e.value); len(e.key) != len(hash{}) || offset < c.first || offset > c.last {
		return corrupt("key %x has the value %x", e.key, e.value)
	}
	c.keyed++
	c.sum += entry{e.key, e.value}.sum()
	return nil
}

// compare compares what was found with the state.
func (c *checker) compare() error {
	s := &c.found.state
	if s.Epoch == 0 {
		return corrupt("it has no state")
	}
	if s.Events == 0 {
		c.first, c.last = s.Last+1, s.Last
	}
	for _, n := range [...]struct {
		what       string
		found, due uint64
	}{
		{"records", c.count, s.Events},
		{"bytes of records", c.size, s.Bytes},
		{"first record", c.first, s.First},
		{"last record", c.last, s.Last},
		{"entries in the index", c.indexed, c.due},
		{"keys", c.keyed, s.Keys},
		{"sum of the entries", c.sum, s.Sum},
	} {
		if n.found != n.due {
			return corrupt("%s: there are %d and must be %d", n.what, n.found, n.due)
		}
	}
	return nil
}

// corrupt returns a CorruptError without a path.
func corrupt(format string, args ...any) error {
	return &CorruptError{Reason: fmt.Sprintf(format, args...)}
}
