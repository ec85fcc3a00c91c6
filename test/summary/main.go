// Command summary reads `go test -json` on standard input and prints a line a
// package, the output of what failed, and the slowest tests. It exits 1 when a
// test failed, when one skipped that no list allows, or when none ran.
//
//	go test -json ./... | summary [-skips FILE] [-totals FILE]
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	skips := flag.String("skips", "", "file that lists the tests that may skip")
	totals := flag.String("totals", "", "file to append PASSED FAILED SKIPPED to")
	flag.Parse()
	ok, err := run(os.Stdin, os.Stdout, *skips, *totals)
	if err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, skipsFile, totalsFile string) (bool, error) {
	allowed, err := readSkips(skipsFile)
	if err != nil {
		return false, err
	}
	r := newReport(out, allowed)
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(out, "%s", line) // not an event: go's own words
			} else {
				r.add(e)
			}
		}
		if err == io.EOF {
			break
		} else if err != nil {
			return false, err
		}
	}
	r.finish()
	if totalsFile != "" {
		f, err := os.OpenFile(totalsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return false, err
		}
		fmt.Fprintln(f, r.passed, r.failed, r.skipped)
		if err := f.Close(); err != nil {
			return false, err
		}
	}
	return r.failed == 0, nil
}

// readSkips reads lines of IMPORT-PATH TEST-NAME REASON…; # starts a comment.
func readSkips(file string) (map[string]bool, error) {
	allowed := map[string]bool{}
	if file == "" {
		return allowed, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for n, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(strings.SplitN(line, "#", 2)[0])
		switch {
		case len(fields) == 0:
		case len(fields) < 3:
			return nil, fmt.Errorf("%s:%d: want IMPORT-PATH TEST-NAME REASON", file, n+1)
		default:
			allowed[fields[0]+" "+fields[1]] = true
		}
	}
	return allowed, nil
}

// event is one line of go test -json (go doc cmd/test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// pkgState is a package whose tests are running.
type pkgState struct {
	output  map[string][]string // by test; "" is the package's own
	open    map[string]bool     // started, not ended
	parents map[string]bool     // tests that have subtests
	results map[string]event    // ended
}

type report struct {
	out                     io.Writer
	allowed                 map[string]bool
	packages                map[string]*pkgState
	builds                  map[string][]string
	slow                    []event
	passed, failed, skipped int
}

func newReport(out io.Writer, allowed map[string]bool) *report {
	return &report{out: out, allowed: allowed, packages: map[string]*pkgState{}, builds: map[string][]string{}}
}

func (r *report) add(e event) {
	if e.Action == "build-output" {
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := r.packages[e.Package]
	if p == nil {
		p = &pkgState{output: map[string][]string{}, open: map[string]bool{}, parents: map[string]bool{}, results: map[string]event{}}
		r.packages[e.Package] = p
	}
	switch {
	case e.Action == "output" && strings.HasPrefix(e.Output, "=== "): // RUN, PAUSE, CONT
	case e.Action == "output":
		p.output[e.Test] = append(p.output[e.Test], e.Output)
	case e.Action == "run":
		p.open[e.Test] = true
		if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
			p.parents[e.Test[:i]] = true
		}
	case e.Action != "pass" && e.Action != "fail" && e.Action != "skip":
	case e.Test == "":
		r.endPackage(e, p)
		delete(r.packages, e.Package)
	default:
		delete(p.open, e.Test)
		p.results[e.Test] = e
	}
}

// endPackage counts a package's tests (those without subtests: a parent's
// verdict is its children's) and prints its line, after what failed in it.
func (r *report) endPackage(end event, p *pkgState) {
	passed, failed, skipped := 0, 0, 0
	var bad []string
	for test := range p.open {
		bad = append(bad, test)
	}
	for test, e := range p.results {
		if e.Action == "fail" {
			bad = append(bad, test)
		}
		if p.parents[test] {
			continue
		}
		switch {
		case e.Action == "pass":
			passed++
		case e.Action == "skip" && r.allowed[e.Package+" "+test]:
			skipped++
		case e.Action == "skip":
			p.output[test] = append(p.output[test], "    skipped, and test/allowed-skips does not name it\n")
			bad = append(bad, test)
		}
		r.slow = append(r.slow, e)
	}
	slices.Sort(bad)
	for _, test := range bad {
		if !p.parents[test] || !slices.ContainsFunc(bad, func(b string) bool { return strings.HasPrefix(b, test+"/") }) {
			failed++
		}
		fmt.Fprint(r.out, strings.Join(p.output[test], ""))
	}
	if end.Action == "fail" && failed == 0 {
		failed = 1 // it did not build, or died outside a test
		fmt.Fprint(r.out, strings.Join(append(r.builds[end.FailedBuild], p.output[""]...), ""))
	}
	r.passed, r.failed, r.skipped = r.passed+passed, r.failed+failed, r.skipped+skipped
	verdict := "ok  "
	if failed > 0 {
		verdict = "FAIL"
	}
	if passed+failed+skipped > 0 {
		fmt.Fprintf(r.out, "%s  %-45s %4d passed %3d failed %3d skipped %8.1fs\n", verdict, end.Package, passed, failed, skipped, end.Elapsed)
	}
}

// finish counts packages that never ended, prints the slowest tests, and makes
// a run without any test a failure.
func (r *report) finish() {
	for name, p := range r.packages {
		r.endPackage(event{Action: "fail", Package: name}, p)
	}
	slices.SortFunc(r.slow, func(a, b event) int {
		switch {
		case a.Elapsed > b.Elapsed:
			return -1
		case a.Elapsed < b.Elapsed:
			return 1
		}
		return 0
	})
	for i, e := range r.slow {
		if i == 10 || e.Elapsed < 1 {
			break
		}
		fmt.Fprintf(r.out, "slow  %8.1fs  %s %s\n", e.Elapsed, e.Package, e.Test)
	}
	if r.passed+r.failed == 0 {
		r.failed++
		fmt.Fprintln(r.out, "FAIL  no test ran")
	}
}
