//go:build unix

package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/chi-sse/sse/hub"
)

// callPatience is longer than a node should need to answer.
const callPatience = 2*publishTimeout + 2*time.Second

// statusError is an answer that is not 200.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.text) }

// call calls a node, and decodes its answer into v.
func (s *soak) call(ctx context.Context, method, address string, body any, v any) error {
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, address, &b)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return &statusError{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	return json.Unmarshal(text, v)
}

// isKnown reports whether nothing can have happened.
func isKnown(err error) bool {
	var status *statusError
	return errors.As(err, &status) && status.status == http.StatusServiceUnavailable
}

// publisher publishes events, each until it is acknowledged.
type publisher struct {
	s      *soak
	name   string
	rng    *rand.Rand
	number int
	last   uint64 // the offset of the newest event
}

// run publishes until stop is closed.
func (p *publisher) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		p.publish()
		time.Sleep(time.Duration(p.rng.IntN(30)) * time.Millisecond)
	}
}

// events makes up events.
func (p *publisher) events() []publication {
	n := 1
	if p.rng.IntN(5) == 0 {
		n += p.rng.IntN(4)
	}
	ps := make([]publication, n)
	for i := range ps {
		p.number++
		key := fmt.Sprint(p.name, "-", p.number)
		size := p.rng.IntN(200)
		if p.rng.IntN(30) == 0 {
			size = p.rng.IntN(40_000)
		}
		topic := p.s.topics[p.rng.IntN(len(p.s.topics))]
		ps[i] = publication{topic, key, key + " " + strings.Repeat(string(rune('a'+p.number%26)), size)}
	}
	return ps
}

// publish publishes one or several events, as often as it takes.
func (p *publisher) publish() {
	s, ps := p.s, p.events()
	s.ledger.add(ps)
	defer func(began time.Time) { s.noteSlowest(time.Since(began), ps) }(time.Now())
	for first := true; !s.failed(); first = false {
		parts := [][]publication{ps}
		if !first && len(ps) > 1 && p.rng.IntN(3) == 0 { // keys are good for each event alone
			parts = [][]publication{ps[:1], ps[1:]}
		}
		at := make([]hub.Position, 0, len(ps))
		for _, part := range parts {
			var got []hub.Position
			if got = p.try(part); got == nil {
				break
			}
			at = append(at, got...)
		}
		if len(at) < len(ps) {
			time.Sleep(time.Duration(20+p.rng.IntN(100)) * time.Millisecond)
			continue
		}
		for i, pos := range at {
			if first && i > 0 && pos.Offset != at[i-1].Offset+1 {
				s.fail("%s: a batch is at %v: other events are between", p.name, at)
			}
			if pos.Offset <= p.last {
				s.fail("%s: %s is at %v, but %d was acknowledged before it was published", p.name, ps[i].Key, pos, p.last)
			}
		}
		for _, pos := range at { // parts may be in any order
			p.last = max(p.last, pos.Offset)
		}
		return
	}
}

// try publishes events on some node. It returns nil if that has failed.
func (p *publisher) try(ps []publication) (at []hub.Position) {
	s := p.s
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()
	node := s.nodes[p.rng.IntN(len(s.nodes))]
	if err := s.call(ctx, http.MethodPost, node.url("/publish", ""), ps, &at); err != nil {
		s.notePublication(err)
		if !isRefused(err) {
			s.trace("%s: %s on %s: %v", p.name, ps[0].Key, node.cfg.Name, err)
		}
		return nil
	}
	if err := s.ledger.ack(ps, at); err != nil {
		s.fail("%s: %s has acknowledged: %v", p.name, node.cfg.Name, err)
	}
	s.noteAck()
	return at
}

// order is a kick.
type order struct {
	topic  string
	offset uint64
}

// kicker kicks the followers of topics.
type kicker struct {
	s      *soak
	rng    *rand.Rand
	mu     sync.Mutex
	orders []order
}

// run kicks until stop is closed.
func (k *kicker) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(k.rng.IntN(3000)) * time.Millisecond):
			topic := userTopic(k.rng.IntN(len(k.s.readers)))
			if k.rng.IntN(20) == 0 {
				topic = topicOfAll
			}
			_ = k.kick(topic)
		}
	}
}

// kick kicks the followers of a topic, from some node.
func (k *kicker) kick(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callPatience+publishTimeout)
	defer cancel()
	node := k.s.nodes[k.rng.IntN(len(k.s.nodes))]
	var answer kicked
	err := k.s.call(ctx, http.MethodPost, node.url("/kick", url.Values{"topic": {topic}}.Encode()), nil, &answer)
	k.s.noteKick(err)
	if err != nil {
		return err
	}
	k.s.ledger.order(answer.Order)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.orders = append(k.orders, order{topic, answer.Order.Offset})
	return nil
}
