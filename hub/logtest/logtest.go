// Package logtest tests whether a [hub.Log] does what its documentation promises. A Log's
// own tests call [Run]. The package also has [Memory], a Log for tests.
//
//	func TestLog(t *testing.T) {
//		logtest.Run(t, logtest.Config{Open: func(t testing.TB) hub.Log { return mylog.New(t.TempDir()) }})
//	}
package logtest

import (
	"cmp"
	"testing"
	"time"

	"github.com/chi-sse/sse/hub"
)

// Config says which Log is tested, and what the test may do with it. Only Open is required. The
// cases that need a function that is nil are left out; the test's output names them.
type Config struct {
	// Open returns a new Log without records. It may use t.Cleanup to close it.
	Open func(t testing.TB) hub.Log

	// Reopen returns another Log with the records of log, as another process, or the same
	// one after a restart, would open it. Reopen may close log, or leave it open: the cases
	// do not use log afterwards, unless Shared is set.
	Reopen func(t testing.TB, log hub.Log) hub.Log

	// Shared means that log and what Reopen returns can be used at the same time.
	Shared bool

	// Renew drops all records of log and begins another epoch.
	Renew func(t testing.TB, log hub.Log)

	// Truncate drops the records of log before the offset first, and perhaps some more.
	Truncate func(t testing.TB, log hub.Log, first uint64)

	// LoseAnswer makes the next Append append its records and return an error that matches
	// [hub.ErrUnknown] all the same.
	LoseAnswer func(t testing.TB, log hub.Log)

	// Insert stores a record of topic whose stored form is data, as a later version of the
	// package, or a fault, could have left it there.
	Insert func(t testing.TB, log hub.Log, topic string, data []byte)

	// Damage makes what is stored of the record of log at the offset unreadable, so that
	// nothing says of which topic it was.
	Damage func(t testing.TB, log hub.Log, offset uint64)

	// NoKeys means that the Log does not remember keys.
	NoKeys bool

	// Million means that one case appends and reads a million records, unless -short is set.
	// Without it, the case has 20,000.
	Million bool

	// Patience is how long a case waits for something that must happen. Default: 20
	// seconds.
	Patience time.Duration
}

// Run tests the Log, each case with a new one, as subtests of t.
func Run(t *testing.T, cfg Config) {
	t.Helper()
	for _, c := range cases {
		if what := c.lacks(cfg); what != "" {
			t.Logf("%s is left out: the Config has no %s", c.name, what)
			continue
		}
		t.Run(c.name, func(t *testing.T) { cfg.run(t, c) })
	}
}

// run runs a case.
func (cfg Config) run(t testing.TB, c testCase) {
	t.Helper()
	cfg.Patience = cmp.Or(cfg.Patience, 20*time.Second)
	s := &suite{Config: cfg, TB: t}
	s.log = cfg.Open(t)
	c.run(s)
}

// testCase is a case of the suite.
type testCase struct {
	name  string
	run   func(s *suite)
	needs []func(Config) string
}

// lacks returns what cfg does not have and the case needs, or "".
func (c *testCase) lacks(cfg Config) string {
	for _, need := range c.needs {
		if what := need(cfg); what != "" {
			return what
		}
	}
	return ""
}

func missing(have bool, what string) string {
	if have {
		return ""
	}
	return what
}

var (
	needsReopen   = func(c Config) string { return missing(c.Reopen != nil, "Reopen") }
	needsShared   = func(c Config) string { return missing(c.Reopen != nil && c.Shared, "Reopen with Shared") }
	needsRenew    = func(c Config) string { return missing(c.Renew != nil, "Renew") }
	needsTruncate = func(c Config) string { return missing(c.Truncate != nil, "Truncate") }
	needsUnknown  = func(c Config) string { return missing(c.LoseAnswer != nil, "LoseAnswer") }
	needsInsert   = func(c Config) string { return missing(c.Insert != nil, "Insert") }
	needsDamage   = func(c Config) string { return missing(c.Damage != nil, "Damage") }
	needsKeys     = func(c Config) string { return missing(!c.NoKeys, "keys") }
)

func needs(fs ...func(Config) string) []func(Config) string { return fs }

// cases are all cases, in the order in which they run: the simple ones first.
var cases = []testCase{
	{"EmptyLog", emptyLog, nil},
	{"OrderOverTopics", orderOverTopics, nil},
	{"Fields", allFields, nil},
	{"LargeFields", largeFields, nil},
	{"Redelivery", redelivery, nil},
	{"CaughtUp", caughtUp, nil},
	{"ReadTopics", readTopics, nil},
	{"ReadUpToAndMax", readUpToAndMax, nil},
	{"ReadWhatFollowHas", readWhatFollowHas, nil},
	{"Batches", batches, nil},
	{"Keys", keys, needs(needsKeys)},
	{"KeysAfterReopening", keysAfterReopening, needs(needsKeys, needsReopen)},
	{"ErrorOfApply", errorOfApply, nil},
	{"TwoFollowers", twoFollowers, nil},
	{"Cancellation", cancellation, nil},
	{"CancelledBatches", cancelledBatches, nil},
	{"Goroutines", goroutines, nil},
	{"Reopening", reopening, needs(needsReopen)},
	{"OtherEpoch", otherEpoch, nil},
	{"EpochChange", epochChange, needs(needsRenew)},
	{"Truncation", truncation, needs(needsTruncate)},
	{"TruncationOfAll", truncationOfAll, needs(needsTruncate)},
	{"TruncationInMidFollow", truncationInMidFollow, needs(needsTruncate)},
	{"TruncationInMidRead", truncationInMidRead, needs(needsTruncate)},
	{"UnknownOutcome", unknownOutcome, needs(needsUnknown)},
	{"InvalidRecords", invalidRecords, needs(needsInsert)},
	{"DamagedRecords", damagedRecords, needs(needsDamage)},
	{"Hub", oneHub, nil},
	{"Finish", finish, nil},
	{"TwoHubs", twoHubs, nil},
	{"TwoHubsOfTwoLogs", twoHubsOfTwoLogs, needs(needsShared)},
	{"Many", many, nil},
}
