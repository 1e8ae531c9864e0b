package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// checkpointPeriod is the shortest time between two writes of a checkpoint, because each
// waits for the disk.
const checkpointPeriod = 100 * time.Millisecond

// checkpoint keeps the id of the last event that was written out in a file, so that a later
// run can resume after it. The file never names an event that was not written out. A
// checkpoint without a path does nothing.
type checkpoint struct {
	path   string
	stdout *os.File // synced before each write of the file; nil if it is not a regular file
	found  bool     // the file existed when the program started

	mu     sync.Mutex
	id     string // the latest
	saved  string // the one in the file
	exists bool   // there is a file

	wake chan struct{} // has room for one value
	stop chan struct{} // closed by close
	done chan error    // the result of run
}

// content is what a checkpoint file holds, as a JSON object.
type content struct {
	LastEventID *string `json:"lastEventId"`
}

// openCheckpoint reads the checkpoint at path, if there is one. It returns an error if the
// file is damaged, or if it could not be written.
func openCheckpoint(path string, stdout io.Writer) (*checkpoint, error) {
	c := &checkpoint{path: path}
	if path == "" {
		return c, nil
	}
	if file, ok := stdout.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			c.stdout = file
		}
	}
	switch text, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("-checkpoint: %w", err)
	default:
		if c.saved, err = parseCheckpoint(text); err != nil {
			return nil, fmt.Errorf("-checkpoint: %s is damaged: %w. Delete it to start anew, or write %s with the id to resume after",
				path, err, `{"lastEventId":"ID"}`)
		}
		c.id, c.found, c.exists = c.saved, true, true
	}
	temp, err := os.OpenFile(c.temp(), os.O_WRONLY|os.O_CREATE, 0o600) // to fail before the first event
	if err != nil {
		return nil, fmt.Errorf("-checkpoint: %w", err)
	}
	if err := errors.Join(temp.Close(), os.Remove(c.temp())); err != nil {
		return nil, fmt.Errorf("-checkpoint: %w", err)
	}
	return c, nil
}

func parseCheckpoint(text []byte) (id string, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return "", errors.New("it is empty")
	}
	var c content
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return "", err
	}
	if _, err := dec.Token(); err != io.EOF {
		return "", errors.New("there is more text after its JSON object")
	}
	if c.LastEventID == nil {
		return "", errors.New("lastEventId is missing")
	}
	return *c.LastEventID, nil
}

// start starts to write the file in the background. It calls failed if that fails.
func (c *checkpoint) start(failed func(error)) {
	if c.path == "" {
		return
	}
	c.wake, c.stop, c.done = make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		err := c.run()
		if err != nil {
			failed(err)
		}
		c.done <- err
	}()
}

// set says that the event with this id has been written out.
func (c *checkpoint) set(id string) {
	if c.path == "" {
		return
	}
	c.mu.Lock()
	c.id = id
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// close writes the latest id to the file. It returns the error of the first write that
// failed.
func (c *checkpoint) close() error {
	if c.path == "" {
		return nil
	}
	close(c.stop)
	if err := <-c.done; err != nil {
		return err
	}
	return c.save()
}

func (c *checkpoint) run() error {
	for {
		select {
		case <-c.wake:
		case <-c.stop:
			return nil
		}
		if err := c.save(); err != nil {
			return err
		}
		select {
		case <-time.After(checkpointPeriod):
		case <-c.stop:
			return nil
		}
	}
}

// save writes the latest id to the file, if it is not there yet. A crash leaves either the
// old file or the new one.
func (c *checkpoint) save() error {
	c.mu.Lock()
	id := c.id
	c.mu.Unlock()
	if id == c.saved && (c.exists || id == "") {
		return nil
	}
	if c.stdout != nil {
		if err := c.stdout.Sync(); err != nil {
			return checkpointError{fmt.Errorf("stdout: %w", err)}
		}
	}
	if err := replaceFile(c.path, c.temp(), append(marshal(content{&id}), '\n')); err != nil {
		return checkpointError{err}
	}
	c.saved, c.exists = id, true
	return nil
}

func (c *checkpoint) temp() string { return c.path + ".tmp" }

// replaceFile writes text to the file at temp, and moves that to path. When it returns, both
// are on the disk.
func replaceFile(path, temp string, text []byte) error {
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // it cannot sync a folder
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// checkpointError reports that the checkpoint could not be written.
type checkpointError struct{ error }

func (e checkpointError) Unwrap() error { return e.error }
