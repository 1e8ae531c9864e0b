package redislog

import (
	"context"
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

// noLogger drops what the client logs for the whole process: tests make much trouble.
type noLogger struct{}

func (noLogger) Printf(context.Context, string, ...any) {}

// Most tests wait for a server most of the time, so more of them run at once than there are
// processors.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := flag.Set(f.Name, strconv.Itoa(max(5, runtime.GOMAXPROCS(0)))); err != nil {
			panic(err)
		}
	}
	redis.SetLogger(noLogger{})
	os.Exit(m.Run())
}
