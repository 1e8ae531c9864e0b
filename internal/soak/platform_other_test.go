//go:build !linux

package soak

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// network is where clients can vanish. Only Linux has one.
type network struct{}

func newNetwork(*testing.T) *network { return nil }

func (*network) listen() (net.Listener, error) { return nil, errors.ErrUnsupported }

func (*network) vanisher(net.Listener) (dial func(ctx context.Context, _, _ string) (net.Conn, error), cut, restore func()) {
	panic("unreachable")
}

// processorTime is not known here.
func processorTime() time.Duration { return 0 }
