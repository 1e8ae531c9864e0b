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

// The parent calls its children over their standard input and output, a line of JSON
// each way. A child ends with its standard input.
type call struct {
	Op   string
	Args json.RawMessage `json:",omitempty"`
}

type answer struct {
	Result json.RawMessage `json:",omitempty"`
	Error  string          `json:",omitempty"`
}

// operation is what a child does when it is called.
type operation func(args json.RawMessage) (result any, err error)

// op makes an operation of a function with typed arguments.
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

// serveCalls carries out operations until standard input ends.
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
			return fmt.Errorf("no operation %q", c.Op)
		}
		var a answer
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
