// Package embedded runs a NATS server with JetStream inside the program, so that one binary is
// a hub whose events outlive it, and three are a cluster.
//
//	srv, err := embedded.Start(ctx, embedded.Config{Dir: "/var/lib/chat"})
//	...
//	nc, err := srv.Connect()
//	...
//	js, err := jetstream.New(nc)
//	...
//	events, err := natslog.Open(ctx, js, natslog.Config{Stream: "chat", Create: &jetstream.StreamConfig{}})
//	...
//	h, err := hub.Open(ctx, hub.Config{Log: events})
//
// In a cluster of three, each program has Config.Cluster with the same Peers, and
// jetstream.StreamConfig has Replicas: 3. The cluster takes events as long as two of the three
// run.
//
// To stop, call the hub's Shutdown, then that of the HTTP server, then Close of the
// connection, then [Server.Shutdown].
//
// A program that only uses servers elsewhere need not import this package, and is then not
// linked with the server.
package embedded
