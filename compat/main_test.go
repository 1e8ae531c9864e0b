package compat

import (
	"flag"
	"io"
	"log"
	"os"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"go.uber.org/goleak"
)

// patience is how long anything may take that should take no time. Whatever is
// held back for good runs into it.
const patience = 10 * time.Second

func TestMain(m *testing.M) {
	// chi's Logger is in the matrix as it is, but for where it writes to.
	middleware.DefaultLogger = middleware.RequestLogger(&middleware.DefaultLogFormatter{
		Logger: log.New(io.Discard, "", 0),
	})
	flag.Parse()
	if !isSet("test.parallel") {
		// The cells that test a timeout spend their time asleep.
		if err := flag.Set("test.parallel", "32"); err != nil {
			panic(err)
		}
	}
	status := m.Run()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			log.Print(err)
			status = 1
		}
	}
	os.Exit(status)
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}
