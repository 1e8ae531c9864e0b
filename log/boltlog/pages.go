package boltlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"os"
)

// pages reads the pages of a bbolt file, and believes nothing that they say. The form is that
// of bbolt's package internal/common. Its numbers are in the machine's own byte order.
type pages struct {
	file *os.File
	size int64 // in bytes

	pageSize int64
	txid     uint64 // of the last transaction; bbolt makes a file with 1
	lostMeta bool   // one of the two meta pages is damaged
	high     uint64 // all pages have a lower number
	freelist uint64 // the page with the list of free pages, or noFreelist
	seen     []bool // by page: it belongs to a bucket
}

const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	noFreelist  = 1<<64 - 1

	pageHead = 16 // id (8), flags (2), count (2), overflow (4)
	elemHead = 16 // of a branch: position (4), key size (4), page (8); of a leaf: flags, position, key size, value size (4 each)
	metaLen  = 64 // magic, version, page size, flags (4 each), root (8), sequence (8), freelist, high, txid, checksum (8 each)

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	maxDepth = 64
)

var order = binary.NativeEndian

// bucket is a bucket: a tree of pages, or a page within the value of its parent.
type bucket struct {
	page   uint64
	inline []byte // if page is 0
}

// element is an entry of a leaf page. Its bytes are valid until the visit returns.
type element struct {
	key, value []byte
	isBucket   bool
}

// bucket returns the bucket that e is. It shares no memory with e.
func (e *element) bucket() (bucket, error) {
	if len(e.value) < 16 {
		return bucket{}, corrupt("bucket %q has no page", e.key)
	}
	b := bucket{page: order.Uint64(e.value)}
	if b.page == 0 {
		b.inline = bytes.Clone(e.value[16:])
	}
	return b, nil
}

// root reads the meta pages, and returns the root bucket.
func (p *pages) root() (b bucket, err error) {
	meta := p.meta(0)
	for at := int64(512); meta == nil && at <= 1<<16; at *= 2 { // the page size is not known
		meta = p.meta(at)
	}
	if meta == nil {
		if p.hasMagic() {
			return b, corrupt("both meta pages are damaged")
		}
		return b, &FormatError{}
	}
	p.pageSize = int64(order.Uint32(meta[8:]))
	other := p.meta(p.pageSize)
	p.lostMeta = other == nil || p.meta(0) == nil
	if other != nil && order.Uint64(other[48:]) > order.Uint64(meta[48:]) {
		meta = other
	}
	p.txid = order.Uint64(meta[48:])
	b.page = order.Uint64(meta[16:])
	p.freelist = order.Uint64(meta[32:])
	p.high = order.Uint64(meta[40:])
	if pages := uint64(p.size / p.pageSize); p.high > pages {
		return b, corrupt("it has been cut: there are %d pages and must be %d", pages, p.high)
	}
	p.seen = make([]bool, p.high)
	return b, nil
}

// meta returns the meta page at the place in the file, without its head, or nil if there is no
// valid one.
func (p *pages) meta(at int64) []byte {
	b := make([]byte, pageHead+metaLen)
	if _, err := p.file.ReadAt(b, at); err != nil {
		return nil
	}
	m := b[pageHead:]
	sum := fnv.New64a()
	sum.Write(m[:metaLen-8])
	size := order.Uint32(m[8:])
	if order.Uint32(m) != metaMagic || order.Uint32(m[4:]) != metaVersion || order.Uint64(m[metaLen-8:]) != sum.Sum64() ||
		size < 512 || size > 1<<16 || size&(size-1) != 0 {
		return nil
	}
	return m
}

// hasMagic reports whether the file begins like one of bbolt.
func (p *pages) hasMagic() bool {
	var b [pageHead + 4]byte
	for _, at := range [...]int64{0, int64(os.Getpagesize())} {
		if _, err := p.file.ReadAt(b[:], at); err == nil && order.Uint32(b[pageHead:]) == metaMagic {
			return true
		}
	}
	return false
}

// walk calls visit with all elements of b, in their order.
func (p *pages) walk(b bucket, visit func(e element) error) error {
	w := &walker{pages: p, visit: visit}
	if b.page == 0 {
		return w.leaf(b.inline, nil, nil, true)
	}
	return w.page(b.page, nil, nil, 0)
}

// walker walks through a bucket.
type walker struct {
	*pages
	visit   func(e element) error
	buffers [][]byte // by depth
}

// page walks through the page and all below it. Their keys must be from low on, and below
// high, unless these are nil.
func (w *walker) page(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return corrupt("its tree is too deep")
	}
	b, err := w.read(id, depth)
	if err != nil {
		return err
	}
	switch flags := order.Uint16(b[8:]); flags {
	case leafPage:
		return w.leaf(b, low, high, depth == 0)
	case branchPage:
		return w.branch(b, low, high, depth)
	default:
		return corrupt("page %d has the flags %#x", id, flags)
	}
}

// read reads the page and those that it overflows into.
func (w *walker) read(id uint64, depth int) ([]byte, error) {
	if id < 2 || id >= w.high {
		return nil, corrupt("there is no page %d", id)
	}
	if len(w.buffers) == depth {
		w.buffers = append(w.buffers, make([]byte, w.pageSize))
	}
	b := w.buffers[depth][:w.pageSize]
	if _, err := w.file.ReadAt(b, int64(id)*w.pageSize); err != nil {
		return nil, readError(err)
	}
	if got := order.Uint64(b); got != id {
		return nil, corrupt("page %d says that it is page %d", id, got)
	}
	more := uint64(order.Uint32(b[12:]))
	if more >= w.high-id {
		return nil, corrupt("page %d overflows the file", id)
	}
	for i := range more + 1 {
		if w.seen[id+i] {
			return nil, corrupt("page %d belongs to two places", id+i)
		}
		w.seen[id+i] = true
	}
	if more > 0 {
		b = append(b, make([]byte, int64(more)*w.pageSize)...)
		if _, err := w.file.ReadAt(b[w.pageSize:], int64(id+1)*w.pageSize); err != nil {
			return nil, readError(err)
		}
	}
	return b, nil
}

// readError makes the end of the file a CorruptError.
func readError(err error) error {
	if errors.Is(err, io.EOF) {
		return corrupt("it has been cut")
	}
	return err
}

// leaf visits the elements of a leaf page. Only the root of a bucket may be empty.
func (w *walker) leaf(b, low, high []byte, root bool) error {
	count, err := elements(b, leafPage)
	if err != nil {
		return err
	}
	if count == 0 && !root {
		return corrupt("a page is empty")
	}
	var before []byte
	for i := range count {
		at := pageHead + i*elemHead
		flags, pos, keySize, valueSize := order.Uint32(b[at:]), order.Uint32(b[at+4:]), order.Uint32(b[at+8:]), order.Uint32(b[at+12:])
		key, rest, ok := cut(b, at, count, pos, keySize)
		if !ok || uint64(valueSize) > uint64(len(rest)) || flags > 1 {
			return corrupt("an element lies outside of its page")
		}
		if bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 || i > 0 && bytes.Compare(before, key) >= 0 {
			return corrupt("keys are not in order")
		}
		before = key
		if err := w.visit(element{key, rest[:valueSize:valueSize], flags == 1}); err != nil {
			return err
		}
	}
	return nil
}

// branch walks through the pages below a branch page.
func (w *walker) branch(b, low, high []byte, depth int) error {
	count, err := elements(b, branchPage)
	if err != nil {
		return err
	}
	if count == 0 {
		return corrupt("a page is empty")
	}
	keys := make([][]byte, count, count+1)
	for i := range count {
		at := pageHead + i*elemHead
		key, _, ok := cut(b, at, count, order.Uint32(b[at:]), order.Uint32(b[at+4:]))
		if !ok {
			return corrupt("an element lies outside of its page")
		}
		if bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 || i > 0 && bytes.Compare(keys[i-1], key) >= 0 {
			return corrupt("keys are not in order")
		}
		keys[i] = key
	}
	keys = append(keys, high)
	for i := range count {
		child := order.Uint64(b[pageHead+i*elemHead+8:])
		if err := w.page(child, keys[i], keys[i+1], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// elements returns the number of elements of a page with the flags.
func elements(b []byte, flags uint16) (int, error) {
	if len(b) < pageHead || order.Uint16(b[8:]) != flags {
		return 0, corrupt("a page is not what it must be")
	}
	count := int(order.Uint16(b[10:]))
	if pageHead+count*elemHead > len(b) {
		return 0, corrupt("a page has too many elements")
	}
	return count, nil
}

// cut returns the key of the element whose head is at the place in b, and what follows it. ok
// is false if the key is not behind the heads and within b.
func cut(b []byte, at, count int, pos, size uint32) (key, rest []byte, ok bool) {
	start, end := uint64(at)+uint64(pos), uint64(at)+uint64(pos)+uint64(size)
	if start < uint64(pageHead+count*elemHead) || end > uint64(len(b)) {
		return nil, nil, false
	}
	return b[start:end:end], b[end:], true
}

// checkFreelist checks the list of free pages, if the file has one: the tools of bbolt write
// it, and this package does not. bbolt would overwrite a page that is in it.
func (p *pages) checkFreelist() error {
	if p.freelist == noFreelist {
		return nil
	}
	w := &walker{pages: p}
	b, err := w.read(p.freelist, 0)
	if err != nil {
		return err
	}
	if order.Uint16(b[8:]) != freelistPage {
		return corrupt("page %d is not a list of free pages", p.freelist)
	}
	count, ids := uint64(order.Uint16(b[10:])), b[pageHead:]
	if count == 0xFFFF && len(ids) >= 8 {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return corrupt("its list of free pages is too long")
	}
	for i := range count {
		id := order.Uint64(ids[8*i:])
		if id < 2 || id >= p.high || p.seen[id] {
			return corrupt("page %d is in use and in the list of free pages", id)
		}
		p.seen[id] = true
	}
	return nil
}
