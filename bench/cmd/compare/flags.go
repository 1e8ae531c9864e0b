//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
)

// options are what is to be compared, and how.
type options struct {
	libraries []library.Library
	workloads []workload
	reps      int
	budget    time.Duration // no run begins after it; 0 means none
	results   string        // a folder for RESULTS.md and plots; empty for none
	profiles  string        // a folder for the profiles of servers; empty for none
	command   string
	growth    *growthOptions // measure that in place of a comparison
}

func parseFlags(args []string) (o options, err error) {
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	short := f.Bool("short", false, "the form that takes under five minutes; other flags change it")
	libs := f.String("libs", "", "regular `expression` of the libraries' names")
	loads := f.String("workloads", "", "regular `expression` of the workloads' names; crowd, which takes long, only if it has that name")
	alone := f.Duration("alone-for", 700*time.Millisecond, "how long to encode, to decode, to read, and to send on one connection; -short: 200ms")
	sizes := f.String("sizes", "100,1000,10000", "subscribers at full rate, by commas; -short: 100,1000")
	idlers := f.Int("idle", 10000, "idle subscribers; -short: 2000")
	fullFor := f.Duration("full-for", 1500*time.Millisecond, "how long to publish at full rate; -short: 1s")
	rateFor := f.Duration("rate-for", 4*time.Second, "how long to publish at a fixed rate; -short: 2s")
	slowFor := f.Duration("slow-for", 6*time.Second, "the same beside a client that does not read; -short: 4s")
	patience := f.Duration("patience", 5*time.Second, "how long an event of a burst may be on its way after the last; -short: 3s")
	list := f.Bool("list", false, "list libraries and workloads")
	grow := f.String("growth", "", "measure how the costs of the hub grow, in the `series` whose names match, and compare nothing; with -short, -reps, -results, -profile")
	f.IntVar(&o.reps, "reps", 3, "runs of everything; -short: 1")
	f.DurationVar(&o.budget, "budget", 0, "start nothing after so long; -short: 4m20s")
	f.StringVar(&o.results, "results", "", "`folder` for RESULTS.md and plots")
	f.StringVar(&o.profiles, "profile", "", "`folder` for a CPU profile of each server, which go tool pprof reads")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("what is %q?", f.Arg(0))
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
		decode(tokens, *alone), decode(small, *alone), decode(pages, *alone), decode(large, *alone),
		read(tokens, *alone), read(small, *alone), read(pages, *alone),
		send(*alone),
	}
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n <= 0 {
			return o, fmt.Errorf("-sizes: %q is no number of subscribers", size)
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
			return false // it takes no care of that
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
		return nil, errors.New("nothing has such a name")
	}
	return chosen, nil
}

func (o *options) list() {
	for _, l := range o.libraries {
		fmt.Printf("%-26s %s\n", l.Name, l.Note)
	}
	for _, l := range o.workloads {
		fmt.Printf("%-26s %s\n", l.name, l.title)
	}
}
