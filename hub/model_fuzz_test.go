package hub

import (
	"math/rand/v2"
	"testing"
)

// FuzzHub runs the model with the choices that the input makes.
func FuzzHub(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		input := make([]byte, 200+r.IntN(400))
		for i := range input {
			input[i] = byte(r.Uint32())
		}
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		runModel(t, &modelInput{input}, "the input")
	})
}

type modelInput struct{ rest []byte }

func (i *modelInput) more() bool { return len(i.rest) > 0 }

func (i *modelInput) intn(n int) int {
	if len(i.rest) == 0 {
		return 0
	}
	v := int(i.rest[0])
	i.rest = i.rest[1:]
	if n > 256 {
		v = v * n / 256
	}
	return v % n
}
