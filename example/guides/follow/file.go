package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/chi-sse/sse/client"
)

// followToFile prints each order in the stream at url to out, at least once. The checkpoint
// is in a file.
func followToFile(ctx context.Context, url, file string, out io.Writer) (err error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	last := string(text)
	saved, savedAt := last, time.Now()
	save := func() error {
		if last == saved {
			return nil
		}
		saved, savedAt = last, time.Now()
		return replaceFile(file, last)
	}
	defer func() { err = errors.Join(err, save()) }()

	return follow(ctx, url, last, func(_ string, ev client.Event) error {
		if _, err := fmt.Fprintln(out, ev.Data); err != nil { // first the effect,
			return err
		}
		last = ev.ID
		if time.Since(savedAt) < 100*time.Millisecond {
			return nil
		}
		return save() // then the checkpoint
	})
}

// replaceFile replaces the text in a file. A crash leaves the old text or the new one.
func replaceFile(file, text string) error {
	f, err := os.Create(file + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
