// Package compat contains only tests. They run the streams of package sse together with
// the middleware, the compressors and the server settings that are common in practice,
// over HTTP/1.1, HTTP/2 and h2c. The package is a separate module, so that users of the
// plugin do not download its dependencies.
//
// [TestMatrix] is the main test. It runs one script of events in every cell of a table with
// three dimensions:
//
//   - a row is a middleware or a server setting that may interfere with a stream
//     (rows_test.go)
//   - a place is the position of the middleware relative to the plugin (place_test.go)
//   - a transport is a version of HTTP, with or without TLS (transport_test.go)
//
// The other tests cover what does not fit into that table, such as clients that leave,
// streams that must look broken, and writers that cannot stream at all. Each test file says
// at its top what it proves.
package compat
