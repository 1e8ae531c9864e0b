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
	// AppendData appends the text of v to dst and returns the extended slice. It must not
	// change what dst holds. Each line of the text becomes a data line of the event.
	AppendData(dst []byte, v any) ([]byte, error)
}

// SerializerFunc is a function that implements [Serializer].
type SerializerFunc func(dst []byte, v any) ([]byte, error)

// AppendData calls f.
func (f SerializerFunc) AppendData(dst []byte, v any) ([]byte, error) { return f(dst, v) }

var (
	// JSON uses encoding/json. It does not escape <, > and &, and adds no line break at the
	// end.
	JSON Serializer = JSONSerializer{}

	// Text is for values that are text: strings, byte slices, encoding.TextAppender,
	// encoding.TextMarshaler, errors, fmt.Stringer, and numbers and booleans, which it
	// formats like fmt. It returns an error for all other types.
	Text Serializer = SerializerFunc(appendText)

	// XML uses encoding/xml.
	XML Serializer = SerializerFunc(appendXML)
)

// JSONSerializer is [JSON] with an option.
type JSONSerializer struct {
	// EscapeHTML writes <, > and & as \u003c, \u003e and \u0026, for clients that insert
	// the text into HTML without parsing it. Default: false.
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
	jsonEncoders.Put(e) // even after an error: Write returns none, and an Encoder keeps no other
	if err != nil {
		return dst, err
	}
	return bytes.TrimSuffix(out, []byte("\n")), nil
}

// jsonEncoder is a json.Encoder that appends to dst. json.Marshal would escape, and would
// allocate a copy.
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

// TypedEvent is an [Event] whose Data is a value, which [ServerSession.SendTyped] or a hub's
// PublishTyped serializes. Event documents the other fields.
type TypedEvent struct {
	ID, Name string
	Data     any // nil means no data, like the empty Data of an Event
	Comment  string
	Retry    time.Duration
	ResetID  bool
}

// SendData sends an event that has only data. A string or []byte is the data itself. Any
// other value goes through a serializer: the most specific one that is set of [WithSerializer],
// hub.Config.Serializer, if a hub serves the session, and Config.Serializer. So what a hub's
// Snapshot sends looks like the hub's events, unless the route asks for something else.
//
// If the value is a render.Renderer, SendData first calls its Render method, and those of its
// fields, as render.Render does.
//
// SendData returns the errors of [ServerSession.Send]. If the serializer fails, it sends
// nothing and returns an error that wraps an [*EncodeError]; if a Render method fails, one that
// wraps that of the method.
func (s *ServerSession) SendData(v any) error {
	if v == nil {
		return s.sendWith(Event{}, v)
	}
	return s.SendTyped(TypedEvent{Data: v})
}

// SendTyped sends e. It serializes e.Data as [ServerSession.SendData] does, and returns the
// same errors.
func (s *ServerSession) SendTyped(e TypedEvent) error {
	ev := Event{ID: e.ID, Name: e.Name, Comment: e.Comment, Retry: e.Retry, ResetID: e.ResetID}
	switch v := e.Data.(type) {
	case nil:
		return s.Send(ev)
	case string:
		ev.Data = v
		if v == "" {
			return s.sendWith(ev, v) // clients show it, even if it has an ID
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
	serializer := s.serializer()
	return s.send(func(dst []byte) ([]byte, error) {
		return event.AppendWith(dst, e, func(frame []byte) ([]byte, error) {
			return appendValue(frame, v, serializer)
		})
	})
}

// serializer returns the most specific serializer that is set: that of the route, of the hub
// that serves the session, or of the plugin. If a write is under way, it waits for it, as the
// write that follows would.
func (s *ServerSession) serializer() Serializer {
	if l := s.seal.Load(); s.route.serializer != nil || l != nil && l.stops(ofHandler) {
		return s.route.orPlugins()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != nil {
		if serializer, ok := s.owner.Serializer().(Serializer); ok {
			return serializer
		}
	}
	return s.route.orPlugins()
}

func (rt *route) orPlugins() Serializer {
	if rt.serializer != nil {
		return rt.serializer
	}
	return rt.plugin.cfg.Serializer
}

// appendValue appends the text of v to dst. A string or []byte is its own text.
func appendValue(dst []byte, v any, serializer Serializer) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return append(dst, v...), nil
	case []byte:
		return append(dst, v...), nil
	}
	out, err := serializer.AppendData(dst, v)
	if err != nil {
		return dst, &EncodeError{reflect.TypeOf(v), err}
	}
	return out, nil
}

// EncodeError reports a value that a [Serializer] could not turn into the data of an event.
type EncodeError struct {
	Type reflect.Type // the type of the value; nil for a nil value
	Err  error        // the error of the Serializer
}

func (e *EncodeError) Error() string { return fmt.Sprintf("serialize %v: %v", e.Type, e.Err) }

// Unwrap returns e.Err.
func (e *EncodeError) Unwrap() error { return e.Err }

var rendererType = reflect.TypeFor[render.Renderer]()

// render does what render.Render does before it responds: it calls r.Render, and then the
// Render method of each field that is a Renderer. They get a copy of the request, because
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

// renderWriter is the response that a Render method gets. It cannot be written to, because
// the head of the stream has been written.
type renderWriter struct{ header http.Header }

func (w renderWriter) Header() http.Header       { return w.header }
func (w renderWriter) WriteHeader(int)           {}
func (w renderWriter) Write([]byte) (int, error) { return 0, http.ErrBodyNotAllowed }
