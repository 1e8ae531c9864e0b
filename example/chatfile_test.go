package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/chat"
	"github.com/chi-sse/sse/example/internal/guard"
	"github.com/chi-sse/sse/hub"
)

// runChat runs the program with its chat in the file at path.
func runChat(t *testing.T, path string) *program {
	t.Helper()
	return runOptions(t, options{addr: "127.0.0.1:0", logPath: t.TempDir() + "/access.log", chatPath: path, detached: true})
}

// A chat in a file continues after the server has restarted: a client gets what it missed, and
// a new one sees what was said. The people of the past are gone.
func TestChatContinuesAfterARestart(t *testing.T) {
	path := t.TempDir() + "/a directory/chat.db"
	p := runChat(t, path)
	otter, _, _ := enterChat(t, p.url, "Teal Otter")
	enterChat(t, p.url, "Amber Heron")
	as[chat.Person](otter, "joined")
	for i := range chat.RecentMessages {
		say(t, p.url, "Teal Otter", fmt.Sprint(i+1))
	}
	id := say(t, p.url, "Teal Otter", "seen")
	say(t, p.url, "Amber Heron", "missed")
	began := time.Now()
	require.NoError(t, p.stop())
	assert.Less(t, time.Since(began), atOnce)

	p = runChat(t, path)
	say(t, p.url, "Rust Lynx", "of the present")
	back := dialChat(t, p.url, "Teal Otter", id)
	m, _ := as[chat.Message](back, "message")
	assert.Equal(t, chat.Message{Number: chat.RecentMessages + 2, Time: m.Time, ID: m.ID, Name: "Amber Heron", Text: "missed"}, m)
	as[struct{}](back, "started")
	m, _ = as[chat.Message](back, "message")
	assert.Equal(t, chat.Message{Number: chat.RecentMessages + 3, Time: m.Time, ID: m.ID, Name: "Rust Lynx", Text: "of the present"}, m)
	you, _ := as[chat.Live](back, "live")
	in, _ := as[chat.Person](back, "joined")
	assert.Equal(t, chat.Person{ID: you.You, Name: "Teal Otter"}, in)
	back.quiet()

	_, st, _ := enterChat(t, p.url, "Olive Owl")
	assert.Equal(t, []*chat.Person{{ID: you.You, Name: "Teal Otter"}}, st.People)
	require.Len(t, st.Messages, chat.RecentMessages)
	assert.Equal(t, 4, st.Messages[0].Number)
	assert.Equal(t, "of the present", st.Messages[chat.RecentMessages-1].Text)
}

// A snapshot lacks none of the messages that were acknowledged before it, and no message is
// both in it and after it, although the hub reads its log a moment after it was written.
func TestChatInAFileTakesSnapshotsThatFit(t *testing.T) {
	p := runChat(t, t.TempDir()+"/chat.db")
	said := 0
	for range 50 {
		say(t, p.url, "Teal Otter", "text")
		said++
		s := dialChat(t, p.url, "", "")
		st, _ := as[chat.State](s, "snapshot")
		require.NotEmpty(t, st.Messages)
		require.Equal(t, said, st.Messages[len(st.Messages)-1].Number)
		as[chat.Live](s, "live")
		say(t, p.url, "Teal Otter", "text")
		said++
		m, _ := as[chat.Message](s, "message")
		require.Equal(t, said, m.Number)
		s.close()
	}
}

// If the file has been replaced, a client is told of the gap.
func TestChatTellsOfTheGapAfterItsFileIsGone(t *testing.T) {
	path := t.TempDir() + "/chat.db"
	p := runChat(t, path)
	id := say(t, p.url, "Teal Otter", "of the past")
	require.NoError(t, p.stop())
	require.NoError(t, os.Remove(path))
	p = runChat(t, path)
	s := dialChat(t, p.url, "", id)
	gap, _ := as[hub.Gap](s, hub.GapEvent)
	assert.Equal(t, hub.GapEpoch, gap.Reason)
	st, _ := as[chat.State](s, "snapshot")
	assert.Empty(t, st.Messages)
}

// A message that cannot be written is refused, and is not in the state.
func TestChatRefusesWhatItCannotKeep(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	file, err := openChatFile(t.TempDir()+"/chat.db", logger)
	require.NoError(t, err)
	c, err := chat.New(t.Context(), chat.Config{Log: file, Detached: true, Logger: logger})
	require.NoError(t, err)
	site := serve(t, routes(newLog(t, ""), newMonitor(noReading), c, &guard.Hosts{}, logger))
	say(t, site, "Teal Otter", "kept")
	require.NoError(t, file.Close())
	a := post(t, site+"/chat/messages", url.Values{"name": {"Teal Otter"}, "text": {"Hello"}})
	assert.Equal(t, http.StatusServiceUnavailable, a.StatusCode)
	assert.Equal(t, "the message could not be written to the chat's log; try again in a moment", a.text)
	s := dialChat(t, site, "Amber Heron", "")
	st, _ := as[chat.State](s, "snapshot")
	require.Len(t, st.Messages, 1)
	assert.Equal(t, "kept", st.Messages[0].Text)
	st, _ = c.State()
	assert.Empty(t, st.People, "nobody was told that she joined")
	s.close()
	require.NoError(t, c.Hub().Shutdown(t.Context()))
}

func TestRunTellsWhereTheChatIs(t *testing.T) {
	file := t.TempDir() + "/chat.db"
	for path, want := range map[string]string{
		file: "The chat is kept in " + file + ", and continues after a restart.\n",
		"":   "The chat is kept in memory, and is lost when the server stops.\n",
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		t.Cleanup(cancel)
		var out bytes.Buffer
		require.NoError(t, run(ctx, options{addr: "127.0.0.1:0", logPath: t.TempDir() + "/access.log", chatPath: path}, &out))
		assert.Contains(t, out.String(), want)
	}
}

func TestRunTellsWhyTheChatCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	start := func(path string) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return run(ctx, options{addr: "127.0.0.1:0", logPath: t.TempDir() + "/access.log", chatPath: path}, io.Discard)
	}
	const choose = "choose another file with -chat, or keep the chat in memory with -chat="

	p := runChat(t, dir+"/locked.db")
	err := start(dir + "/locked.db")
	require.ErrorContains(t, err, dir+"/locked.db is in use, perhaps by another copy of this program; stop that one, "+choose)
	require.NoError(t, p.stop())

	b, err := os.ReadFile(dir + "/locked.db")
	require.NoError(t, err)
	for i := 2 * os.Getpagesize(); i < len(b); i += 64 { // all pages but the first two, which say what the file is
		b[i] ^= 0xff
	}
	require.NoError(t, os.WriteFile(dir+"/damaged.db", b, 0o600))
	require.NoError(t, os.WriteFile(dir+"/other.db", []byte(strings.Repeat("Hello. ", 10_000)), 0o600))
	for name, want := range map[string]string{
		"damaged.db": "damaged.db is damaged",
		"other.db":   "is not a log",
		".":          "cannot be opened",
	} {
		err := start(dir + "/" + name)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, choose)
	}
	require.ErrorContains(t, start(dir+"/other.db/chat.db"), choose)
}
