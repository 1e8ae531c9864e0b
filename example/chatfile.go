package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

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
