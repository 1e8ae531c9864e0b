// Package pglog keeps the events of hubs in a database of Postgres. The application publishes an
// event in its own transaction, together with the change that the event tells of: [Publish].
package pglog
