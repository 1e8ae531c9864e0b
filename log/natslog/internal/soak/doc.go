// Package soak contains one test, which runs several nodes of one stream and makes as much
// trouble for them as it can. The nodes are processes: three with a server of a cluster, and
// one that is a client of the cluster. Each has a hub and an HTTP server. They are killed,
// stopped, frozen, and cut off from each other and from the servers, by proxies. Meanwhile,
// publishers publish on all nodes, and clients read from all nodes in turn. The test compares
// what each client receives with what was published, and each gap with what the stream still
// had. See docs/DESIGN.md, "The soak of many nodes".
//
// It is a test, not a command, because it needs what only tests may use, and because its
// nodes are the test binary itself.
package soak
