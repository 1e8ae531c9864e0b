//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// call is a request of the parent to a child. The parent writes it as a line of JSON to
// the child's standard input, and the child writes a reply as a line of JSON to its
// standard output. A child ends when its standard input does.
type call struct {
	Op   string
	Args json.RawMessage `json:",omitempty"`
}

// reply is what a child sends back: the operation's result, or the text of its error.
type reply struct {
	Result json.RawMessage `json:",omitempty"`
	Error  string          `json:",omitempty"`
}

// operation is what a child does when the parent calls it.
type operation func(args json.RawMessage) (result any, err error)

// op returns an operation that calls f, a function with typed arguments.
func op[A, R any](f func(A) (R, error)) operation {
	return func(raw json.RawMessage) (any, error) {
		var args A
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, err
			}
		}
		return f(args)
	}
}

// serveCalls carries out the operations that the parent calls until standard input ends. It
// returns an error if it cannot read or write, or if an operation does not exist.
func serveCalls(ops map[string]operation) error {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for {
		var c call
		if err := in.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		f, ok := ops[c.Op]
		if !ok {
			return fmt.Errorf("operation %q does not exist", c.Op)
		}
		var a reply
		result, err := f(c.Args)
		if err == nil {
			a.Result, err = json.Marshal(result)
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}
