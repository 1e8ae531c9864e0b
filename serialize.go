package sse

import (
	"bytes"
	"encoding"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/go-chi/render"

	"github.com/chi-sse/sse/event"
)

// Serializer turns a value into the data of an event.
type Serializer interface {
	// AppendData appends the text of v to dst, which it must not change otherwise,
	// and returns the extended slice. Line breaks in the text become data lines.
	AppendData(dst []byte, v any) ([]byte, error)
}

// SerializerFunc is a function as a [Serializer].
type SerializerFunc func(dst []byte, v any) ([]byte, error)

// AppendData calls f.
func (f SerializerFunc) AppendData(dst []byte, v any) ([]byte, error) { return f(dst, v) }

var (
	// JSON is encoding/json, with <, > and & as they are and without a line break at
	// the end: exactly the JSON text.
	JSON Serializer = JSONSerializer{}

	// Text is for values that are text: strings, byte slices,
	// encoding.TextAppender, encoding.TextMarshaler, errors, fmt.Stringer, and numbers
	// and booleans as fmt prints them. It refuses others.
	Text Serializer = SerializerFunc(appendText)

	// XML is encoding/xml.
	XML Serializer = SerializerFunc(appendXML)
)

// JSONSerializer is [JSON] with options.
type JSONSerializer struct {
	// EscapeHTML writes <, > and & as \u003c and so on, for clients that put the
	// text into HTML unparsed.
	EscapeHTML bool
}

// AppendData implements [Serializer].
func (j JSONSerializer) AppendData(dst []byte, v any) ([]byte, error) {
	e := jsonEncoders.Get().(*jsonEncoder)
	e.dst = dst
	e.SetEscapeHTML(j.EscapeHTML)
	err := e.Encode(v)
	out := e.dst
	e.dst = nil
	jsonEncoders.Put(e) // after an error too: Write has none, and no other lasts
	if err != nil {
		return dst, err
	}
	return bytes.TrimSuffix(out, []byte("\n")), nil
}

// jsonEncoder is a json.Encoder that appends to dst: json.Marshal would escape,
// and allocate a copy.
type jsonEncoder struct {
	*json.Encoder
	dst []byte
}

var jsonEncoders = sync.Pool{New: func() any {
	e := new(jsonEncoder)
	e.Encoder = json.NewEncoder(e)
	return e
}}

func (e *jsonEncoder) Write(p []byte) (int, error) {
	e.dst = append(e.dst, p...)
	return len(p), nil
}

func appendText(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return append(dst, v...), nil
	case []byte:
		return append(dst, v...), nil
	case encoding.TextAppender:
		return v.AppendText(dst)
	case encoding.TextMarshaler:
		text, err := v.MarshalText()
		return append(dst, text...), err
	case error, fmt.Stringer:
		return fmt.Append(dst, v), nil
	}
	switch k := reflect.ValueOf(v).Kind(); {
	case k >= reflect.Bool && k <= reflect.Complex128, k == reflect.String:
		return fmt.Append(dst, v), nil
	}
	return dst, fmt.Errorf("%T is not text", v)
}

func appendXML(dst []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	if err := xml.NewEncoder(buf).Encode(v); err != nil {
		return dst, err
	}
	return buf.Bytes(), nil
}

// TypedEvent is an [Event] whose Data is still to be serialized. See Event for
// the other fields.
type TypedEvent struct {
	ID, Name string
	Data     any // nil: no data, as an Event with empty Data
	Comment  string
	Retry    time.Duration
	ResetID  bool
}

// SendData sends an event that has only data. A string or []byte is the data
// itself; anything else goes through the route's serializer. A render.Renderer is
// rendered first, and so are its fields, as render.Render does.
//
// Beside the errors of [ServerSession.Send], SendData returns that of the
// serializer or renderer, wrapped. Nothing has then been sent.
func (s *ServerSession) SendData(v any) error {
	if v == nil {
		return s.sendWith(Event{}, v)
	}
	return s.SendTyped(TypedEvent{Data: v})
}

// SendTyped sends an event whose data is made as by [ServerSession.SendData].
func (s *ServerSession) SendTyped(e TypedEvent) error {
	ev := Event{ID: e.ID, Name: e.Name, Comment: e.Comment, Retry: e.Retry, ResetID: e.ResetID}
	switch v := e.Data.(type) {
	case nil:
		return s.Send(ev)
	case string:
		ev.Data = v
		if v == "" {
			return s.sendWith(ev, v) // not silent, even with an ID
		}
		return s.Send(ev)
	default:
		return s.sendWith(ev, v)
	}
}

// sendWith sends e with v as its data.
func (s *ServerSession) sendWith(e Event, v any) error {
	if r, ok := v.(render.Renderer); ok {
		if err := s.render(r); err != nil {
			return fmt.Errorf("sse: render %T: %w", v, err)
		}
	}
	return s.send(func(dst []byte) ([]byte, error) {
		return event.AppendWith(dst, e, func(frame []byte) ([]byte, error) {
			switch v := v.(type) {
			case string:
				return append(frame, v...), nil
			case []byte:
				return append(frame, v...), nil
			}
			frame, err := s.route.serializer.AppendData(frame, v)
			if err != nil {
				return frame, fmt.Errorf("serialize %T: %w", v, err)
			}
			return frame, nil
		})
	})
}

var rendererType = reflect.TypeFor[render.Renderer]()

// render does to r what render.Render does before it responds: r.Render, then that
// of each field that is a Renderer. It has the request to itself, since
// implementations change it (render.Status does), and a response that goes nowhere.
func (s *ServerSession) render(r render.Renderer) error {
	return renderTree(renderWriter{http.Header{}}, s.Call().WithContext(s.ctx), r)
}

func renderTree(w http.ResponseWriter, req *http.Request, r render.Renderer) error {
	v := reflect.ValueOf(r)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if err := r.Render(w, req); err != nil {
		return err
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range v.Fields() {
		if !f.CanInterface() || !f.Type().Implements(rendererType) || isNil(f) {
			continue
		}
		if err := renderTree(w, req, f.Interface().(render.Renderer)); err != nil {
			return err
		}
	}
	return nil
}

func isNil(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan:
		return v.IsNil()
	}
	return false
}

// renderWriter is the response that a payload's Render sees: the stream's head is
// out, so there is nothing to be written but the payload.
type renderWriter struct{ header http.Header }

func (w renderWriter) Header() http.Header       { return w.header }
func (w renderWriter) WriteHeader(int)           {}
func (w renderWriter) Write([]byte) (int, error) { return 0, http.ErrBodyNotAllowed }
