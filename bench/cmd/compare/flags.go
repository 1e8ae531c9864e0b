//go:build linux

package main

import (
	"flag"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
)

// options says what to compare, and how.
type options struct {
	libraries []library.Library
	workloads []workload
	reps      int            // runs of each workload with each library
	budget    time.Duration  // start no run after this time; 0: no limit
	results   string         // the folder for RESULTS.md and its plots; empty: write none
	profiles  string         // the folder for the servers' CPU profiles; empty: write none
	command   string         // the command line, which RESULTS.md names
	growth    *growthOptions // if not nil, measure growth and compare nothing
}

// parseFlags returns the options that args, the command line without the program's name,
// ask for. It returns flag.ErrHelp if it has printed the help or the list instead.
func parseFlags(args []string) (o options, err error) {
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	short := f.Bool("short", false, "measure less, in under five minutes; this changes the defaults of other flags")
	libs := f.String("libs", "", "compare the libraries whose names match this regular `expression`")
	loads := f.String("workloads", "", "run the workloads whose names match this regular `expression`; crowd, which takes long, runs only if the expression contains its name")
	alone := f.Duration("alone-for", 700*time.Millisecond, "how long to encode, to decode, to read, and to send on one connection; with -short 200ms")
	sizes := f.String("sizes", "100,1000,10000", "numbers of subscribers at full rate, separated by commas; with -short 100,1000")
	idlers := f.Int("idle", 10000, "number of idle subscribers; with -short 2000")
	fullFor := f.Duration("full-for", 1500*time.Millisecond, "how long to publish at full rate; with -short 1s")
	rateFor := f.Duration("rate-for", 4*time.Second, "how long to publish at a fixed rate; with -short 2s")
	slowFor := f.Duration("slow-for", 6*time.Second, "how long to publish at a fixed rate while one client never reads; with -short 4s")
	patience := f.Duration("patience", 5*time.Second, "how long to wait for the next event of a burst before the rest counts as lost; with -short 3s")
	list := f.Bool("list", false, "list the chosen libraries and workloads, and measure nothing")
	grow := f.String("growth", "", "measure how the costs of the hub grow, in the series whose names match this regular `expression`, and compare nothing; of the other flags, only -short, -reps, -results and -profile apply")
	f.IntVar(&o.reps, "reps", 3, "number of runs of each measurement; with -short 1")
	f.DurationVar(&o.budget, "budget", 0, "start no run after this time; 0 means no limit; with -short 4m20s")
	f.StringVar(&o.results, "results", "", "write RESULTS.md (with -growth: GROWTH.md) and its plots to this `folder`")
	f.StringVar(&o.profiles, "profile", "", "write a CPU profile of each measured process, for go tool pprof, to this `folder`")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("every argument must be a flag, and %q is none", f.Arg(0))
	}
	set := map[string]bool{}
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if *short {
		for name, value := range map[string]string{
			"alone-for": "200ms", "sizes": "100,1000", "idle": "2000", "full-for": "1s", "rate-for": "2s", "slow-for": "4s",
			"patience": "3s", "reps": "1", "budget": "4m20s",
		} {
			if set[name] {
				continue
			}
			if err := f.Set(name, value); err != nil {
				return o, err
			}
		}
	}
	o.command = strings.Join(append([]string{"compare"}, args...), " ")
	if *grow != "" {
		o.growth = &growthOptions{short: *short, reps: o.reps, series: *grow, results: o.results, profiles: o.profiles, command: o.command}
		return o, nil
	}

	all := []workload{
		encode(small, *alone), encode(pages, *alone),
		decode(tokens, *alone), decode(tiny, *alone), decode(small, *alone), decode(pages, *alone), decode(large, *alone),
		read(tokens, *alone), read(tiny, *alone), read(small, *alone), read(pages, *alone),
		send(*alone),
	}
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n <= 0 {
			return o, fmt.Errorf("-sizes: %q must be a positive number of subscribers", size)
		}
		all = append(all, full(n, *fullFor))
	}
	all = append(all, rate(1000, 10, *rateFor))
	if !*short || set["sizes"] {
		all = append(all, rate(10000, 5, *rateFor))
	}
	all = append(all, burst(1000, 1000, *patience), idle(*idlers), slow(1000, 10, *slowFor, func(l library.Library) bool {
		switch l.Name {
		case "socket loop", "socket loop, packed":
			return false // it does nothing about slow clients
		case "tmaxmax/go-sse", "launchdarkly/eventsource", "r3labs/sse":
			return true
		}
		return set["libs"] || l.Kind != library.Peer
	}))
	if strings.Contains(*loads, "crowd") {
		all = append(all, crowd(18_000))
	}
	if o.libraries, err = choose(library.All(), *libs, func(l library.Library) string { return l.Name }); err != nil {
		return o, fmt.Errorf("-libs: %w", err)
	}
	if o.workloads, err = choose(all, *loads, func(w workload) string { return w.name }); err != nil {
		return o, fmt.Errorf("-workloads: %w", err)
	}
	if *list {
		o.list()
		return o, flag.ErrHelp
	}
	return o, nil
}

// choose returns the elements of all whose names match the regular expression pattern. It
// returns an error if pattern is invalid or if nothing matches.
func choose[T any](all []T, pattern string, name func(T) string) (chosen []T, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for _, v := range all {
		if re.MatchString(name(v)) {
			chosen = append(chosen, v)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no name matches %q", pattern)
	}
	return chosen, nil
}

// list prints the names of the chosen libraries and workloads, with a description each.
func (o *options) list() {
	for _, l := range o.libraries {
		fmt.Printf("%-26s %s\n", l.Name, l.Note)
	}
	for _, l := range o.workloads {
		fmt.Printf("%-26s %s\n", l.name, l.title)
	}
}
