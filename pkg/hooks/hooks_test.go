package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder makes a hooks folder of scripts, name → body (a leading #!/bin/sh is
// added unless the body begins with "raw:").
func folder(t *testing.T, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range scripts {
		raw, isRaw := strings.CutPrefix(body, "raw:")
		if !isRaw {
			raw = "#!/bin/sh\n" + body + "\n"
		}
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(raw), 0o700))
		must(t, os.Chmod(filepath.Join(dir, name), 0o755))
	}
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// entry is one line of the log.
type entry struct{ Level, Hook, Message string }

// logged returns a context with a logger, and what it logged.
func logged(t *testing.T) (context.Context, func() []entry) {
	t.Helper()
	var buf bytes.Buffer
	log := zerolog.New(zerolog.SyncWriter(&buf))
	return log.WithContext(t.Context()), func() []entry {
		var all []entry
		for line := range bytes.Lines(buf.Bytes()) {
			var e entry
			must(t, json.Unmarshal(line, &e))
			all = append(all, e)
		}
		return all
	}
}

// said tells whether the log has a line of that hook with that text.
func said(all []entry, hook, text string) bool {
	return slices.ContainsFunc(all, func(e entry) bool { return e.Hook == hook && strings.Contains(e.Message, text) })
}

func run(t *testing.T, dir string, env ...string) (work string, log []entry, err error) {
	t.Helper()
	ctx, entries := logged(t)
	work = t.TempDir()
	err = Run{Dir: dir, WorkDir: work, Env: append([]string{"PATH=/usr/bin:/bin", "OUT=" + work}, env...)}.All(ctx)
	return work, entries(), err
}

func TestNamesAndKindsAreThoseOfRunParts(t *testing.T) {
	dir := folder(t, map[string]string{
		"10-b": ":", "9": ":", "A": ":", "a": ":", "_x": ":", "foo.sh": ":", "a~": ":", "a b": ":", "zé": ":", "x.dpkg-old": ":", ".hidden": ":", "ro": ":",
	})
	must(t, os.Chmod(filepath.Join(dir, "ro"), 0o555))
	must(t, os.WriteFile(filepath.Join(dir, "data"), []byte("x"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "confdata"), 0o755))
	must(t, os.Symlink("a", filepath.Join(dir, "link")))
	must(t, os.Symlink("foo.sh", filepath.Join(dir, "todotted")))
	must(t, os.Symlink("confdata", filepath.Join(dir, "tofolder")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o755))

	got, err := List(dir)
	must(t, err)
	cmd := exec.Command("run-parts", "--test", dir)
	cmd.Env = []string{"LC_ALL=C"}
	out, _ := cmd.Output() // the FIFO makes it exit 1
	if want := strings.Fields(string(out)); !slices.Equal(got, want) {
		t.Errorf("List:\n%s\nrun-parts:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(got) != 8 {
		t.Errorf("%d hooks: %v", len(got), got)
	}

	_, log, err := run(t, dir)
	must(t, err)
	for _, text := range []string{"hook not run: foo.sh: only names", "hook not run: dangling: a link to nothing", "hook not run: fifo: not a regular file"} {
		if !said(log, "", text) {
			t.Errorf("the log doesn't say %q", text)
		}
	}
}

func TestNoFolderOrNoHooksIsNothingToDo(t *testing.T) {
	empty := t.TempDir()
	file := filepath.Join(empty, "file")
	must(t, os.WriteFile(file, nil, 0o644))
	for _, dir := range []string{"", empty, filepath.Join(empty, "none"), file, filepath.Join(file, "x")} {
		if err := (Run{Dir: dir, WorkDir: "/nowhere"}).All(t.Context()); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func TestHookSeesWhatRunPartsGivesIt(t *testing.T) {
	dir := folder(t, map[string]string{"look": `
		pwd; echo "$0"; echo "stdin $(wc -c)"; echo "args $#"
		echo to stderr >&2`})
	work, log, err := run(t, dir, "B=2")
	must(t, err)
	for _, want := range []string{work, dir + "/look", "stdin 0", "args 0", "to stderr"} {
		if !slices.ContainsFunc(log, func(e entry) bool { return e.Hook == "look" && strings.TrimSpace(e.Message) == want }) {
			t.Errorf("no line %q in %v", want, log)
		}
	}
}

func TestEnvironmentIsExactlyTheOneGiven(t *testing.T) {
	t.Setenv("LEAK", "1")
	dir := folder(t, map[string]string{"env": `tr '\0' '\n' < /proc/self/environ > "$OUT/env"`})
	work, _, err := run(t, dir, "TARGET=/x", "EMPTY=", "INSTANCE_HV_serial_console=True")
	must(t, err)
	data, err := os.ReadFile(filepath.Join(work, "env"))
	must(t, err)
	var names []string
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "PWD=") { // the shell's own
			names = append(names, strings.TrimSpace(line))
		}
	}
	slices.Sort(names)
	want := []string{"EMPTY=", "INSTANCE_HV_serial_console=True", "OUT=" + work, "PATH=/usr/bin:/bin", "TARGET=/x"}
	if !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	dir = folder(t, map[string]string{"none": "test -z \"$LEAK\""})
	must(t, Run{Dir: dir, WorkDir: "/"}.All(t.Context()))
}

func TestFailingHooksDoNotStopLaterOnesAndAreNamedLast(t *testing.T) {
	dir := folder(t, map[string]string{
		"10-fails":  "echo one; echo two; echo three >&2; exit 3",
		"20-dies":   "kill -9 $$",
		"30-plain":  "raw:echo no first line\n",
		"40-lost":   "raw:#!/no/such/interpreter -x\n",
		"50-dos":    "raw:#!/bin/sh\r\necho x\r\n",
		"60-folder": "raw:#!/etc\n",
		"99-last":   `touch "$OUT/ran"`,
	})
	work, log, err := run(t, dir)
	if _, missing := os.Stat(filepath.Join(work, "ran")); missing != nil {
		t.Error("the last hook didn't run")
	}
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{
		"6 hooks failed: 10-fails (exit status 3: two | three), ",
		"20-dies (signal: killed)",
		"30-plain (not started: exec format error: its first line must be #!/bin/sh",
		`40-lost (not started: its interpreter "/no/such/interpreter" is missing`,
		`50-dos (not started: its interpreter "/bin/sh\\r" is missing`,
		`60-folder (not started: its interpreter "/etc" is not executable`,
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "99-last") {
		t.Errorf("%q", err)
	}
	if !said(log, "10-fails", "one") || !said(log, "10-fails", "exit status 3") {
		t.Errorf("log: %v", log)
	}
	// run-parts is of the same opinion.
	cmd := exec.Command("run-parts", dir)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "OUT=" + work}
	out, _ := cmd.CombinedOutput()
	for _, hook := range []string{"10-fails", "20-dies", "30-plain", "40-lost", "50-dos", "60-folder"} {
		if !strings.Contains(string(out), hook+" exited") {
			t.Errorf("run-parts runs %s: %s", hook, out)
		}
	}
}

// Hooks of those that people have: bash -x, and a trap that cleans up at the end.
func TestTheLastWordsOfATracedHookAreItsReason(t *testing.T) {
	for want, script := range map[string]string{
		"exit status 1: + cat /no/such/licence | cat: /no/such/licence: No such file or directory": `
cleanup() { for dir in dev proc sys; do echo "unmounting $dir"; true; done; }
trap cleanup EXIT
cat /no/such/licence`,
		"exit status 4: no such licence | + exit 4": `cleanup() { true one; true two; true three; }
trap cleanup EXIT
echo no such licence; exit 4`,
		"exit status 5: no such host | + exit 5": `trap 'true one; true two' EXIT
echo 'no such host'
exit 5`,
		"exit status 1: + true | + false": `true; false`,
		"exit status 6: no such volume | + exit 6": `cleanup() { echo "unmounting $1"; true two; }
trap 'status=$?; cleanup all; exit $status' EXIT
echo no such volume; exit 6`,
	} {
		dir := folder(t, map[string]string{"10-traced": "raw:#!/bin/bash -x\nset -e\n" + script + "\n"})
		if _, _, err := run(t, dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

func TestTheLastWordsOfAHookThatCleansUpEarlyAreNotOlderOnes(t *testing.T) {
	for script, want := range map[string]string{
		// Nothing is run at its end.
		`#!/bin/bash -x
cleanup() { true one; true two; }
echo of an earlier run; cleanup
cat /no/such/licence; exit 3`: "exit status 3: cat: /no/such/licence: No such file or directory | + exit 3",
		// Not any more.
		`#!/bin/bash -ex
cleanup() { true one; }
trap cleanup EXIT INT
echo first part; cleanup; trap - EXIT
cat /no/such/licence`: "exit status 1: + cat /no/such/licence | cat: /no/such/licence: No such file or directory",
		// Its end cleans up once more.
		`#!/bin/bash -ex
cleanup() { true one; true two; }
trap cleanup EXIT
echo first part; cleanup
cat /no/such/licence`: "exit status 1: + cat /no/such/licence | cat: /no/such/licence: No such file or directory",
		`#!/bin/sh -ex
trap 'true one; true two' EXIT
true one
cat /no/such/licence`: "exit status 1: + cat /no/such/licence | cat: /no/such/licence: No such file or directory",
		// It traces only a part of itself.
		`#!/bin/bash
cleanup() { echo "unmounting all"; true two; }
trap cleanup EXIT # whatever happens
cleanup
set -ex
cat /no/such/licence`: "exit status 1: + cat /no/such/licence | cat: /no/such/licence: No such file or directory",
		`#!/bin/bash
echo "trap cleanup EXIT; cleanup() { true one; true two; }" >"$OUT/common.sh"; . "$OUT/common.sh"
set -ex
cat /no/such/licence`: "exit status 1: + cat /no/such/licence | cat: /no/such/licence: No such file or directory",
	} {
		dir := folder(t, map[string]string{"10-traced": "raw:" + script + "\n"})
		if _, _, err := run(t, dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", script, err, want)
		}
	}
}

func TestDaemonThatHoldsTheOutputDoesNotBlock(t *testing.T) {
	dir := folder(t, map[string]string{
		"10-daemon": `setsid sleep 60 & echo $! > "$OUT/pid"; echo started`,
		"20-next":   "echo next",
	})
	began := time.Now()
	work, log, err := run(t, dir)
	must(t, err)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	pid, err := os.ReadFile(filepath.Join(work, "pid"))
	must(t, err)
	defer exec.Command("kill", strings.TrimSpace(string(pid))).Run()
	if exec.Command("kill", "-0", strings.TrimSpace(string(pid))).Run() != nil {
		t.Error("the daemon was ended: that is the caller's decision")
	}
	if !said(log, "10-daemon", "started") || !said(log, "10-daemon", "left a process running") || !said(log, "20-next", "next") {
		t.Errorf("log: %v", log)
	}
}

func TestCancelEndsTheHookAndItsChildren(t *testing.T) {
	for name, c := range map[string]struct {
		body     string
		min, max time.Duration
	}{
		"obeys SIGTERM":    {`echo $$ > "$OUT/pid"; sleep 60 & wait`, 0, 2 * time.Second},
		"ignores SIGTERM":  {`trap '' TERM; echo $$ > "$OUT/pid"; sleep 60; sleep 60`, 2 * time.Second, 6 * time.Second},
		"stubborn child":   {`(trap '' TERM; echo $$ > "$OUT/pid"; sleep 60; sleep 60) & wait`, 2 * time.Second, 6 * time.Second},
		"cleans up itself": {`trap 'echo clean > "$OUT/clean"; exit 1' TERM; echo $$ > "$OUT/pid"; sleep 60 & wait`, 0, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t, map[string]string{"10-long": c.body, "20-never": `touch "$OUT/never"`})
			work := t.TempDir()
			gone := errors.New("told to stop")
			ctx, cancel := context.WithCancelCause(t.Context())
			result := make(chan error, 1)
			go func() {
				result <- Run{Dir: dir, WorkDir: work, Env: []string{"PATH=/usr/bin:/bin", "OUT=" + work}}.All(ctx)
			}()
			pid := awaitFile(t, filepath.Join(work, "pid"))
			began := time.Now()
			cancel(gone)
			err := <-result
			took := time.Since(began)
			if !errors.Is(err, gone) || !strings.Contains(err.Error(), "10-long") {
				t.Errorf("error %v", err)
			}
			if took < c.min || took > c.max {
				t.Errorf("took %v, want %v to %v", took, c.min, c.max)
			}
			time.Sleep(50 * time.Millisecond)
			if left, _ := exec.Command("pgrep", "-g", pid).Output(); runningIn(string(left)) {
				t.Errorf("left running: %s", left)
			}
			if _, err := os.Stat(filepath.Join(work, "never")); err == nil {
				t.Error("a later hook was started")
			}
			if _, err := os.Stat(filepath.Join(work, "clean")); name == "cleans up itself" && err != nil {
				t.Error("the hook's trap didn't run")
			}
		})
	}
}

// runningIn tells whether one of the processes is more than a zombie.
func runningIn(pids string) bool {
	for pid := range strings.FieldsSeq(pids) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if _, after, ok := bytes.Cut(stat, []byte(") ")); err == nil && ok && after[0] != 'Z' {
			return true
		}
	}
	return false
}

func awaitFile(t *testing.T, name string) string {
	t.Helper()
	for range 500 {
		if data, err := os.ReadFile(name); err == nil && strings.HasSuffix(string(data), "\n") {
			return strings.TrimSpace(string(data))
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s didn't appear", name)
	return ""
}

func TestRelativeFolderIsBelowTheWorkingFolder(t *testing.T) {
	dir := folder(t, map[string]string{"a": `echo "$0"; cat confdata/x`})
	work := filepath.Dir(dir)
	must(t, os.MkdirAll(filepath.Join(work, "confdata"), 0o755))
	must(t, os.WriteFile(filepath.Join(work, "confdata", "x"), []byte("data\n"), 0o644))
	ctx, entries := logged(t)
	must(t, Run{Dir: filepath.Base(dir), WorkDir: work, Env: []string{"PATH=/usr/bin:/bin"}}.All(ctx))
	if log := entries(); !said(log, "a", dir+"/a") || !said(log, "a", "data") {
		t.Errorf("log: %v", log)
	}
}

func TestAHookOfAGroupIsWarnedOfAndRuns(t *testing.T) {
	dir := folder(t, map[string]string{"a": "echo ran"})
	must(t, os.Chmod(filepath.Join(dir, "a"), 0o775))
	must(t, os.Chmod(dir, 0o775))
	_, log, err := run(t, dir)
	must(t, err)
	if !said(log, "a", "ran") || !said(log, "", dir+" can be written by its group") || !said(log, "", dir+"/a can be written by its group") {
		t.Errorf("log: %v", log)
	}
}

func TestNoHookRunsWhenEverybodyCanChangeOneOrTheRuleIsStrict(t *testing.T) {
	for name, c := range map[string]struct {
		path   string
		mode   os.FileMode
		strict bool
	}{
		"a hook":            {"b", 0o777, false},
		"the folder":        {".", 0o777, false},
		"the folder above":  {"..", 0o777, false},
		"a group's, strict": {"b", 0o775, true},
	} {
		t.Run(name, func(t *testing.T) {
			work := t.TempDir()
			dir := folder(t, map[string]string{"a": "touch $OUT/ran", "b": "touch $OUT/ran"})
			must(t, os.Chmod(filepath.Join(dir, c.path), c.mode))
			err := Run{Dir: dir, WorkDir: work, Env: []string{"PATH=/usr/bin:/bin", "OUT=" + work}, Strict: c.strict}.All(t.Context())
			if err == nil || !strings.Contains(err.Error(), "chmod go-w") {
				t.Errorf("error %v", err)
			}
			if _, err := os.Stat(filepath.Join(work, "ran")); err == nil {
				t.Error("a hook ran")
			}
		})
	}
}

func TestMissingWorkingFolderIsSaidOnce(t *testing.T) {
	dir := folder(t, map[string]string{"a": ":", "b": ":"})
	err := Run{Dir: dir, WorkDir: "/no/such"}.All(t.Context())
	if err == nil || !strings.Contains(err.Error(), "working folder") {
		t.Errorf("%v", err)
	}
}

func TestEnvironLetsTheCallersValuesWin(t *testing.T) {
	got := Environ(
		[]string{"B=1", "A=x=y", "B=2", "DISK_0_PATH=/disk", "broken", "=nameless", "SUITE=env"},
		map[string]string{"DISK_0_PATH": "/dev/loop0", "ARCH": ""},
		[]string{"SUITE=file", "DISK_0_PATH=/evil", "HELPER=1", "HELPER=2"})
	want := []string{"A=x=y", "ARCH=", "B=2", "DISK_0_PATH=/dev/loop0", "HELPER=2", "SUITE=file"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
