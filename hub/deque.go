package hub

// deque is a queue in a ring, which grows and shrinks with its use.
type deque[T any] struct {
	ring  []T // its length is 0 or a power of two
	start int // index of the first element in ring
	n     int // number of elements
}

func (d *deque[T]) len() int { return d.n }

// at returns the element at i, counted from the front. There must be one.
func (d *deque[T]) at(i int) T { return d.ring[(d.start+i)&(len(d.ring)-1)] }

// push appends v at the back.
func (d *deque[T]) push(v T) {
	if d.n == len(d.ring) {
		d.resize(max(4, 2*d.n))
	}
	d.ring[(d.start+d.n)&(len(d.ring)-1)] = v
	d.n++
}

// pop removes the element at the front and returns it. There must be one.
func (d *deque[T]) pop() T {
	var zero T
	v := d.ring[d.start]
	d.ring[d.start] = zero
	d.start = (d.start + 1) & (len(d.ring) - 1)
	d.n--
	if len(d.ring) > 64 && d.n < len(d.ring)/4 {
		d.resize(len(d.ring) / 2)
	}
	return v
}

func (d *deque[T]) resize(size int) {
	ring := make([]T, size)
	for i := range d.n {
		ring[i] = d.at(i)
	}
	d.ring, d.start = ring, 0
}
