package main

import (
	"bytes"
	"encoding/json"
	"hash/fnv"
	"io"
	"strings"
	"time"

	"github.com/chi-sse/sse/client"
)

// format is how events are printed.
type format int

const (
	pretty      format = iota // for people
	dataLines                 // -data
	jsonObjects               // -json
)

// printer prints events. It prints each with one Write.
type printer struct {
	w        io.Writer
	format   format
	color    bool
	terminal bool
	now      func() time.Time

	buf []byte
}

// print prints ev in the printer's format. It returns the error of the Write.
func (p *printer) print(ev client.Event) error {
	p.buf = p.buf[:0]
	switch p.format {
	case dataLines:
		p.data(ev)
	case jsonObjects:
		p.object(ev)
	default:
		p.pretty(ev)
	}
	_, err := p.w.Write(p.buf)
	return err
}

// pretty appends a line for each line of the comment, a line with the event's time, name,
// id, and retry, and the data below it.
func (p *printer) pretty(ev client.Event) {
	now := p.now().Format("15:04:05.000")
	if ev.Comment != "" {
		for line := range strings.SplitSeq(ev.Comment, "\n") {
			p.paint(dim, now+" : "+visible(line, inLine))
			p.line("")
		}
		if onlyComment(ev) {
			return
		}
	}
	p.paint(dim, now+" ")
	p.paint(colorOf(nameOf(ev)), p.visible(nameOf(ev), inLine))
	if ev.ID != "" {
		p.paint(dim, " id "+p.visible(ev.ID, inLine))
	}
	if ev.Retry != 0 {
		p.paint(dim, " retry "+max(0, ev.Retry).String())
	}
	p.line("")
	switch compact, ok := asJSON(ev.Data); {
	case ok:
		p.buf = appendJSON(p.buf, compact, p.color)
		p.line("")
	case ev.Data != "":
		p.line(p.visible(ev.Data, inText))
	}
}

// data appends only the data. It leaves the data unchanged unless it goes to a terminal.
func (p *printer) data(ev client.Event) {
	if p.terminal {
		p.line(p.visible(ev.Data, inText))
	} else {
		p.line(ev.Data)
	}
}

// object appends a JSON object on one line.
func (p *printer) object(ev client.Event) {
	object := struct {
		Time    string          `json:"time"`
		Event   string          `json:"event,omitempty"`
		ID      string          `json:"id,omitempty"`
		Data    json.RawMessage `json:"data,omitempty"`
		Comment string          `json:"comment,omitempty"`
		Retry   *int64          `json:"retry,omitempty"` // in milliseconds
	}{
		Time:    p.now().Format("2006-01-02T15:04:05.000Z07:00"),
		Comment: ev.Comment,
	}
	if ev.Retry != 0 {
		object.Retry = new(max(0, ev.Retry).Milliseconds())
	}
	if !onlyComment(ev) {
		object.Event, object.ID = nameOf(ev), ev.ID
		if compact, ok := asJSON(ev.Data); ok {
			object.Data = compact
		} else {
			object.Data = marshal(ev.Data)
		}
	}
	p.buf = appendVisible(p.buf, string(marshal(object)), inJSON, false)
	p.line("")
}

// marshal is json.Marshal without escapes for HTML. It panics if v cannot be encoded.
func marshal(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// asJSON returns data in compact form, and whether it is a JSON object or array.
func asJSON(data string) (compact []byte, ok bool) {
	if trimmed := strings.TrimLeft(data, " \t\n"); trimmed == "" || trimmed[0] != '{' && trimmed[0] != '[' {
		return nil, false
	}
	var buf bytes.Buffer
	if json.Compact(&buf, []byte(data)) != nil {
		return nil, false
	}
	return buf.Bytes(), true
}

func (p *printer) line(text string) { p.buf = append(append(p.buf, text...), '\n') }

func (p *printer) paint(style style, text string) { p.buf = paint(p.buf, p.color, style, text) }

func (p *printer) visible(text string, where place) string {
	return string(appendVisible(nil, text, where, p.color))
}

// nameOf returns the name of ev as a browser's listener has it: "message" if it has none.
func nameOf(ev client.Event) string {
	if ev.Name == "" {
		return "message"
	}
	return ev.Name
}

// onlyComment reports whether ev has a comment, and neither data nor a name.
func onlyComment(ev client.Event) bool {
	return ev.Comment != "" && ev.Data == "" && ev.Name == ""
}

// colorOf returns the style of a name. It is the same in each run.
func colorOf(name string) style {
	hash := fnv.New32a()
	_, _ = io.WriteString(hash, name)
	return nameStyles[hash.Sum32()%uint32(len(nameStyles))]
}
