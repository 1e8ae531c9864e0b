package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/chat"
	"github.com/chi-sse/sse/example/internal/guard"
	"github.com/chi-sse/sse/hub"
)

// bothWays has the two values of the flag -detached.
var bothWays = map[string]bool{"detached": true, "attached": false}

// chatSite serves the routes of the whole site, and returns its URL and its chat.
func chatSite(t *testing.T, detached bool) (site string, c *chat.Room) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	c, err := chat.New(t.Context(), chat.Config{Detached: detached, Logger: logger})
	require.NoError(t, err)
	site = serve(t, routes(newLog(t, ""), newMonitor(noReading), c, &guard.Hosts{}, logger))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, c.Hub().Shutdown(ctx))
	})
	return site, c
}

// dialChat opens the stream under name, or as a client without a name if that is "".
func dialChat(t *testing.T, site, name, lastID string) *stream {
	t.Helper()
	query := ""
	if name != "" {
		query = "?" + url.Values{"name": {name}}.Encode()
	}
	return dial(t, site+"/chat/events"+query, lastID)
}

// enterChat opens the stream as a new client, which gets a snapshot and then joins the room.
func enterChat(t *testing.T, site, name string) (s *stream, st chat.State, you chat.Live) {
	t.Helper()
	s = dialChat(t, site, name, "")
	st, _ = as[chat.State](s, "snapshot")
	you, _ = as[chat.Live](s, "live")
	p, _ := as[chat.Person](s, "joined")
	assert.Equal(t, chat.Person{ID: you.You, Name: name}, p)
	assert.NotEmpty(t, you.Key)
	return s, st, you
}

// as returns the data and the id of the next event, which must have this name.
func as[T any](s *stream, name string) (data T, id string) {
	s.t.Helper()
	ev := s.next()
	require.Equal(s.t, name, ev.Name, ev.Data)
	require.NoError(s.t, json.Unmarshal([]byte(ev.Data), &data))
	return data, ev.ID
}

// post sends a form to target.
func post(t *testing.T, target string, form url.Values) answer {
	t.Helper()
	resp, err := http.PostForm(target, form)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp, strings.TrimSpace(string(body))}
}

// say sends a message, and returns the id of its event.
func say(t *testing.T, site, name, text string) (id string) {
	t.Helper()
	a := post(t, site+"/chat/messages", url.Values{"name": {name}, "text": {text}})
	require.Equal(t, http.StatusCreated, a.StatusCode, a.text)
	return a.text
}

func TestChatSaysWhatIsWrong(t *testing.T) {
	site, _ := chatSite(t, true)
	s := dialChat(t, site, "", "")
	as[chat.State](s, "snapshot")
	as[chat.Live](s, "live")
	for _, test := range []struct {
		name, text string
		status     int
		want       string
	}{
		{"Teal Otter", "", 400, "the text must not be empty"},
		{"Teal Otter", " \n ", 400, "the text must not be empty"},
		{"", "Hello", 400, "the name must not be empty"},
		{"", "", 400, "the name must not be empty\nthe text must not be empty"},
		{strings.Repeat("ö", chat.MaxName+1), "Hello", 400, "the name has 25 characters; it must have at most 24"},
		{"Teal Otter", strings.Repeat("ö", chat.MaxText+1), 400, "the text has 501 characters; it must have at most 500"},
		{"Teal Otter", "two\nlines", 400, "the text must not have line breaks or other control characters"},
		{"Teal\x00Otter", "Hello", 400, "the name must not have line breaks or other control characters"},
		{"Teal Otter", "\xff", 400, "the text must be valid UTF-8"},
		{"Teal Otter", strings.Repeat("x", chat.MaxForm), 413, "the form is too large; it must have at most 16384 bytes"},
	} {
		a := post(t, site+"/chat/messages", url.Values{"name": {test.name}, "text": {test.text}})
		assert.Equal(t, test.status, a.StatusCode, test.want)
		assert.Equal(t, test.want, a.text)
	}
	for _, name := range []string{"", "+", "a%0Ab", strings.Repeat("x", chat.MaxName+1)} {
		assert.Equal(t, http.StatusBadRequest, get(t, site+"/chat/events?name="+name).StatusCode, name)
	}
	req, err := http.NewRequest(http.MethodPost, site+"/chat/messages", strings.NewReader("name=a&text=b"))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
	s.quiet() // none of these was published

	// The longest name and text arrive unchanged.
	name, text := strings.Repeat("ö", chat.MaxName), strings.Repeat("<b>&", chat.MaxText/4)
	id := say(t, site, "  "+name+" ", text)
	m, got := as[chat.Message](s, "message")
	assert.Equal(t, id, got)
	assert.Equal(t, chat.Message{Number: 1, Time: m.Time, ID: m.ID, Name: name, Text: text}, m)
	assert.WithinDuration(t, time.Now(), m.Time, patience)
}

func TestChatShowsWhoIsHere(t *testing.T) {
	for name, detached := range bothWays {
		t.Run(name, func(t *testing.T) {
			site, _ := chatSite(t, detached)
			a, st, you := enterChat(t, site, "Teal Otter")
			assert.Equal(t, chat.State{People: []*chat.Person{}, Messages: []chat.Message{}}, st)
			otter := chat.Person{ID: you.You, Name: "Teal Otter"}

			b, st, you := enterChat(t, site, "Amber Heron")
			heron := chat.Person{ID: you.You, Name: "Amber Heron"}
			assert.Equal(t, []*chat.Person{&otter}, st.People)
			assert.NotEqual(t, otter.ID, heron.ID)
			p, _ := as[chat.Person](a, "joined")
			assert.Equal(t, heron, p)

			// A client without a name is not listed.
			c := dialChat(t, site, "", "")
			st, _ = as[chat.State](c, "snapshot")
			assert.Equal(t, []*chat.Person{&otter, &heron}, st.People)
			you, _ = as[chat.Live](c, "live")
			assert.Equal(t, chat.Live{}, you)
			c.close()

			b.close()
			p, _ = as[chat.Person](a, "left")
			assert.Equal(t, heron, p)
			_, st, _ = enterChat(t, site, "Rust Lynx")
			assert.Equal(t, []*chat.Person{&otter}, st.People)
		})
	}
}

func TestChatShowsNewcomersWhatWasSaid(t *testing.T) {
	for name, detached := range bothWays {
		t.Run(name, func(t *testing.T) {
			site, _ := chatSite(t, detached)
			const said = chat.RecentMessages + 10
			var id string
			for i := range said {
				id = say(t, site, "Teal Otter", fmt.Sprintf("text %d", i+1))
			}
			s := dialChat(t, site, "", "")
			st, _ := as[chat.State](s, "snapshot")
			require.Len(t, st.Messages, chat.RecentMessages)
			for i, m := range st.Messages {
				assert.Equal(t, said-chat.RecentMessages+i+1, m.Number)
				assert.Equal(t, fmt.Sprintf("text %d", m.Number), m.Text)
			}
			_, at := as[chat.Live](s, "live")
			assert.Equal(t, id, at, "the client has the id that the snapshot matches, and can resume there")
			say(t, site, "Teal Otter", "the next")
			m, _ := as[chat.Message](s, "message")
			assert.Equal(t, said+1, m.Number)
			s.quiet()
		})
	}
}

func TestChatResumesExactly(t *testing.T) {
	for name, detached := range bothWays {
		t.Run(name, func(t *testing.T) {
			site, c := chatSite(t, detached)
			a, _, you := enterChat(t, site, "Teal Otter")
			b, _, other := enterChat(t, site, "Amber Heron")
			as[chat.Person](a, "joined")
			last := say(t, site, "Teal Otter", "before")
			_, id := as[chat.Message](a, "message")
			assert.Equal(t, last, id)

			assert.Equal(t, http.StatusNoContent, post(t, site+"/chat/cut", url.Values{"key": {you.Key}}).StatusCode)
			a.ended()
			as[chat.Message](b, "message")
			as[chat.Person](b, "left")
			for i := range 3 {
				say(t, site, "Amber Heron", fmt.Sprint(i+1))
				as[chat.Message](b, "message")
			}
			assert.Equal(t, http.StatusNoContent, post(t, site+"/chat/cut", url.Values{"key": {other.Key}}).StatusCode)
			b.ended()
			// A detached stream may end before the hub has reported that its client left.
			require.Eventually(t, func() bool {
				st, _ := c.State()
				return len(st.People) == 0
			}, patience, time.Millisecond)

			a = dialChat(t, site, "Teal Otter", last)
			p, _ := as[chat.Person](a, "left")
			assert.Equal(t, chat.Person{ID: you.You, Name: "Teal Otter"}, p)
			for i := range 3 {
				m, _ := as[chat.Message](a, "message")
				assert.Equal(t, fmt.Sprint(i+1), m.Text)
				assert.Equal(t, i+2, m.Number)
			}
			p, _ = as[chat.Person](a, "left")
			assert.Equal(t, chat.Person{ID: other.You, Name: "Amber Heron"}, p)
			again, _ := as[chat.Live](a, "live")
			assert.NotEqual(t, you.Key, again.Key)
			p, _ = as[chat.Person](a, "joined")
			assert.Equal(t, chat.Person{ID: again.You, Name: "Teal Otter"}, p)
			a.quiet()
		})
	}
}

// The page opens a new EventSource when the name changes. It sends the last id in the URL,
// where a browser that reconnects by itself sends it in a header.
func TestChatResumesFromTheURL(t *testing.T) {
	site, _ := chatSite(t, true)
	first := say(t, site, "Teal Otter", "one")
	say(t, site, "Teal Otter", "two")
	s := dial(t, site+"/chat/events?lastEventId="+first, "")
	m, _ := as[chat.Message](s, "message")
	assert.Equal(t, "two", m.Text)
	as[chat.Live](s, "live")
}

// Clients get each message once and in order, no matter when they join, leave, and come back.
func TestChatLosesNothingUnderLoad(t *testing.T) {
	for name, detached := range bothWays {
		t.Run(name, func(t *testing.T) {
			site, _ := chatSite(t, detached)
			const talkers, each = 4, 100
			var talk, listen sync.WaitGroup
			for i := range talkers {
				talk.Go(func() {
					for range each {
						say(t, site, fmt.Sprint("talker ", i), "text")
					}
				})
			}
			for i := range 4 {
				listen.Go(func() {
					name := fmt.Sprint("listener ", i)
					last, id := 0, ""
					for last < talkers*each {
						s := dialChat(t, site, name, id)
						// The first id comes after the snapshot. A client that leaves before it
						// would come back as a new client.
						for n := 0; id == "" || n < 5+7*i && last < talkers*each; n++ {
							ev := s.next()
							id = ev.ID
							switch ev.Name {
							case "snapshot":
								var st chat.State
								require.NoError(t, json.Unmarshal([]byte(ev.Data), &st))
								assert.Zero(t, last, "only a new client may get a snapshot")
								if n := len(st.Messages); n > 0 {
									last = st.Messages[n-1].Number
								}
							case "message":
								var m chat.Message
								require.NoError(t, json.Unmarshal([]byte(ev.Data), &m))
								assert.Equal(t, last+1, m.Number)
								last = m.Number
							}
						}
						s.close()
					}
				})
			}
			talk.Wait()
			listen.Wait()
		})
	}
}

func TestChatCutsOneWindowOnly(t *testing.T) {
	for name, detached := range bothWays {
		t.Run(name, func(t *testing.T) {
			site, _ := chatSite(t, detached)
			a, _, you := enterChat(t, site, "Teal Otter")
			b, _, _ := enterChat(t, site, "Amber Heron")
			as[chat.Person](a, "joined")
			for _, key := range []string{"", "nonsense", fmt.Sprint(you.You), "room"} {
				assert.Equal(t, http.StatusNotFound, post(t, site+"/chat/cut", url.Values{"key": {key}}).StatusCode)
			}
			conn := rawGet(t, site, "/chat/events?name=Rust+Lynx")
			text := readUntil(t, conn, `"Rust Lynx"}`)
			_, key, _ := strings.Cut(text, `"key":"`)
			key, _, _ = strings.Cut(key, `"`)
			assert.Equal(t, http.StatusNoContent, post(t, site+"/chat/cut", url.Values{"key": {key}}).StatusCode)
			readUntil(t, conn, "\r\nretry: 5000\n\n\r\n0\r\n\r\n") // the retry field, and an orderly end
			for _, s := range []*stream{a, b} {
				as[chat.Person](s, "joined")
				as[chat.Person](s, "left")
				s.quiet()
			}
		})
	}
}

func TestChatTellsOfTheGapAfterARestart(t *testing.T) {
	before, _ := chatSite(t, true)
	id := say(t, before, "Teal Otter", "of the past")
	for name, detached := range bothWays {
		t.Run(name, func(t *testing.T) {
			site, _ := chatSite(t, detached)
			say(t, site, "Amber Heron", "of the present")
			s := dialChat(t, site, "Teal Otter", id)
			gap, _ := as[hub.Gap](s, hub.GapEvent)
			assert.Equal(t, hub.GapEpoch, gap.Reason)
			assert.Equal(t, id, gap.LastEventID)
			assert.True(t, gap.Snapshot)
			st, _ := as[chat.State](s, "snapshot")
			require.Len(t, st.Messages, 1)
			assert.Equal(t, "of the present", st.Messages[0].Text)
			as[chat.Live](s, "live")
		})
	}
}

func TestRunEndsTheChatInOrder(t *testing.T) {
	for _, detached := range bothWays {
		p := runOptions(t, options{addr: "127.0.0.1:0", logPath: t.TempDir() + "/access.log", detached: detached})
		var streams []*stream
		for i := range 5 {
			s, _, _ := enterChat(t, p.url, fmt.Sprint("window ", i))
			streams = append(streams, s)
		}
		say(t, p.url, "Teal Otter", "the last word")
		began := time.Now()
		require.NoError(t, p.stop())
		assert.Less(t, time.Since(began), atOnce)
		for _, s := range streams {
			last := ""
			for ev := range s.events {
				if ev.Name == "message" {
					last = ev.Data
				}
			}
			assert.Contains(t, last, "the last word")
		}
	}
}

func TestChatIsClosedAfterTheShutdown(t *testing.T) {
	site, c := chatSite(t, true)
	require.NoError(t, c.Hub().Shutdown(t.Context()))
	a := post(t, site+"/chat/messages", url.Values{"name": {"Teal Otter"}, "text": {"Hello"}})
	assert.Equal(t, http.StatusServiceUnavailable, a.StatusCode)
	assert.Equal(t, "the server is about to restart; try again in a moment", a.text)
}
