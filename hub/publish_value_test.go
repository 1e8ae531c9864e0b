package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

type quote struct {
	Symbol string  `json:"symbol"`
	Bid    float64 `json:"bid"`
}

// publishes returns what publish makes of topic "a": the frame that a client gets, without its
// id line, and the Message that a Filter sees.
func publishes(t *testing.T, cfg hub.Config, publish func(h *hub.Hub) error) (frame string, e sse.Event) {
	t.Helper()
	messages := make(chan sse.Event, 1)
	a := http1.start(t, plan{
		hub: cfg,
		sub: hub.Subscription{
			Topics: []string{"a"},
			Start:  hub.Beginning,
			Filter: func(m *hub.Message) bool {
				if len(messages) == 0 {
					messages <- m.Event
				}
				return true
			},
		},
	})
	require.NoError(t, publish(a.Hub))
	a.publish("a", sse.Event{ID: ownID(cfg, "end"), Data: "end"}) // and waits until the hub has applied all of it
	text := get(a.srv.URL+"/", "", "data: end")
	for line := range strings.Lines(text) {
		switch {
		case line == "\n":
			return frame, <-messages
		case !strings.HasPrefix(line, "id: ") || cfg.OwnIDs:
			frame += line
		}
	}
	require.Fail(t, "no event", text)
	return "", sse.Event{}
}

func ownID(cfg hub.Config, id string) string {
	if cfg.OwnIDs {
		return id
	}
	return ""
}

// memoryAndLog returns the configurations of a hub whose events are in its memory, and of one of a
// Log.
func memoryAndLog() map[string]hub.Config {
	return map[string]hub.Config{"memory": {}, "log": {Log: logtest.NewMemory(1)}}
}

func TestPublishTyped(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cfg   hub.Config
		event sse.TypedEvent
		frame string
		data  string
	}{
		{"struct", hub.Config{}, sse.TypedEvent{Name: "quote", Data: quote{"ACME", 1.5}}, "event: quote\ndata: {\"symbol\":\"ACME\",\"bid\":1.5}\n", `{"symbol":"ACME","bid":1.5}`},
		{"pointer", hub.Config{}, sse.TypedEvent{Data: &quote{"A&B", 1}, Comment: "c", Retry: time.Second}, "data: {\"symbol\":\"A&B\",\"bid\":1}\nretry: 1000\n: c\n", `{"symbol":"A&B","bid":1}`},
		{"string", hub.Config{}, sse.TypedEvent{Data: "as it is"}, "data: as it is\n", "as it is"},
		{"bytes", hub.Config{}, sse.TypedEvent{Name: "n", Data: []byte("a\nb\r\nc")}, "event: n\ndata: a\ndata: b\ndata: c\n", "a\nb\r\nc"},
		{"lines like data", hub.Config{}, sse.TypedEvent{Data: "a\nd"}, "data: a\ndata: d\n", "a\nd"},
		{"non-ASCII", hub.Config{}, sse.TypedEvent{Data: []string{"世"}}, "data: [\"世\"]\n", `["世"]`},
		{"nil", hub.Config{}, sse.TypedEvent{Name: "n"}, "event: n\ndata: \n", ""},
		{"nil pointer", hub.Config{}, sse.TypedEvent{Data: (*quote)(nil)}, "data: null\n", "null"},
		{"empty", hub.Config{}, sse.TypedEvent{Data: ""}, "data: \n", ""},
		{"XML", hub.Config{Serializer: sse.XML}, sse.TypedEvent{Data: quote{"A", 1}}, "data: <quote><Symbol>A</Symbol><Bid>1</Bid></quote>\n", "<quote><Symbol>A</Symbol><Bid>1</Bid></quote>"},
		{"Text", hub.Config{Serializer: sse.Text}, sse.TypedEvent{Data: time.Second}, "data: 1s\n", "1s"},
		{"own id", hub.Config{OwnIDs: true}, sse.TypedEvent{ID: "7", Name: "n", Data: 7}, "event: n\ndata: 7\nid: 7\n", "7"},
		{"large", hub.Config{}, sse.TypedEvent{Data: strings.Repeat("x", 50_000)}, "data: " + strings.Repeat("x", 50_000) + "\n", strings.Repeat("x", 50_000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, cfg := range memoryAndLog() {
				t.Run(name, func(t *testing.T) {
					tt.cfg.Log = cfg.Log
					want := sse.Event{ID: tt.event.ID, Name: tt.event.Name, Data: tt.data, Comment: tt.event.Comment, Retry: tt.event.Retry}
					frame, e := publishes(t, tt.cfg, func(h *hub.Hub) error {
						_, err := h.PublishTyped(t.Context(), "a", tt.event)
						for i := range 10 { // what the log keeps must not be in a buffer that is used again
							e := sse.TypedEvent{ID: ownID(tt.cfg, strconv.Itoa(i)), Data: strings.Repeat("other", 100)}
							_, other := h.PublishTyped(t.Context(), "other", e)
							require.NoError(t, other)
						}
						return err
					})
					require.Equal(t, tt.frame, frame)
					require.Equal(t, want, e)
				})
			}
		})
	}
}

func TestPublishTypedRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range memoryAndLog() {
		t.Run(name, func(t *testing.T) {
			cfg.LogSize = 1000
			h := newHub(t, cfg)
			before, err := h.PublishTyped(t.Context(), "a", sse.TypedEvent{Data: 1})
			require.NoError(t, err)

			for _, v := range []any{make(chan int), func() {}, &struct{ C chan int }{}} {
				_, err = h.PublishTyped(t.Context(), "a", sse.TypedEvent{Data: v})
				var encode *sse.EncodeError
				require.ErrorAs(t, err, &encode)
				require.Equal(t, fmt.Sprintf("%T", v), encode.Type.String())
				require.ErrorContains(t, err, fmt.Sprintf("hub: publish: serialize %T: json: unsupported type", v))
				var unsupported *json.UnsupportedTypeError
				require.ErrorAs(t, err, &unsupported)

				_, err = h.EventOf(sse.TypedEvent{Data: v})
				require.ErrorAs(t, err, &encode)
				require.ErrorContains(t, err, fmt.Sprintf("hub: serialize %T: ", v))
			}
			var fault *event.FieldError
			_, err = h.PublishTyped(t.Context(), "a", sse.TypedEvent{ID: "x", Data: 1})
			require.ErrorAs(t, err, &fault)
			_, err = h.PublishTyped(t.Context(), "a", sse.TypedEvent{Data: 1, ResetID: true})
			require.ErrorAs(t, err, &fault)
			_, err = h.PublishTyped(t.Context(), "a", sse.TypedEvent{Data: []byte("\xff")})
			require.ErrorAs(t, err, &fault)
			var tooLarge *event.TooLargeError
			_, err = h.PublishTyped(t.Context(), "a", sse.TypedEvent{Data: strings.Repeat("x", 1000)})
			require.ErrorAs(t, err, &tooLarge)
			_, err = h.PublishTyped(t.Context(), "", sse.TypedEvent{Data: 1})
			require.EqualError(t, err, "hub: publish: the topic must not be empty")
			canceled, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = h.PublishTyped(canceled, "a", sse.TypedEvent{Data: 1})
			require.ErrorIs(t, err, context.Canceled)
			require.Panics(t, func() { _, _ = h.PublishTyped(t.Context(), "a", sse.TypedEvent{Data: panicking{}}) })

			after, err := h.PublishTyped(t.Context(), "a", sse.TypedEvent{Data: 2})
			require.NoError(t, err)
			require.Equal(t, before.Offset+1, after.Offset, "nothing else is in the log")
		})
	}
}

type panicking struct{}

func (panicking) MarshalJSON() ([]byte, error) { panic("in MarshalJSON") }

// With EventOf, a value can also be published in a batch, with a key, and be the last one.
func TestEventOf(t *testing.T) {
	t.Parallel()
	for name, cfg := range memoryAndLog() {
		t.Run(name, func(t *testing.T) {
			cfg.Serializer = sse.Text
			h := newHub(t, cfg)
			e, err := h.EventOf(sse.TypedEvent{Name: "took", Data: time.Second, Comment: "c"})
			require.NoError(t, err)
			require.Equal(t, sse.Event{Name: "took", Data: "1s", Comment: "c"}, e)
			batch := []hub.Publication{{Topic: "a", Event: e, Key: "1"}}
			first, err := h.PublishAll(t.Context(), batch)
			require.NoError(t, err)
			again, err := h.PublishAll(t.Context(), batch)
			require.NoError(t, err)
			require.Equal(t, first, again)
			last, err := h.Finish(t.Context(), "a", e)
			require.NoError(t, err)
			require.NoError(t, h.Wait(t.Context(), last))
			_, err = h.PublishTyped(t.Context(), "a", sse.TypedEvent{Data: "late"})
			require.ErrorIs(t, err, hub.ErrFinished)
		})
	}
}

// write returns a function for PublishFunc that writes the pieces.
func write(pieces ...string) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, p := range pieces {
			if _, err := io.WriteString(w, p); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestPublishFunc(t *testing.T) {
	t.Parallel()
	for name, cfg := range memoryAndLog() {
		t.Run(name, func(t *testing.T) {
			frame, e := publishes(t, cfg, func(h *hub.Hub) error {
				_, err := h.PublishFunc(t.Context(), "a", sse.Event{Name: "n", Comment: "c"}, write("<p>\r", "\n\xe4\xb8", "\x96</p>"))
				return err
			})
			require.Equal(t, "event: n\ndata: <p>\ndata: 世</p>\n: c\n", frame)
			require.Equal(t, sse.Event{Name: "n", Data: "<p>\r\n世</p>", Comment: "c"}, e)
		})
	}
}

func TestPublishFuncRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range memoryAndLog() {
		t.Run(name, func(t *testing.T) {
			cfg.LogSize = 1000
			h := newHub(t, cfg)
			before, err := h.PublishFunc(t.Context(), "a", sse.Event{}, func(w io.Writer) error {
				_, err := h.Publish(t.Context(), "a", sse.Event{Data: "within"})
				testkit.NoError(t, err)
				return write("x")(w)
			})
			require.NoError(t, err)
			require.EqualValues(t, 2, before.Offset)

			errOwn := errors.New("an error of the function")
			_, err = h.PublishFunc(t.Context(), "a", sse.Event{}, func(w io.Writer) error { return errors.Join(write("half")(w), errOwn) })
			require.ErrorIs(t, err, errOwn)
			_, err = h.PublishFunc(t.Context(), "a", sse.Event{Data: "x"}, write("y"))
			require.EqualError(t, err, "hub: publish: event: Data must be empty in PublishFunc, whose function writes the data")
			_, err = h.PublishFunc(t.Context(), "a", sse.Event{}, write("\xff"))
			require.EqualError(t, err, "hub: publish: event: Data is not valid UTF-8 at byte 0")
			var tooLarge *event.TooLargeError
			writes := 0
			_, err = h.PublishFunc(t.Context(), "a", sse.Event{}, func(w io.Writer) error {
				for {
					if err := write(strings.Repeat("x", 100))(w); err != nil {
						return err
					}
					writes++
				}
			})
			require.ErrorAs(t, err, &tooLarge)
			require.Equal(t, 1000, tooLarge.Limit)
			require.Equal(t, 10, writes)
			_, err = h.PublishFunc(t.Context(), "a", sse.Event{}, write(strings.Repeat("x", 999))) // the frame is larger
			require.ErrorAs(t, err, &tooLarge)
			require.PanicsWithValue(t, "stop", func() {
				_, _ = h.PublishFunc(t.Context(), "a", sse.Event{}, func(io.Writer) error { panic("stop") })
			})

			after, err := h.PublishFunc(t.Context(), "a", sse.Event{}, write())
			require.NoError(t, err)
			require.Equal(t, before.Offset+1, after.Offset, "nothing else is in the log")
		})
	}
}

// What a session sends by itself uses the most specific serializer that is set: of the route, of
// the hub that serves it, of the plugin.
func TestSnapshotUsesTheMostSpecificSerializer(t *testing.T) {
	t.Parallel()
	xml, json, text := "data: <quote><Symbol>A</Symbol><Bid>1</Bid></quote>\n", "data: {\"symbol\":\"A\",\"bid\":1}\n", "data: text\n"
	toText := sse.SerializerFunc(func(dst []byte, _ any) ([]byte, error) { return append(dst, "text"...), nil })
	for _, tt := range []struct {
		name               string
		route, hub, plugin sse.Serializer
		want               string
	}{
		{"none", nil, nil, nil, json},
		{"plugin", nil, nil, sse.XML, xml},
		{"hub", nil, toText, nil, text},
		{"hub before plugin", nil, toText, sse.XML, text},
		{"route before hub", sse.JSON, toText, sse.XML, json},
		{"route before plugin", sse.JSON, nil, sse.XML, json},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var options []sse.RouteOption
			if tt.route != nil {
				options = append(options, sse.WithSerializer(tt.route))
			}
			a := http1.start(t, plan{
				sse:   sse.Config{Serializer: tt.plugin},
				hub:   hub.Config{Serializer: tt.hub},
				route: options,
				sub: hub.Subscription{
					Topics: []string{"a"},
					Snapshot: func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
						return at, s.SendData(quote{"A", 1})
					},
				},
			})
			require.Contains(t, get(a.srv.URL+"/", "", "data: "), tt.want)
		})
	}
}
