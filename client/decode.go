// Typed events: the data of an event decoded into a Go type. It uses the session from
// outside, except for silent and complete.

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
	// DecodeData decodes data into the value that v points to.
	DecodeData(data string, v any) error
}

// DeserializerFunc makes a function a [Deserializer].
type DeserializerFunc func(data string, v any) error

// DecodeData returns f(data, v).
func (f DeserializerFunc) DecodeData(data string, v any) error { return f(data, v) }

// JSON decodes data with encoding/json.
var JSON Deserializer = DeserializerFunc(func(data string, v any) error {
	return json.Unmarshal([]byte(data), v)
})

// TypedEvent represents an [Event] whose data is decoded as a T. The other fields have
// the same meaning as in Event.
type TypedEvent[T any] struct {
	ID, Name string
	Data     T
	Comment  string
	Retry    time.Duration
	ResetID  bool
	Silent   bool // the event only shows a comment or a reconnection time; see [Session.Silent]
}

// DecodeError reports data that could not be decoded into a type. It does not end the
// session.
type DecodeError struct {
	Event Event
	Type  reflect.Type // the type to decode into
	Err   error        // the error of the Deserializer
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("client: cannot decode an event's data into %v: %v", e.Type, e.Err)
}

// Unwrap returns e.Err.
func (e *DecodeError) Unwrap() error { return e.Err }

// Decode returns the data of ev, decoded as a T by the session's Config.Deserializer. If
// T is string or []byte, Decode returns the data unchanged. Empty data that the Deserializer
// does not accept, as [JSON] does not, gives the zero T: some servers, such as MCP's, send
// an event with empty data only for its id. The error is a [*DecodeError].
func Decode[T any](s *Session, ev Event) (T, error) {
	v, err := decode[T](s, ev)
	if err != nil && ev.Data == "" {
		err = nil
	}
	return v, err
}

// decode does what Decode does, but returns an error about empty data too.
func decode[T any](s *Session, ev Event) (T, error) {
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

// Incoming returns the events of [Session.Incoming], each with its data decoded by
// [Decode].
//
// If the data of an event cannot be decoded, the event comes with a [*DecodeError] and a
// zero Data. The session goes on, and the loop may continue with the next event.
//
// Events that only show a comment or a reconnection time are Silent, and their Data is the
// zero T. A terminal event whose data cannot be decoded, such as "[DONE]" in most
// cases, ends the loop without being handed out.
func Incoming[T any](s *Session) iter.Seq2[TypedEvent[T], error] {
	return func(yield func(TypedEvent[T], error) bool) {
		for ev, err := range s.Incoming() {
			typed := TypedEvent[T]{ID: ev.ID, Name: ev.Name, Comment: ev.Comment, Retry: ev.Retry, ResetID: ev.ResetID}
			typed.Silent = err == nil && s.silent
			if err == nil && !typed.Silent {
				typed.Data, err = decode[T](s, ev)
				switch {
				case err != nil && s.complete:
					continue
				case ev.Data == "":
					err = nil
				}
			}
			if !yield(typed, err) {
				return
			}
		}
	}
}
