package main

import (
	"context"
	_ "embed"
	"errors"
	"html/template"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

//go:embed html.tmpl
var templateText string

var templates = template.Must(template.New("").Parse(templateText))

// columns are the columns of a board, from left to right.
var columns = []string{"todo", "doing", "done"}

// board is a board with cards. It is in memory; a database would do as well.
type board struct {
	hub   *hub.Hub
	mu    sync.Mutex // held until a change is published, so that the events are in the order of the changes
	cards []card
}

type card struct {
	ID     int
	Text   string
	Column string
}

func newBoard(texts ...string) (*board, error) {
	h, err := hub.New(hub.Config{Detached: true})
	b := &board{hub: h}
	for i, text := range texts {
		b.cards = append(b.cards, card{i, text, columns[0]})
	}
	return b, err
}

// add adds a card to the first column.
func (b *board) add(ctx context.Context, text string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cards = append(b.cards, card{len(b.cards), text, columns[0]})
	return b.publish(ctx, columns[0])
}

// move moves a card to the end of a column.
func (b *board) move(ctx context.Context, id int, column string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.cards, func(c card) bool { return c.ID == id })
	if i < 0 || !slices.Contains(columns, column) {
		return errNotThere
	}
	c := b.cards[i]
	b.cards = append(slices.Delete(b.cards, i, i+1), card{c.ID, c.Text, column})
	return b.publish(ctx, c.Column, column)
}

var errNotThere = errors.New("there is no such card or column")

// columnView is what the template of a column needs.
type columnView struct {
	Name  string
	Cards []card
	Left  string // the columns beside it, or ""
	Right string
}

// view returns these columns. b.mu must be held.
func (b *board) view(names ...string) (views []columnView) {
	for i, name := range columns {
		if !slices.Contains(names, name) {
			continue
		}
		v := columnView{Name: name}
		if i > 0 {
			v.Left = columns[i-1]
		}
		if i < len(columns)-1 {
			v.Right = columns[i+1]
		}
		for _, c := range b.cards {
			if c.Column == name {
				v.Cards = append(v.Cards, c)
			}
		}
		views = append(views, v)
	}
	return views
}

// publish publishes the columns that have changed, to the pages of each library. b.mu must be held.
func (b *board) publish(ctx context.Context, names ...string) (err error) {
	views := b.view(names...)
	for _, l := range libraries {
		_, publishErr := b.hub.PublishFunc(ctx, l.name, l.event, func(w io.Writer) error { return l.write(w, views) })
		err = errors.Join(err, publishErr)
	}
	return err
}

// library is how a library of the pages wants to be sent HTML.
type library struct {
	name  string // also the topic
	event sse.Event
	write func(io.Writer, []columnView) error // writes the data of an event
}

// htmx swaps the data of an event without a name.
var htmx = library{name: "htmx", write: func(w io.Writer, views []columnView) error {
	return templates.ExecuteTemplate(w, "columns", views)
}}

// datastar wants "elements " before each line.
var datastar = library{
	name:  "datastar",
	event: sse.Event{Name: "datastar-patch-elements"},
	write: func(w io.Writer, views []columnView) error {
		if _, err := io.WriteString(w, "elements "); err != nil {
			return err
		}
		return templates.ExecuteTemplate(elementLines{w}, "columns", views)
	},
}

var libraries = []library{htmx, datastar}

// elementLines begins each line but the first with "elements ".
type elementLines struct{ io.Writer }

var lineBreaks = strings.NewReplacer("\r\n", "\nelements ", "\n", "\nelements ", "\r", "\nelements ")

func (w elementLines) Write(p []byte) (int, error) {
	_, err := lineBreaks.WriteString(w.Writer, string(p))
	return len(p), err
}
