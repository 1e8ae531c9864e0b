package stream

import (
	"testing"
)

func TestData(t *testing.T) {
	for _, size := range []int{9, 10, 75, 10 << 10} {
		if n := testing.AllocsPerRun(10, func() { Data(7, size) }); n > 1 {
			t.Errorf("data of %d bytes: got %v allocations, want at most 1", size, n)
		}
		if got := len(Data(7, size)); got != size {
			t.Errorf("got %d bytes, want %d", got, size)
		}
		if seq := Seq(Data(12345670, size)); seq != 12345670 {
			t.Errorf("data of %d bytes: got number %d, want 12345670", size, seq)
		}
	}
}

func TestSeqOfOtherData(t *testing.T) {
	for _, data := range []string{"", "~", "~1234567", "~123456789", "~1234567x", "12345678"} {
		if seq := Seq(data); seq != -1 {
			t.Errorf("%q: got %d, want -1", data, seq)
		}
	}
}
