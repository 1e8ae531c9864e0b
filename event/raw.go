package event

// This file turns a complete block into what the Decoder returns: a Raw or an Event.

import (
	"time"
	"unsafe"
)

// Raw represents an [Event] whose fields are byte slices. The slices belong to the
// [Decoder] that returned the Raw, and are valid until the Decoder is used again.
type Raw struct {
	ID, Name, Data, Comment []byte
	Retry                   time.Duration
	ResetID                 bool
}

// Event returns a copy of r as an [Event], which stays valid. It makes one allocation.
func (r Raw) Event() Event {
	n := len(r.ID)
	m := n + len(r.Name)
	k := m + len(r.Data)
	all := make([]byte, k+len(r.Comment))
	copy(all, r.ID)
	copy(all[n:], r.Name)
	copy(all[m:], r.Data)
	copy(all[k:], r.Comment)
	s := unsafe.String(unsafe.SliceData(all), len(all)) // all never changes after this
	return Event{ID: s[:n], Name: s[n:m], Data: s[m:k], Comment: s[k:], Retry: r.Retry, ResetID: r.ResetID}
}

// setRaw sets raw to the fields of the block, without copying them.
func (d *Decoder) setRaw(raw *Raw) {
	b := &d.block
	raw.ID = d.lastID.bytes(d.buf)
	raw.Name = b.name.bytes(d.buf)
	raw.Data = b.data.bytes(d.buf)
	raw.Comment = b.comment.bytes(d.buf)
	raw.Retry = b.retry
	raw.ResetID = b.resetsID()
}

// setEvent sets ev to the fields of the block, copied into strings.
func (d *Decoder) setEvent(ev *Event) {
	var raw Raw
	d.setRaw(&raw)
	if d.block.id.state != unset {
		*ev = raw.Event()
		return
	}
	// All events that follow an id share one copy of it. Otherwise one large id would be
	// copied into each of a great many small events.
	if !d.idIsKnown {
		d.id, d.idIsKnown = string(raw.ID), true
	}
	raw.ID = nil
	*ev = raw.Event()
	ev.ID = d.id
}

// setEventInOneCopy does the same as setEvent if the fields are close together in the
// buffer, and reports whether they are. It copies the stretch of the buffer that contains
// them, with the field names in between, into one string and slices the fields out of it.
// This takes a third less time.
func (d *Decoder) setEventInOneCopy(ev *Event) bool {
	id, name, data := &d.block.id, &d.block.name, &d.block.data
	if data.state != isView || name.state == isCopy || d.block.comment.state != unset {
		return false
	}
	if id.state == isCopy || id.state == unset && d.lastID.len() > 0 {
		return false
	}
	from, to, sum := data.from, data.to, data.to-data.from
	if id.state == isView {
		from, to, sum = min(from, id.from), max(to, id.to), sum+id.to-id.from
	}
	if name.state == isView {
		from, to, sum = min(from, name.from), max(to, name.to), sum+name.to-name.from
	}
	if to-from-sum > 32 {
		return false
	}
	all := string(d.buf[from:to])
	ev.Data = all[data.from-from : data.to-from]
	if id.state == isView {
		ev.ID = all[id.from-from : id.to-from]
	}
	if name.state == isView {
		ev.Name = all[name.from-from : name.to-from]
	}
	ev.Retry, ev.ResetID = d.block.retry, d.block.resetsID()
	return true
}
