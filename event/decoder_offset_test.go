package event_test

// This file tests InputOffset.

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// offsetReader reads text, and ends a read at each of the offsets in cuts.
type offsetReader struct {
	text string
	cuts []int
	at   int
}

func (r *offsetReader) Read(p []byte) (n int, err error) {
	if r.at == len(r.text) {
		return 0, io.EOF
	}
	end := len(r.text)
	for _, cut := range r.cuts {
		if cut > r.at {
			end = min(end, cut)
		}
	}
	n = copy(p, r.text[r.at:end])
	r.at += n
	return n, nil
}

// countOffsets returns, for each event in stream, the number of bytes after which it is
// complete. It finds them with the naive reader, by cutting the stream off after each byte.
func countOffsets(stream string, all bool) (ends []int) {
	for i := 1; i <= len(stream); i++ {
		if c := stream[i-1]; c != '\n' && c != '\r' {
			continue
		}
		if len(readNaively([]byte(stream[:i]), all, all).events) > len(ends) {
			ends = append(ends, i)
		}
	}
	return ends
}

// withLF moves each end that is between a CR and its LF to after the LF, unless the stream
// is cut between the two.
func withLF(stream string, ends, cuts []int) (with []int64) {
	for _, end := range ends {
		if stream[end-1] == '\r' && strings.HasPrefix(stream[end:], "\n") && !slices.Contains(cuts, end) {
			end++
		}
		with = append(with, int64(end))
	}
	return with
}

// offsets decodes d's stream to its end, and returns the offset after each event.
func offsets(t *testing.T, d *event.Decoder) (ends []int64) {
	t.Helper()
	for {
		_, err := d.Decode()
		if err == io.EOF {
			return ends
		}
		require.NoError(t, err)
		ends = append(ends, d.InputOffset())
	}
}

func TestInputOffsetIsTheEndOfTheBlock(t *testing.T) {
	for _, tt := range []struct {
		name, stream string
		want         []int64 // if the stream is read whole
	}{
		{"nothing", "", nil},
		{"LF", "data: a\n\ndata: bc\n\n", []int64{9, 19}},
		{"CR", "data: a\r\rdata: bc\r\r", []int64{9, 19}},
		{"CRLF", "data: a\r\n\r\ndata: bc\r\n\r\n", []int64{11, 23}},
		{"mixed", "data: a\n\rdata: b\r\r\ndata: c\r\n\n", []int64{9, 19, 29}},
		{"byte order mark", "\uFEFFdata: a\n\n", []int64{12}},
		{"half a byte order mark", "\xEF\xBB\n\ndata: a\n\n", []int64{13}},
		{"silent blocks before", ": x\n\nretry: 1\n\n\n\nid: 7\n\ndata: a\n\n", []int64{33}},
		{"further blank lines are of the next", "data: a\n\n\n\ndata: b\n\n", []int64{9, 20}},
		{"ill-formed UTF-8", "data: \xFF\xFF\n\ndata: \xE2\x82\n\n", []int64{10, 20}},
		{"unfinished block", "data: a\n\ndata: b\n", []int64{9}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, withLF(tt.stream, countOffsets(tt.stream, false), nil), "the expected offsets are wrong")
			require.Equal(t, tt.want, offsets(t, event.NewDecoder(strings.NewReader(tt.stream))), "read whole")
		})
	}
}

func TestInputOffsetOverEachChunking(t *testing.T) {
	for _, tt := range decodeTests {
		t.Run(tt.name, func(t *testing.T) {
			ends := countOffsets(tt.stream, tt.all)
			check := func(cuts []int, what string, args ...any) {
				t.Helper()
				d := event.NewDecoder(&offsetReader{text: tt.stream, cuts: cuts})
				d.Comments, d.RetryOnly = tt.all, tt.all
				require.Zero(t, d.InputOffset())
				require.Equal(t, withLF(tt.stream, ends, cuts), offsets(t, d), append([]any{what}, args...)...)
			}
			check(nil, "read whole")
			each := make([]int, len(tt.stream))
			for i := range each {
				each[i] = i
			}
			check(each, "read byte by byte")
			for _, cut := range each {
				check([]int{cut}, "cut at byte %d", cut)
			}
		})
	}
}

// In a stream that is longer than the buffer, bytes move within the buffer, and it grows
// and shrinks.
func TestInputOffsetBeyondTheBuffer(t *testing.T) {
	for _, eol := range []string{"\n", "\r", "\r\n"} {
		var stream strings.Builder
		var want []int64
		for i := range 150 {
			if i%50 == 0 {
				stream.WriteString(":" + eol + eol)
			}
			stream.WriteString("id: 1" + eol + "data: " + strings.Repeat("x", i*i%9000) + eol + eol)
			want = append(want, int64(stream.Len()))
		}
		for name, r := range map[string]io.Reader{
			"whole":        strings.NewReader(stream.String()),
			"halves":       iotest.HalfReader(strings.NewReader(stream.String())),
			"packets":      packets{strings.NewReader(stream.String())},
			"byte by byte": iotest.OneByteReader(strings.NewReader(stream.String())),
			"EOF at once":  iotest.DataErrReader(strings.NewReader(stream.String())),
		} {
			d := event.NewDecoder(r)
			for i, end := range want {
				raw, err := d.DecodeRaw()
				require.NoError(t, err)
				require.Len(t, raw.Data, i*i%9000)
				got := d.InputOffset()
				if got == end-1 && eol == "\r\n" && stream.String()[got] == '\n' {
					got++ // the decoder has not read the LF yet
				}
				require.Equal(t, end, got, "event %d of %q read in %s", i, eol, name)
			}
		}
	}
}

// If a block ends with a CR, the LF after it belongs to that block. It counts as soon as it
// has been read, even if nothing follows.
func TestInputOffsetOfALateLF(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		for _, chunk := range []string{"data: a\r\n\r", "\n", "data: b\r\n\r", "\n"} {
			io.WriteString(w, chunk)
		}
		w.Close()
	}()
	d := event.NewDecoder(r)
	require.Equal(t, []int64{10, 21}, offsets(t, d))
	require.EqualValues(t, 22, d.InputOffset(), "at the end")
}

func TestInputOffsetStartsAnewWithReset(t *testing.T) {
	d := event.NewDecoder(strings.NewReader("data: a\n\ndata: b\n\ndata: c"))
	_, err := d.Decode()
	require.NoError(t, err)
	require.EqualValues(t, 9, d.InputOffset())

	d.Reset(strings.NewReader("\uFEFFdata: abc\r"), "") // part of the old stream has not been read
	require.Zero(t, d.InputOffset())
	_, err = d.Decode()
	require.Equal(t, io.EOF, err)
	d.Reset(strings.NewReader("\ndata: a\n\n"), "") // this LF does not belong to the CR of the old stream
	require.Zero(t, d.InputOffset())
	require.Equal(t, []int64{10}, offsets(t, d))

	d.MaxLineSize = 5
	d.Reset(strings.NewReader("data: abc\n\n"), "")
	_, err = d.Decode()
	require.Error(t, err)
	d.Reset(strings.NewReader("data\n\n"), "")
	require.Zero(t, d.InputOffset(), "after an error")
	require.Equal(t, []int64{6}, offsets(t, d))
}

// After an error the offset is between the end of the last block and the end of the bytes
// read, and stays the same.
func TestInputOffsetAfterAnError(t *testing.T) {
	boom := errors.New("boom")
	const stream = "data: a\n\ndata: too large\ndata: b"
	for name, tt := range map[string]struct {
		r     io.Reader
		limit int
	}{
		"end of the stream":     {strings.NewReader(stream), 0},
		"end with the last":     {iotest.DataErrReader(strings.NewReader(stream)), 0},
		"error of the reader":   {io.MultiReader(strings.NewReader(stream), iotest.ErrReader(boom)), 0},
		"line too large":        {strings.NewReader(stream), 10},
		"line slowly too large": {iotest.OneByteReader(strings.NewReader(stream)), 10},
	} {
		t.Run(name, func(t *testing.T) {
			d := event.NewDecoder(tt.r)
			d.MaxLineSize = tt.limit
			_, err := d.Decode()
			require.NoError(t, err)
			require.EqualValues(t, 9, d.InputOffset())
			_, err = d.Decode()
			require.Error(t, err)
			at := d.InputOffset()
			require.GreaterOrEqual(t, at, int64(9))
			require.LessOrEqual(t, at, int64(len(stream)))
			_, again := d.Decode()
			require.Equal(t, err, again)
			require.Equal(t, at, d.InputOffset())
		})
	}
}
