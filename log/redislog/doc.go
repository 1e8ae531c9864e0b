// Package redislog keeps the events of hubs in a stream of Redis or Valkey, so that many nodes are
// one hub to their clients. A [Log] is a [hub.Log] in a stream.
package redislog
