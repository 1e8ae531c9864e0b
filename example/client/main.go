// Command client prints the events of a stream. It reconnects if the stream breaks, and
// resumes after the last event.
//
//	go run ./client http://localhost:8080/vitals
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/chi-sse/sse/client"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: client URL")
	}
	c := client.Install(http.DefaultClient, client.Config{MaxReconnectionAttempts: client.Unlimited})
	err := c.SSE(context.Background(), os.Args[1], func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			fmt.Println(ev.ID, ev.Name, ev.Data)
		}
		return nil // the server has answered 204: the stream has ended for good
	})
	if err != nil {
		log.Fatal(err)
	}
}
