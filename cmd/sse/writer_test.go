package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An interrupt ends the program while a write to stdout blocks. The event that is being
// written does not count as printed.
func TestInterruptWhileStdoutBlocks(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	path := checkpointFile(t, "")
	writes, stderr := 0, newScreen()
	exit := make(chan int, 1)
	url := serve(t, list(5)).URL
	go func() {
		exit <- run(ctx, []string{"follow", "-checkpoint", path, url}, nil, writerFunc(func(p []byte) (int, error) {
			if writes++; writes == 2 {
				interrupt()
				<-release
			}
			return len(p), nil
		}), stderr)
	}()
	select {
	case got := <-exit:
		assert.Equal(t, 130, got)
	case <-time.After(patience):
		require.Fail(t, "the program has not ended")
	}
	assert.Regexp(t, `\* interrupted: 2 events, `, stderr.String())
	assertFile(t, `{"lastEventId":"1"}`+"\n", path)
}
