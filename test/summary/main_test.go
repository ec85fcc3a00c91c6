package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What `go test -json` printed for one package with a passing test, a parent
// with a failing and a passing child, and a skipped test.
const mixed = `{"Action":"start","Package":"x"}
{"Action":"run","Package":"x","Test":"TestGood"}
{"Action":"pass","Package":"x","Test":"TestGood","Elapsed":2.5}
{"Action":"run","Package":"x","Test":"TestParent"}
{"Action":"run","Package":"x","Test":"TestParent/a"}
{"Action":"output","Package":"x","Test":"TestParent/a","Output":"    x_test.go:3: a is wrong\n"}
{"Action":"fail","Package":"x","Test":"TestParent/a","Elapsed":0}
{"Action":"run","Package":"x","Test":"TestParent/b"}
{"Action":"pass","Package":"x","Test":"TestParent/b","Elapsed":0}
{"Action":"fail","Package":"x","Test":"TestParent","Elapsed":0}
{"Action":"run","Package":"x","Test":"TestLater"}
{"Action":"skip","Package":"x","Test":"TestLater","Elapsed":0}
{"Action":"fail","Package":"x","Elapsed":3.1}
`

func summary(t *testing.T, events, skips string) (ok bool, out, totals string) {
	t.Helper()
	dir := t.TempDir()
	skipsFile, totalsFile := filepath.Join(dir, "skips"), filepath.Join(dir, "totals")
	if err := os.WriteFile(skipsFile, []byte(skips), 0o644); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	ok, err := run(strings.NewReader(events), &b, skipsFile, totalsFile)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(totalsFile)
	if err != nil {
		t.Fatal(err)
	}
	return ok, b.String(), strings.TrimSpace(string(data))
}

func TestCountsTestsWithoutSubtestsAndShowsWhatFailed(t *testing.T) {
	ok, out, totals := summary(t, mixed, "x TestLater needs a moon")
	if ok || totals != "2 1 1" {
		t.Errorf("ok %v, totals %q, want false and 2 1 1", ok, totals)
	}
	for _, want := range []string{"a is wrong", "FAIL  x ", "2.5s  x TestGood"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

func TestASkipThatNoListAllowsFails(t *testing.T) {
	_, out, totals := summary(t, mixed, "# none\n")
	if totals != "2 2 0" || !strings.Contains(out, "does not name it") {
		t.Errorf("totals %q, want 2 2 0; printed:\n%s", totals, out)
	}
}

func TestAPackageThatDoesNotBuildFails(t *testing.T) {
	ok, out, totals := summary(t, `{"ImportPath":"x [x.test]","Action":"build-output","Output":"x.go:3:1: syntax error\n"}
{"ImportPath":"x [x.test]","Action":"build-fail"}
{"Action":"start","Package":"x"}
{"Action":"fail","Package":"x","Elapsed":0,"FailedBuild":"x [x.test]"}
`, "")
	if ok || totals != "0 1 0" || !strings.Contains(out, "syntax error") {
		t.Errorf("ok %v, totals %q, want false and 0 1 0; printed:\n%s", ok, totals, out)
	}
}

func TestATestThatNeverEndedFails(t *testing.T) {
	ok, out, totals := summary(t, `{"Action":"run","Package":"x","Test":"TestHangs"}
{"Action":"output","Package":"x","Test":"TestHangs","Output":"panic: test timed out\n"}
`, "")
	if ok || totals != "0 1 0" || !strings.Contains(out, "timed out") {
		t.Errorf("ok %v, totals %q, want false and 0 1 0; printed:\n%s", ok, totals, out)
	}
}

func TestNoTestAtAllFails(t *testing.T) {
	if ok, _, totals := summary(t, "", ""); ok || totals != "0 1 0" {
		t.Errorf("ok %v, totals %q, want false and 0 1 0", ok, totals)
	}
}
