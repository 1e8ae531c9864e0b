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

// frames are events 0 to n, as a server writes them.
func frames(n int) (all []string, want []int) {
	for i := range n {
		all = append(all, fmt.Sprintf("event: e\ndata: %s\nid: %d\n\n", Data(i, 30), i))
		want = append(want, i)
	}
	return all, want
}

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
		t.Errorf("%v allocations", n)
	}
}

func TestData(t *testing.T) {
	for _, size := range []int{9, 10, 75, 10 << 10} {
		if n := testing.AllocsPerRun(10, func() { Data(7, size) }); n > 1 {
			t.Errorf("of %d bytes: %v allocations", size, n)
		}
		if got := len(Data(7, size)); got != size {
			t.Errorf("%d bytes, want %d", got, size)
		}
		if seq := Seq(Data(12345670, size)); seq != 12345670 {
			t.Errorf("of %d bytes: number %d", size, seq)
		}
	}
}

func TestSeqOfOtherData(t *testing.T) {
	for _, data := range []string{"", "~", "~1234567", "~123456789", "~1234567x", "12345678"} {
		if seq := Seq(data); seq != -1 {
			t.Errorf("%q: got %d", data, seq)
		}
	}
}

func TestTally(t *testing.T) {
	for _, c := range []struct {
		name                string
		seqs                []int
		missing, duplicates int
	}{
		{"all", []int{10, 11, 12, 13, 14}, 0, 0},
		{"none", nil, 5, 0},
		{"the end is missing", []int{10, 11}, 3, 0},
		{"the start is missing", []int{13, 14}, 3, 0},
		{"a hole", []int{10, 14}, 3, 0},
		{"a hole filled late", []int{10, 14, 12, 13, 11}, 0, 0},
		{"twice", []int{10, 11, 11, 12, 10, 13, 14}, 0, 2},
		{"a hole filled twice", []int{10, 13, 14, 12, 12}, 1, 1},
		{"an old one", []int{10, 3, 11, 12, 13, 14}, 0, 1},
	} {
		var tally Tally
		tally.Start(10)
		for _, seq := range c.seqs {
			tally.Add(seq)
		}
		if m, d := tally.Missing(15), tally.Duplicates(); m != c.missing || d != c.duplicates {
			t.Errorf("%s: %d missing, %d twice; want %d, %d", c.name, m, d, c.missing, c.duplicates)
		}
	}
}

func TestFloor(t *testing.T) {
	f := NewFloor(3, 10)
	for _, step := range []struct{ seq, want int }{
		{10, 10}, {11, 10}, {10, 10}, {12, 10}, {10, 11}, {11, 11}, {12, 11}, {11, 12}, {12, 13}, {9, 13},
	} {
		f.Add(step.seq)
		if f.Floor() != step.want {
			t.Fatalf("after %d: %d, want %d", step.seq, f.Floor(), step.want)
		}
	}
}
