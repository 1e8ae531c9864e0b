// Package compat holds no code but tests: the streams of package sse behind the
// middleware, the compressors and the server settings that they meet in practice,
// over HTTP/1.1, HTTP/2 and h2c. It is a module of its own, so that whoever uses
// the plugin does not download what it is tested with.
//
// [TestMatrix] is the table: each row is something that stands in the way of a
// stream, each place is where it stands, and each transport how the client comes.
// Beside it are the rows for which a table has no column: clients that leave,
// ends that must look broken, and what cannot stream at all.
package compat
