package natslog

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// Most tests wait for a server most of the time, so more of them run at once than there are
// processors.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := flag.Set(f.Name, strconv.Itoa(max(5, runtime.GOMAXPROCS(0)))); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
