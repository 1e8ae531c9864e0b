// Report summarizes the output of go test -json, which it reads from its standard input. It
// prints a line for each package, the whole output of each failed test, and a count at the
// end. A skipped test counts as failed, and a run without any test fails.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// record represents a line of the output of go test -json (see go doc test2json).
type record struct {
	Action, Package, ImportPath, Test, Output string
}

// key identifies a test, or a whole package if test is empty.
type key struct{ pkg, test string }

func main() {
	var (
		order  []key // in the order of their first output
		output = map[key]string{}
		broken = map[string]bool{} // packages with a failed test
		failed []string
		passed int
	)
	flush := func(pkg string) {
		for _, k := range order {
			if k.pkg == pkg && output[k] != "" {
				fmt.Print(output[k])
				delete(output, k)
			}
		}
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		var r record
		if json.Unmarshal([]byte(line), &r) != nil {
			fmt.Print(line)
			continue
		}
		k := key{r.Package, r.Test}
		switch {
		case r.Action == "build-output":
			fmt.Print(r.Output)
		case r.Action == "output":
			if progress(r.Output) {
				continue
			}
			if _, seen := output[k]; !seen {
				order = append(order, k)
			}
			output[k] += r.Output
		case r.Test != "" && r.Action == "pass":
			passed++
			delete(output, k)
		case r.Test != "" && (r.Action == "skip" || r.Action == "fail"):
			broken[r.Package] = true
			failed = append(failed, fmt.Sprintf("%s: %s %s", r.Action, r.Package, r.Test))
		case r.Action == "fail":
			if !broken[r.Package] {
				failed = append(failed, "fail: "+r.Package)
			}
			flush(r.Package)
		case r.Action == "pass" || r.Action == "skip":
			flush(r.Package)
		}
	}
	for _, f := range failed {
		fmt.Println(f)
	}
	fmt.Printf("%d passed, %d failed\n", passed, len(failed))
	if len(failed) > 0 || passed == 0 {
		os.Exit(1)
	}
}

// progress reports whether line is one that go test prints for every test.
func progress(line string) bool {
	return line == "PASS\n" || strings.HasPrefix(line, "=== ")
}
