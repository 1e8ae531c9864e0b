package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/chi-sse/sse/event"
)

func ExampleEvent_AppendText() {
	buf := make([]byte, 0, 1024) // reused for every event
	for i, word := range []string{"ready", "go"} {
		frame, err := event.Event{ID: fmt.Sprint(i), Name: "state", Data: word}.AppendText(buf[:0])
		if err != nil {
			panic(err)
		}
		fmt.Printf("%q\n", frame)
	}
	// Output:
	// "event: state\ndata: ready\nid: 0\n\n"
	// "event: state\ndata: go\nid: 1\n\n"
}

func ExampleEvent_MarshalText() {
	frame, err := event.Event{
		ID:      "7",
		Name:    "verse",
		Data:    "Roses are red,\nviolets are blue",
		Comment: "clients skip this",
		Retry:   3 * time.Second,
	}.MarshalText()
	if err != nil {
		panic(err)
	}
	fmt.Print(string(frame))
	// Output:
	// event: verse
	// data: Roses are red,
	// data: violets are blue
	// id: 7
	// retry: 3000
	// : clients skip this
}

// The JSON encoder writes directly into the frame. No separate []byte is needed.
func ExampleAppendWith() {
	price := struct {
		Symbol string
		Cents  int
	}{"ACME", 4200}

	frame, err := event.AppendWith(nil, event.Event{ID: "1", Name: "price"}, func(frame []byte) ([]byte, error) {
		buf := bytes.NewBuffer(frame)
		err := json.NewEncoder(buf).Encode(price)
		return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err // the Encoder ends with a line feed, which would start another data line
	})
	if err != nil {
		panic(err)
	}
	fmt.Print(string(frame))
	// Output:
	// event: price
	// data: {"Symbol":"ACME","Cents":4200}
	// id: 1
}

func ExampleDecoder_All() {
	stream := strings.NewReader("id: 1\ndata: hello\n\n: keep-alive\n\nevent: bye\ndata: see\ndata: you\n\n")

	d := event.NewDecoder(stream)
	for ev, err := range d.All() {
		if err != nil {
			panic(err) // the connection broke; at an orderly end the loop just ends
		}
		fmt.Printf("%q %q\n", ev.Name, ev.Data)
	}
	fmt.Println("last event id:", d.LastEventID())
	// Output:
	// "" "hello"
	// "bye" "see\nyou"
	// last event id: 1
}

// DecodeRaw allocates nothing. Use its result, or copy it, before the next call.
func ExampleDecoder_DecodeRaw() {
	d := event.NewDecoder(strings.NewReader("data: 20\n\ndata: 22\n\n"))
	sum := 0
	for {
		raw, err := d.DecodeRaw()
		if err == io.EOF {
			break
		}
		if err != nil {
			panic(err)
		}
		var n int
		if err := json.Unmarshal(raw.Data, &n); err != nil {
			panic(err)
		}
		sum += n
	}
	fmt.Println(sum)
	// Output: 42
}

// The encoder refuses a name or an id with a line break in it. So a name or an id that
// comes from a user cannot forge an event.
func ExampleFieldError() {
	_, err := event.Event{Name: "chat\ndata: forged", Data: "hello"}.MarshalText()

	if fieldErr, ok := errors.AsType[*event.FieldError](err); ok {
		fmt.Println("refused:", fieldErr.Field, fieldErr.Reason)
	}
	fmt.Println(err)
	// Output:
	// refused: Name holds a line feed
	// event: Name holds a line feed at byte 4
}

// A sender cannot make a Decoder use more memory than its limits allow.
func ExampleTooLargeError() {
	d := event.NewDecoder(strings.NewReader("data: ok\n\ndata: " + strings.Repeat("x", 1000)))
	d.MaxLineSize = 100
	for ev, err := range d.All() {
		if tooLarge, ok := errors.AsType[*event.TooLargeError](err); ok {
			fmt.Printf("giving up: a %s of more than %d bytes\n", tooLarge.What, tooLarge.Limit)
			break
		}
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Data)
	}
	// Output:
	// ok
	// giving up: a line of more than 100 bytes
}
