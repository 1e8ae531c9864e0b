package chat

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

const (
	// MaxName is the longest name of a message, in characters.
	MaxName = 24

	// MaxText is the longest text of a message, in characters.
	MaxText = 500

	// maxID is the longest ID of a message.
	maxID = 64

	// MaxForm is the largest body of a request, in bytes. It has room for texts that
	// are too long, so that the error can say by how much.
	MaxForm = 16 << 10

	// cutFor is how long a window waits before it reconnects after cut.
	cutFor = 5 * time.Second
)

// say publishes a message from a form with the fields "name" and "text". It answers with
// the event's id.
//
// A client that gets no answer cannot know whether the message was published. If the form has
// a field "id", which is another one for each message, the client can send it again, to any
// node, and the message is published once.
//
// Any client can use any name here. Where that matters, take the name from the login.
func (r *Room) say(w http.ResponseWriter, req *http.Request) {
	if !parseForm(w, req) {
		return
	}
	name, text := strings.TrimSpace(req.PostForm.Get("name")), strings.TrimSpace(req.PostForm.Get("text"))
	id := cmp.Or(req.PostForm.Get("id"), rand.Text())
	if err := errors.Join(check("name", name, MaxName), check("text", text, MaxText), check("id", id, maxID)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pos, err := r.add(id, name, text)
	if err != nil {
		reason := "the message could not be written to the chat's log"
		if errors.Is(err, sse.ErrShutdown) {
			reason = "the server is about to restart"
		}
		http.Error(w, reason+"; try again in a moment", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintln(w, pos)
}

// add publishes a message, unless one with its ID has been published already.
//
// Its number must be the next one, although other nodes publish too. So the number is the
// event's key, and of several nodes that publish the same number, the first one wins. The
// others get the position of the winner's event. When they have come there they have seen
// that message, and try the next number. By then they also know whether that message has the
// same ID.
func (r *Room) add(id, name, text string) (hub.Position, error) {
	ctx, cancel := context.WithTimeout(context.Background(), hub.DefaultPublishTimeout)
	defer cancel()
	r.saying.Lock()
	defer r.saying.Unlock()
	if err := ctx.Err(); err != nil { // those before it have found the log in trouble
		return hub.Position{}, err
	}
	for tried := 0; ; {
		r.mu.Lock()
		pos, done := r.state.posted[id]
		number := r.state.said + 1
		r.mu.Unlock()
		switch {
		case done:
			return pos, nil
		case number == tried: // the log remembers the key of a message that it has dropped
			return hub.Position{}, fmt.Errorf("the message %d is missing in the log", number)
		}
		tried = number
		m := Message{Number: number, Time: time.Now().UTC().Truncate(time.Millisecond), Name: name, Text: text, ID: id}
		pos, err := r.publish("message", m, fmt.Sprint("message/", number))
		if err == nil {
			err = r.hub.Wait(ctx, pos)
		}
		if err != nil {
			return hub.Position{}, err
		}
	}
}

// errCut is the error of a session that cut has ended. It appears in the server's log.
var errCut = errors.New("the page asked the server to cut its connection")

// cut ends the session of the window with the key in the form, and makes the window wait
// for cutFor before it reconnects. To the browser it looks like a lost connection.
func (r *Room) cut(w http.ResponseWriter, req *http.Request) {
	if !parseForm(w, req) {
		return
	}
	key := req.PostForm.Get("key")
	found := false
	for m := range r.hub.Members(windowTopic(key)) {
		// This applies until the window reconnects: each stream starts with the usual
		// retry.
		_ = m.Session().Send(sse.Event{Retry: cutFor}) // fails if the stream has already ended
		m.Kick(errCut)
		found = true
	}
	switch {
	case found:
		w.WriteHeader(http.StatusNoContent)
	case r.node != "" && check("key", key, maxID) == nil:
		r.cutElsewhere(w, req, windowTopic(key))
	default:
		http.Error(w, "this window is not connected", http.StatusNotFound)
	}
}

// cutElsewhere is cut for a window that is not connected to this node. The log takes both the
// event and the kick to all nodes.
func (r *Room) cutElsewhere(w http.ResponseWriter, req *http.Request, window string) {
	_, err := r.hub.Publish(req.Context(), window, sse.Event{Retry: cutFor})
	if err == nil {
		_, err = r.hub.Kick(req.Context(), window, errCut)
	}
	if err != nil {
		http.Error(w, "the connection could not be cut; try again in a moment", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// parseForm parses the form in the body of r, and reports whether that worked. If not, it
// has answered the request.
func parseForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, MaxForm)
	err := r.ParseForm()
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		http.Error(w, fmt.Sprintf("the form is too large; it must have at most %d bytes", tooLarge.Limit), http.StatusRequestEntityTooLarge)
		return false
	}
	if err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return false
	}
	return true
}

// check returns an error that tells the user what is wrong with the text of a field, or
// nil. A text must be valid UTF-8 of 1 to limit characters without control characters.
func check(field, text string, limit int) error {
	switch n := utf8.RuneCountInString(text); {
	case text == "":
		return fmt.Errorf("the %s must not be empty", field)
	case !utf8.ValidString(text):
		return fmt.Errorf("the %s must be valid UTF-8", field)
	case n > limit:
		return fmt.Errorf("the %s has %d characters; it must have at most %d", field, n, limit)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("the %s must not have line breaks or other control characters", field)
	}
	return nil
}
