// Package soak contains one test, which runs everything at once for a long time: a server for
// each mode (HTTP/1.0, HTTP/1.1, TLS, HTTP/2, h2c, detached), a hub for each server, some of
// whose events live in a file, and some
// hundred clients that read, read slowly, stall, vanish, and lose their connections. It
// compares what each client receives with what was published, and looks for memory,
// goroutines and file descriptors that do not come back. See docs/DESIGN.md, "The soak".
//
// It is a module, because it needs package boltlog.
//
// It is a test, not a command, because it needs what only tests may use (package testkit, with
// its network namespaces), and because "go test -race" is then all that the race detector
// needs. "make test" runs it for two seconds, so that it stays in order.
package soak
