package event

// Footprint is the size of the buffers that d holds.
func (d *Decoder) Footprint() int {
	b := &d.block
	return cap(d.buf) + cap(d.lastID.copy) + cap(d.repaired) + cap(b.id.copy) + cap(b.name.copy) + cap(b.data.copy) + cap(b.comment.copy)
}
