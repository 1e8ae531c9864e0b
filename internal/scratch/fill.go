package scratch

import (
	"errors"
	"io"
	"sync"

	"github.com/chi-sse/sse/event"
)

// writer appends to a buffer during one call of Fill. A function may keep its writer, or leave a
// goroutine behind that goes on writing. So a writer is never lent twice: what comes late must
// not get into the text of another client. A block of them costs one allocation.
type writer struct {
	mu sync.Mutex
	to *Buffer // nil before and after the call
}

const writersInBlock = 64

var errLate = errors.New("sse: written after the function that was given the writer has returned")

// Fill calls write with a writer that appends to b.B. A Write that would make it append more than
// limit bytes appends nothing, and returns an *event.TooLargeError; 0 is no limit. Fill returns
// the error of write, or else the first error of a Write, which the function has dropped.
func (b *Buffer) Fill(limit int, write func(w io.Writer) error) error {
	if len(b.writers) == 0 {
		b.writers = make([]writer, writersInBlock)
	}
	w := &b.writers[0]
	b.writers = b.writers[1:]
	b.limit, b.from, b.failed = limit, len(b.B), nil
	w.lend(b)
	defer w.lend(nil) // also after a panic
	if err := write(w); err != nil {
		return err
	}
	w.lend(nil) // before what it has written is used
	return b.failed
}

func (w *writer) lend(to *Buffer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = to
}

// Write implements [io.Writer].
func (w *writer) Write(p []byte) (int, error) { return write(w, p) }

// WriteString implements [io.StringWriter].
func (w *writer) WriteString(s string) (int, error) { return write(w, s) }

func write[T string | []byte](w *writer, p T) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.to
	switch {
	case b == nil:
		return 0, errLate
	case b.failed != nil:
		return 0, b.failed
	case b.limit > 0 && len(p) > b.limit-(len(b.B)-b.from):
		b.failed = &event.TooLargeError{What: "event", Limit: b.limit}
		return 0, b.failed
	}
	b.B = append(b.B, p...)
	return len(p), nil
}
