package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/boltlog"
)

// maxChatEvents is the largest number of events that the chat's file keeps. The start reads
// them all.
const maxChatEvents = 10_000

// chatAdvice is what a user can always do about trouble with the chat's file.
const chatAdvice = "choose another file with -chat, or keep the chat in memory with -chat="

// openChatFile opens the file of the chat, and makes it if there is none. Its errors say
// what the user can do.
func openChatFile(path string, logger *slog.Logger) (*boltlog.Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("the directory of the chat's file cannot be made; %s: %w", chatAdvice, err)
	}
	log, err := boltlog.Open(path, boltlog.Config{MaxEvents: maxChatEvents, Logger: logger})
	if err == nil {
		return log, nil
	}
	if _, ok := errors.AsType[*boltlog.LockedError](err); ok {
		return nil, fmt.Errorf("the chat's file %s is in use, perhaps by another copy of this program; stop that one, %s", path, chatAdvice)
	}
	if damage, ok := errors.AsType[*boltlog.CorruptError](err); ok {
		return nil, fmt.Errorf("the chat's file %s is damaged (%s); move it away to begin a new chat, %s", path, damage.Reason, chatAdvice)
	}
	return nil, fmt.Errorf("the chat's file cannot be opened; %s: %w", chatAdvice, err)
}

// restore rebuilds the state from the messages in the log, and publishes the event
// "started". After a crash, the log does not have an event "left" for each of the people who
// were in the room. A client that resumes takes "started" as the departure of all of them.
func (c *chat) restore(ctx context.Context, log hub.Log) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	bounds, err := log.Bounds(ctx)
	if err != nil {
		return err
	}
	at := hub.Position{Epoch: bounds.Epoch, Offset: bounds.First - 1}
	end := hub.Position{Epoch: bounds.Epoch, Offset: bounds.Last}
	for at.Offset < end.Offset {
		batch, err := log.Read(ctx, []string{room}, at, end, 1000)
		if truncated, ok := errors.AsType[*hub.TruncatedError](err); ok {
			at.Offset = truncated.First - 1 // the log has dropped old events meanwhile
			continue
		}
		if err != nil {
			return err
		}
		for _, r := range batch.Records {
			if r.Kind != hub.EventRecord || r.Event.Name != "message" {
				continue
			}
			var msg message
			if err := json.Unmarshal([]byte(r.Event.Data), &msg); err != nil {
				return fmt.Errorf("the chat's file has a message that is not one of this program: %w", err)
			}
			c.remember(msg)
		}
		at.Offset = batch.UpTo
	}
	return c.publish("started", struct{}{})
}
