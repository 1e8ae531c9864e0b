package stream

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Padding: ~~~\r\n"

// frames returns events 0 to n-1 as a server writes them, and their sequence numbers.
func frames(n int) (all []string, want []int) {
	for i := range n {
		all = append(all, fmt.Sprintf("event: e\ndata: %s\nid: %d\n\n", Data(i, 30), i))
		want = append(want, i)
	}
	return all, want
}

// chunk returns text in chunks of size bytes, as in a chunked response.
func chunk(text string, size int) string {
	var b strings.Builder
	for part := range slices.Chunk([]byte(text), size) {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
	}
	return b.String()
}

func TestScannerFindsEventsAcrossAllCuts(t *testing.T) {
	all, want := frames(5)
	body := ": open\n\n" + strings.Join(all, "")
	responses := map[string]string{"plain": head + "\r\n" + body}
	for size := 1; size <= len(body); size++ {
		responses[fmt.Sprint("chunks of ", size)] = head + "Transfer-Encoding: chunked\r\n\r\n" + chunk(body, size)
	}
	for name, response := range responses {
		for cut := 1; cut < 60; cut++ {
			var s Scanner
			var got []int
			var err error
			for part := range slices.Chunk([]byte(response), cut) {
				if got, err = s.Scan(part, got); err != nil {
					t.Fatalf("%s, read by %d: %v", name, cut, err)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s, read by %d: got %v", name, cut, got)
			}
		}
	}
}

func TestScannerErrors(t *testing.T) {
	const chunked = head + "Transfer-Encoding: chunked\r\n\r\n"
	for _, c := range []struct {
		response string
		want     error
	}{
		{"HTTP/1.1 404 Not Found\r\nContent-Type: text/event-stream\r\n\r\n", errHead},
		{"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", errHead},
		{strings.Repeat("x", maxHead+1), errHead},
		{chunked + "zz\r\n", errChunk},
		{chunked + "fffffffff\r\n", errChunk},
		{chunked + "2;ext=1\r\n~x\r\n", errEvent},
		{chunked + "1\r\n \r\n0\r\n\r\n", io.EOF},
	} {
		var s Scanner
		if _, err := s.Scan([]byte(c.response), nil); !errors.Is(err, c.want) {
			t.Errorf("%.60q: got %v, want %v", c.response, err, c.want)
		}
	}
}

func TestScannerAllocatesNothingPerEvent(t *testing.T) {
	all, _ := frames(100)
	body := []byte(chunk(strings.Join(all, ""), 70))
	var s Scanner
	if _, err := s.Scan([]byte(head+"Transfer-Encoding: chunked\r\n\r\n"), nil); err != nil {
		t.Fatal(err)
	}
	seqs := make([]int, 0, 100)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.Scan(body, seqs[:0]); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
