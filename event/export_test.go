package event

// This file exports internals to the tests in package event_test.

// Footprint returns the total size of the buffers that d keeps, in bytes.
func (d *Decoder) Footprint() int {
	b := &d.block
	return cap(d.buf) + cap(d.lastID.copy) + cap(d.repaired) + cap(b.id.copy) + cap(b.name.copy) + cap(b.data.copy) + cap(b.comment.copy)
}
