package logkit

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// Record returns a record of topic with data.
func Record(topic, data string) hub.Record {
	return hub.Record{Topic: topic, Event: sse.Event{Data: data}}
}

// Records returns n records of topic, with numbers from first on.
func Records(topic string, first, n int) []hub.Record {
	records := make([]hub.Record, n)
	for i := range records {
		records[i] = Record(topic, strconv.Itoa(first+i))
	}
	return records
}

// Texts returns the data of the records.
func Texts(records []hub.Record) []string {
	data := make([]string, 0, len(records))
	for _, r := range records {
		data = append(data, r.Event.Data)
	}
	return data
}

// Append appends records to l, and returns their positions.
func Append(t testing.TB, l hub.Log, records ...hub.Record) []hub.Position {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	positions, err := l.Append(ctx, records)
	require.NoError(t, err)
	require.Len(t, positions, len(records))
	return positions
}

// Bounds returns the bounds of l.
func Bounds(t testing.TB, l hub.Log) hub.Bounds {
	t.Helper()
	b, err := l.Bounds(t.Context())
	require.NoError(t, err)
	return b
}
