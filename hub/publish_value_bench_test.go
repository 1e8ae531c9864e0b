package hub

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/chi-sse/sse"
)

type benchOrder struct {
	ID       string   `json:"id"`
	Symbol   string   `json:"symbol"`
	Side     string   `json:"side"`
	Quantity int      `json:"quantity"`
	Price    float64  `json:"price"`
	Open     bool     `json:"open"`
	Tags     []string `json:"tags"`
	Note     string   `json:"note"`
}

// BenchmarkPublishValue publishes a value to a topic that nobody follows, and compares that with
// json.Marshal, whose result nobody keeps, and with Publish of text that is there already.
func BenchmarkPublishValue(b *testing.B) {
	ctx := context.Background()
	small := &benchOrder{ID: "42", Symbol: "ACME", Side: "buy", Quantity: 100, Price: 42.17, Open: true, Tags: []string{"a", "b"}}
	large := *small
	large.Note = strings.Repeat("x", 1<<10)
	for name, v := range map[string]*benchOrder{"8-fields": small, "1KiB": &large} {
		text, err := json.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		data := string(text)
		run := func(verb string, f func(h *Hub) error) {
			b.Run(name+"/"+verb, func(b *testing.B) {
				h := benchHub(b)
				for range DefaultLogEvents + 1000 { // until the log is full
					h.benchPublish("a")
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := f(h); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("json.Marshal", func(*Hub) error { _, err := json.Marshal(v); return err })
		run("Publish", func(h *Hub) error {
			_, err := h.Publish(ctx, "a", sse.Event{Name: "order", Data: data})
			return err
		})
		run("Marshal+Publish", func(h *Hub) error {
			text, err := json.Marshal(v)
			if err == nil {
				_, err = h.Publish(ctx, "a", sse.Event{Name: "order", Data: string(text)})
			}
			return err
		})
		run("PublishTyped", func(h *Hub) error {
			_, err := h.PublishTyped(ctx, "a", sse.TypedEvent{Name: "order", Data: v})
			return err
		})
		run("PublishFunc", func(h *Hub) error {
			_, err := h.PublishFunc(ctx, "a", sse.Event{Name: "order"}, func(w io.Writer) error {
				_, err := io.WriteString(w, data)
				return err
			})
			return err
		})
	}
}
