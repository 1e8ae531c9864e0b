package compat

// This file sets up the test binary: what chi's Logger writes to, how many tests run at
// once, and the check for leaked goroutines.

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

// maxWait is the limit for everything that should happen at once. A test in which something
// is held back forever fails after this time. It is shorter than testkit.Patience, because
// after 15 seconds the plugin's default heartbeat may push out what was held back.
const maxWait = 10 * time.Second

func TestMain(m *testing.M) {
	// The matrix uses chi's Logger unchanged, except that it writes to nowhere.
	middleware.DefaultLogger = middleware.RequestLogger(&middleware.DefaultLogFormatter{
		Logger: log.New(io.Discard, "", 0),
	})
	flag.Parse()
	if !isSet("test.parallel") {
		// The cells that test a timeout sleep most of the time, so many can run at once.
		if err := flag.Set("test.parallel", "32"); err != nil {
			panic(err)
		}
	}
	status := m.Run()
	if status == 0 {
		store := goleak.IgnoreTopFunction("github.com/alexedwards/scs/v2/memstore.(*MemStore).startCleanup") // scs.New starts it for good
		if err := goleak.Find(store); err != nil {
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
