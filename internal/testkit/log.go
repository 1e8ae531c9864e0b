package testkit

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// Buffer is a buffer that several goroutines may use at the same time. Its zero value is
// empty and ready to use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p to the buffer. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns all that has been written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Log is a slog.Handler that keeps everything that is logged, at every level. It ignores
// groups. Several goroutines may use it at the same time.
type Log struct {
	mu   *sync.Mutex
	all  *[]Entry
	with []slog.Attr
}

// Entry is one record of a Log.
type Entry struct {
	Level   slog.Level
	Message string
	Text    string                // time, level, message and attributes, as a slog.TextHandler prints them
	Attrs   map[string]slog.Value // resolved
}

// NewLog returns an empty Log.
func NewLog() *Log { return &Log{mu: new(sync.Mutex), all: new([]Entry)} }

// Logger returns a logger that logs to l.
func (l *Log) Logger() *slog.Logger { return slog.New(l) }

// Entries returns the entries whose Text contains text, in the order in which they were
// logged.
func (l *Log) Entries(text string) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []Entry
	for _, e := range *l.all {
		if strings.Contains(e.Text, text) {
			found = append(found, e)
		}
	}
	return found
}

// Enabled implements slog.Handler.
func (l *Log) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (l *Log) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Log{l.mu, l.all, slices.Concat(l.with, attrs)}
}

// WithGroup implements slog.Handler.
func (l *Log) WithGroup(string) slog.Handler { return l }

// Handle implements slog.Handler.
func (l *Log) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(l.with...)
	e := Entry{Level: r.Level, Message: r.Message, Attrs: make(map[string]slog.Value)}
	r.Attrs(func(a slog.Attr) bool {
		e.Attrs[a.Key] = a.Value.Resolve()
		return true
	})
	var text bytes.Buffer
	if err := slog.NewTextHandler(&text, nil).Handle(ctx, r); err != nil {
		return err
	}
	e.Text = text.String()
	l.mu.Lock()
	defer l.mu.Unlock()
	*l.all = append(*l.all, e)
	return nil
}
