package client

import (
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"time"
)

// Deserializer turns the data of an event into a value.
type Deserializer interface {
	// DecodeData sets what v points at from data.
	DecodeData(data string, v any) error
}

// DeserializerFunc is a function as a [Deserializer].
type DeserializerFunc func(data string, v any) error

// DecodeData calls f.
func (f DeserializerFunc) DecodeData(data string, v any) error { return f(data, v) }

// JSON is encoding/json.
var JSON Deserializer = DeserializerFunc(func(data string, v any) error {
	return json.Unmarshal([]byte(data), v)
})

// TypedEvent is an [Event] with its data as a T. See Event for the other fields.
type TypedEvent[T any] struct {
	ID, Name string
	Data     T
	Comment  string
	Retry    time.Duration
	ResetID  bool
}

// DecodeError is data that is no value of a type. The session goes on.
type DecodeError struct {
	Event Event
	Type  reflect.Type // that was asked for
	Err   error        // of the Deserializer
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("client: cannot decode an event's data into %v: %v", e.Type, e.Err)
}

// Unwrap returns e.Err.
func (e *DecodeError) Unwrap() error { return e.Err }

// Decode returns the data of ev as a T, by the session's Config.Deserializer. A
// string or []byte is the data itself. The error is a [*DecodeError].
func Decode[T any](s *Session, ev Event) (T, error) {
	var v T
	switch to := any(&v).(type) {
	case *string:
		*to = ev.Data
	case *[]byte:
		*to = []byte(ev.Data)
	default:
		if err := s.call.cfg.Deserializer.DecodeData(ev.Data, &v); err != nil {
			var zero T
			return zero, &DecodeError{ev, reflect.TypeFor[T](), err}
		}
	}
	return v, nil
}

// Incoming is [Session.Incoming] with the data of each event decoded by [Decode].
//
// An event that cannot be decoded comes with a [*DecodeError], and without Data. That
// does not end the session: a loop that goes on gets the next. Not decoded are events
// that are shown for their comment or retry alone, whose Data is the zero T. A
// terminal event that cannot be decoded, as "[DONE]" mostly cannot, ends the loop
// without being handed out.
func Incoming[T any](s *Session) iter.Seq2[TypedEvent[T], error] {
	return func(yield func(TypedEvent[T], error) bool) {
		for ev, err := range s.Incoming() {
			typed := TypedEvent[T]{ID: ev.ID, Name: ev.Name, Comment: ev.Comment, Retry: ev.Retry, ResetID: ev.ResetID}
			if err == nil && !s.dec.Silent() {
				if typed.Data, err = Decode[T](s, ev); err != nil && s.complete {
					continue
				}
			}
			if !yield(typed, err) {
				return
			}
		}
	}
}
