package event

import (
	"time"
	"unsafe"
)

// Raw is an [Event] in byte slices. They belong to the [Decoder] that returned
// it, and are valid until its next use.
type Raw struct {
	ID, Name, Data, Comment []byte
	Retry                   time.Duration
	ResetID                 bool
}

// Event returns r as an Event of its own, in one allocation.
func (r Raw) Event() Event {
	n := len(r.ID)
	m := n + len(r.Name)
	k := m + len(r.Data)
	all := make([]byte, k+len(r.Comment))
	copy(all, r.ID)
	copy(all[n:], r.Name)
	copy(all[m:], r.Data)
	copy(all[k:], r.Comment)
	s := unsafe.String(unsafe.SliceData(all), len(all)) // all is not changed again
	return Event{ID: s[:n], Name: s[n:m], Data: s[m:k], Comment: s[k:], Retry: r.Retry, ResetID: r.ResetID}
}

// raw sets raw to the block, as views.
func (d *Decoder) raw(raw *Raw) {
	b := &d.block
	raw.ID = d.lastID.bytes(d.buf)
	raw.Name = b.name.bytes(d.buf)
	raw.Data = b.data.bytes(d.buf)
	raw.Comment = b.comment.bytes(d.buf)
	raw.Retry = b.retry
	raw.ResetID = b.resetsID()
}

// event sets ev to the block, as strings.
func (d *Decoder) event(ev *Event) {
	var raw Raw
	d.raw(&raw)
	if d.block.id.state != unset {
		*ev = raw.Event()
		return
	}
	// An id from an earlier event is shared by all that follow, or one large id
	// would be copied into each of a great many small events.
	if !d.idIsKnown {
		d.id, d.idIsKnown = string(raw.ID), true
	}
	raw.ID = nil
	*ev = raw.Event()
	ev.ID = d.id
}

// eventAtOnce sets ev to the block as event does, if its fields stand close
// together in the buffer. They are then pieces of one string that is copied from
// there in one go, with the field names in between, which takes a third off the
// time.
func (d *Decoder) eventAtOnce(ev *Event) bool {
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
