package hub_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// An event that Publish refuses leaves the hub unchanged.
func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	h, err := hub.New(hub.Config{LogSize: 1000})
	require.NoError(t, err)
	before, err := h.Publish(t.Context(), "a", sse.Event{Data: "1"})
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		ctx   context.Context
		topic string
		event sse.Event
		field string // Field of the *event.FieldError
		is    error
		text  string
	}{
		"empty topic":          {topic: "", text: "hub: publish: the topic must not be empty"},
		"canceled":             {ctx: canceled, topic: "a", is: context.Canceled, text: "hub: publish: context canceled"},
		"id with a line break": {topic: "a", event: sse.Event{ID: "a\nb"}, field: "ID"},
		"id": {
			topic: "a", event: sse.Event{ID: "x", Data: "x"}, field: "ID",
			text: "hub: publish: event: ID must be empty in a published event unless hub.Config.OwnIDs is set",
		},
		"id and ResetID":   {topic: "a", event: sse.Event{ID: "x", ResetID: true}, field: "ResetID"},
		"ResetID":          {topic: "a", event: sse.Event{ResetID: true}, field: "ResetID"},
		"ResetID and data": {topic: "a", event: sse.Event{Data: "x", ResetID: true}, field: "ResetID"},
		"name":             {topic: "a", event: sse.Event{Name: "a\nb", Data: "x"}, field: "Name"},
		"data":             {topic: "a", event: sse.Event{Data: "\xff"}, field: "Data"},
		"comment":          {topic: "a", event: sse.Event{Data: "x", Comment: "\xff"}, field: "Comment"},
		"only a comment":   {topic: "a", event: sse.Event{Comment: "\xff"}, field: "Comment"},
		"retry":            {topic: "a", event: sse.Event{Data: "x", Retry: time.Nanosecond}, field: "Retry"},
		"only a retry":     {topic: "a", event: sse.Event{Retry: -2}, field: "Retry"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			pos, err := h.Publish(ctx, tt.topic, tt.event)
			require.Error(t, err)
			require.True(t, pos.IsZero())
			require.True(t, strings.HasPrefix(err.Error(), "hub: publish: "), err)
			if tt.text != "" {
				require.EqualError(t, err, tt.text)
			}
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			if tt.field != "" {
				var field *event.FieldError
				require.ErrorAs(t, err, &field)
				require.Equal(t, tt.field, field.Field)
			}
		})
	}
	for name, e := range map[string]sse.Event{
		"data":    {Data: strings.Repeat("x", 1000)},
		"lines":   {Data: strings.Repeat("\n", 400)},
		"comment": {Comment: strings.Repeat("x", 1000)},
	} {
		t.Run("too large "+name, func(t *testing.T) {
			_, err := h.Publish(t.Context(), "a", e)
			var large *event.TooLargeError
			require.ErrorAs(t, err, &large)
			require.Equal(t, event.TooLargeError{What: "event", Limit: 1000}, *large)
		})
	}
	require.Equal(t, before, h.Position())
	st := h.Stats()
	require.Equal(t, 1, st.LogEvents)
	require.EqualValues(t, 1, st.Published)
	require.Equal(t, 1, st.Topics)
}

// A hub can hold one event of the largest size.
func TestPublishTheLargestEvent(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogSize: 5000}})
		s := a.connect("/")
		data := strings.Repeat("x", 4900)
		for range 3 {
			a.publish("a", sse.Event{Data: data})
			require.Equal(t, data, s.event().Data)
			require.Equal(t, 1, a.Stats().LogEvents)
		}
		s = a.reconnect(s)
		requireNoGap(t, s)
	})
}

func TestPublishWithACanceledContextThatIsLate(t *testing.T) {
	t.Parallel()
	h, err := hub.New(hub.Config{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 0, errOwn)
	defer cancel()
	_, err = h.Publish(ctx, "a", sse.Event{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// The error of a batch says which event is refused, and none of the batch is in the log.
func TestPublishAllRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range memoryAndLog() {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, cfg)
			for _, tt := range []struct {
				second hub.Publication
				text   string
			}{
				{hub.Publication{Topic: "a", Event: sse.Event{Data: "\xff"}}, "event: Data is not valid UTF-8 at byte 0"},
				{hub.Publication{Event: sse.Event{Data: "x"}}, "the topic must not be empty"},
			} {
				_, err := h.PublishAll(t.Context(), []hub.Publication{{Topic: "a"}, tt.second})
				var index *sse.IndexError
				require.ErrorAs(t, err, &index)
				require.Equal(t, 1, index.Index)
				require.EqualError(t, err, "hub: publish: event at index 1: "+tt.text)
			}
			_, err := h.Publish(t.Context(), "", sse.Event{})
			require.EqualError(t, err, "hub: publish: the topic must not be empty", "one event has no index")
			pos, err := h.Publish(t.Context(), "a", sse.Event{})
			require.NoError(t, err)
			require.EqualValues(t, 1, pos.Offset)
		})
	}
}
