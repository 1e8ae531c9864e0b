package event_test

// This file fuzzes the encoder. It reads what the encoder wrote with the naive reader.

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// FuzzEncode encodes an event with arbitrary fields. The encoder must either refuse the
// event for a good reason, or write bytes that a client reads as exactly this event: no
// other event, id or retry.
func FuzzEncode(f *testing.F) {
	f.Add("", "", "", "", int64(0), false)
	f.Add("1", "name", "data", "comment", int64(time.Second), false)
	f.Add("", "", "a\nb\rc\r\nd\n\re\r\r\n", "\r\n\r", int64(-1), true)
	f.Add("é", "\uFFFD", "\uFEFF世界\n\x00", "🌍", int64(1_999_999), false)
	f.Add("1", "", "", "", int64(0), true)
	f.Add("1\nretry: 0", "x\n\ndata: forged", "id: 1\n\n", "\ndata: x", int64(-2), false)
	f.Add(" 1", "\x00", "", "", int64(999_999), false)
	f.Add("1\t", " ", " ", " ", int64(1_000_000), false)
	for _, bad := range ill {
		f.Add("", "", strings.Repeat("x", 60)+bad+"y", "", int64(0), false)
		f.Add("1", "x"+bad, "", "ü"+bad, int64(0), false)
	}

	f.Fuzz(func(t *testing.T, id, name, data, comment string, retry int64, reset bool) {
		e := event.Event{ID: id, Name: name, Data: data, Comment: comment, Retry: time.Duration(retry), ResetID: reset}
		dst := []byte("dst")

		dispatched := data != "" || name != "" || e == event.Event{}

		got, err := e.AppendText(dst)
		requireSound(t, e, err)
		if err != nil {
			requireUnchanged(t, "dst", dst, got)
		} else {
			requireReads(t, e, dispatched, string(got[len(dst):]))
		}

		with, errWith := event.AppendWith(dst, e, appending(e.Data))
		require.Equal(t, err, errWith, "AppendWith refuses what AppendText does")
		if err != nil {
			requireUnchanged(t, "dst", dst, with)
		} else {
			requireReads(t, e, true, string(with[len(dst):]))
			if dispatched {
				require.Equal(t, string(got), string(with))
			}
		}

		got, err = event.AppendComment(dst, comment)
		requireSound(t, event.Event{Comment: comment}, err)
		if err != nil {
			requireUnchanged(t, "dst", dst, got)
		} else {
			requireReads(t, event.Event{Comment: comment}, false, string(got[len(dst):]))
		}
	})
}

// requireSound asserts that err is nil if e is valid, and otherwise a FieldError that names
// a field and a byte that are really wrong.
func requireSound(t testing.TB, e event.Event, err error) {
	t.Helper()
	isHeaderControl := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F }
	if err == nil {
		require.True(t, utf8.ValidString(e.ID) && utf8.ValidString(e.Name) && utf8.ValidString(e.Data) && utf8.ValidString(e.Comment))
		require.NotContains(t, e.Name, "\n")
		require.NotContains(t, e.Name, "\r")
		require.NotContains(t, e.Name, "\x00")
		require.False(t, strings.ContainsFunc(e.ID, isHeaderControl))
		require.Equal(t, strings.Trim(e.ID, " \t"), e.ID)
		require.False(t, e.ID != "" && e.ResetID)
		require.True(t, e.Retry == 0 || e.Retry == event.RetryImmediately || e.Retry >= time.Millisecond)
		return
	}

	var fault *event.FieldError
	require.ErrorAs(t, err, &fault)
	require.NotEmpty(t, fault.Reason)
	if fault.Offset < 0 {
		require.Equal(t, -1, fault.Offset)
		switch fault.Field {
		case "ID":
			require.True(t, e.ID != "" && e.ResetID)
		case "Retry":
			require.True(t, e.Retry < 0 && e.Retry != event.RetryImmediately || e.Retry > 0 && e.Retry < time.Millisecond)
		default:
			require.Fail(t, "refused as a whole", "%v", fault)
		}
		return
	}
	value, ok := map[string]string{"ID": e.ID, "Name": e.Name, "Data": e.Data, "Comment": e.Comment}[fault.Field]
	require.True(t, ok, "%v", fault)
	require.Less(t, fault.Offset, len(value), "%v", fault)
	c := value[fault.Offset]
	atEnd := fault.Offset == 0 || fault.Offset == len(value)-1
	r, size := utf8.DecodeRuneInString(value[fault.Offset:])
	switch {
	case fault.Field == "ID" && isHeaderControl(rune(c)):
	case fault.Field == "ID" && atEnd && (c == ' ' || c == '\t'):
	case fault.Field == "Name" && (c == '\n' || c == '\r' || c == 0):
	case r == utf8.RuneError && size == 1 && utf8.ValidString(value[:fault.Offset]):
	default:
		require.Fail(t, "refused without cause", "%v in %q", fault, value)
	}
}

// requireReads asserts that a client reads frame as e, and that frame does not change how
// the client reads what comes before and after it. If dispatched is set, the client must
// dispatch e, and otherwise it must not.
func requireReads(t testing.TB, e event.Event, dispatched bool, frame string) {
	t.Helper()
	lineEnds := strings.NewReplacer("\r\n", "\n", "\r", "\n")
	want := e
	want.Data, want.Comment = lineEnds.Replace(e.Data), ""
	if e.Retry > 0 {
		want.Retry -= e.Retry % time.Millisecond
	}
	// The frame is read between these two events, so that any effect on them shows.
	const before, after = "id: before\nretry: 4321\ndata: before\n\n", "data: after\n\n"
	lastID := e.ID
	if e.ID == "" && !e.ResetID {
		lastID = "before"
	}
	want.ID = lastID
	retry := max(0, want.Retry)
	if e.Retry == 0 {
		retry = 4321 * time.Millisecond
	}
	stream := func(frames ...event.Event) []event.Event {
		events := []event.Event{{ID: "before", Data: "before", Retry: 4321 * time.Millisecond}}
		events = append(events, frames...)
		return append(events, event.Event{ID: lastID, Data: "after"})
	}

	got := readNaively([]byte(before+frame+frame+after), false, false)
	if dispatched {
		require.Equal(t, stream(want, want), got.events, "%q", frame)
	} else {
		require.Equal(t, stream(), got.events, "%q", frame)
	}
	require.Equal(t, lastID, got.lastEventID, "%q", frame)
	require.Equal(t, retry, got.reconnectionTime, "%q", frame)

	// A reader that returns comments gets the event's comment as it was set.
	got = readNaively([]byte(before+frame+after), true, true)
	want.Comment = lineEnds.Replace(e.Comment)
	switch {
	case dispatched, e.Retry != 0, e.Comment != "": // a block with only an empty comment is not returned
		require.Equal(t, stream(want), got.events, "%q", frame)
	default:
		require.Equal(t, stream(), got.events, "%q", frame)
	}
}
