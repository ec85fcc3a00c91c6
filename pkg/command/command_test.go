package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
)

func TestFailureCarriesTheToolsLastLines(t *testing.T) {
	err := Run(context.Background(), Cmd{Args: []string{"sh", "-c", "seq 1 100; echo the reason >&2; exit 7"}})
	var e *Error
	if !errors.As(err, &e) || ExitStatus(err) != 7 {
		t.Fatalf("error %v", err)
	}
	if len(e.Tail) != tailLines || !strings.HasSuffix(err.Error(), "the reason") {
		t.Errorf("the error is %q", err)
	}
}

func TestMissingToolIsNamed(t *testing.T) {
	err := Run(context.Background(), Cmd{Args: []string{"no-such-tool"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-tool: not found on this node") {
		t.Errorf("error %v", err)
	}
}

func TestToolsGetOnlyTheBuiltEnvironment(t *testing.T) {
	t.Setenv("OSP_ROOT_PASSWORD", "secret")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	out, err := Output(context.Background(), "env")
	if err != nil || strings.Contains(out, "secret") || !strings.Contains(out, "LC_ALL=C") || !strings.Contains(out, "PATH="+Path) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestToolsGetNoInput(t *testing.T) {
	out, err := Output(context.Background(), "sh", "-c", "echo begin; cat")
	if err != nil || out != "begin" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestCancelEndsATool(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 50*time.Millisecond, errors.New("enough"))
	defer cancel()
	start := time.Now()
	err := Run(ctx, Cmd{Args: []string{"sleep", "100"}})
	if err == nil || !strings.Contains(err.Error(), "enough") || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestOutputGoesToTheLogLineByLine(t *testing.T) {
	var buf bytes.Buffer
	ctx := zerolog.New(&buf).WithContext(context.Background())
	if err := Run(ctx, Cmd{Args: []string{"sh", "-c", `printf 'one\ntwo'; printf 'three\n' >&2`}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"tool":"sh","message":"one"`, "two", "three"} {
		if !strings.Contains(buf.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, buf.String())
		}
	}
}

func TestChrootUsesTheTreesOwnTools(t *testing.T) {
	err := Run(context.Background(), Cmd{Args: []string{"tool"}, Chroot: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "tool: not found on the guest") {
		t.Errorf("error %v", err)
	}
	if out := err.Error(); strings.Contains(out, "this node") {
		t.Errorf("%s", out)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	var lines []string
	w := &LineWriter{Emit: func(s string) { lines = append(lines, s) }}
	w.Write(bytes.Repeat([]byte("x"), 10000))
	w.Flush()
	if len(lines) != 3 || len(lines[0]) != 4096 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestOfAProgressLineOnlyTheEndIsLogged(t *testing.T) {
	var lines []string
	w := &LineWriter{Emit: func(s string) { lines = append(lines, s) }}
	w.Write([]byte("Reading 5%\rReading 95%\rReading done.\r"))
	w.Write([]byte("\nnext\r\n"))
	w.Flush()
	if len(lines) != 2 || lines[0] != "Reading done." || lines[1] != "next" {
		t.Errorf("logged %q", lines)
	}
}

func TestWhatATerminalWouldObeyIsQuoted(t *testing.T) {
	var buf bytes.Buffer
	ctx := zerolog.New(zerolog.ConsoleWriter{Out: &buf, NoColor: true}).WithContext(t.Context())
	err := Run(ctx, Cmd{Args: []string{"sh", "-c", `printf 'a\033]0;title\007b\177\n\302\233c \342\200\256d \377\344\tgr\303\274n\n' >&2; exit 1`}})
	want := []string{`a\x1b]0;title\x07b\x7f`, `\x9bc \u202ed \xff\xe4` + "\tgrün"}
	for _, text := range []string{buf.String(), err.Error()} {
		for _, line := range want {
			if !strings.Contains(text, line) {
				t.Errorf("no %q in %q", line, text)
			}
		}
	}
}

func TestOfAToolThatPrintsWithoutEndTheRestIsCounted(t *testing.T) {
	var buf bytes.Buffer
	ctx, told := zerolog.New(&buf).WithContext(t.Context()), 0
	err := Run(ctx, Cmd{Args: []string{"sh", "-c", "yes 0123456789 | head -n 200000; echo last; exit 1"}, Line: func(string) { told++ }})
	if err == nil || !strings.HasSuffix(err.Error(), "last") {
		t.Errorf("error %v", err)
	}
	logged := strings.Count(buf.String(), `"message":"0123456789"`)
	if logged != maxLogBytes/11 || told != 200001 || !strings.Contains(buf.String(), fmt.Sprintf("%d more lines", 200001-logged)) {
		t.Errorf("%d lines were logged, %d told of; the log ends with %q", logged, told, buf.String()[buf.Len()-200:])
	}
}

// A path to the tool and another working folder make no difference.
func TestAToolThatReadsWhatAGuestWroteIsNeverStartedOutsideACell(t *testing.T) {
	if n := len(cell.Tools()); n < 15 {
		t.Fatalf("%d tools", n)
	}
	for _, tool := range cell.Tools() {
		for _, name := range []string{tool, "/usr/sbin/" + tool} {
			err := Run(t.Context(), Cmd{Args: []string{name}})
			if err == nil || !strings.Contains(err.Error(), "in a cell only") && !strings.Contains(err.Error(), "not found") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestOutputThatIsTooMuchIsAnErrorAndNotMemory(t *testing.T) {
	out, err := Output(t.Context(), "sh", "-c", "yes | head -c 100000000")
	if err == nil || !strings.Contains(err.Error(), "printed more than 1024 KiB") || len(out) > maxOutput {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func TestAToolOnOneProcessorLeavesUsTheOthers(t *testing.T) {
	before := CPUs()
	var out bytes.Buffer
	if err := Run(t.Context(), Cmd{Args: []string{"sh", "-c", "nproc; taskset --pid --cpu-list " + before + " $$ >/dev/null && nproc"}, Stdout: &out, OneCPU: true}); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("1\n%d\n", runtime.NumCPU()); out.String() != want {
		t.Errorf("it has %q processors, not %q", out.String(), want)
	}
	if after, err := Output(t.Context(), "nproc"); err != nil || CPUs() != before || after != strconv.Itoa(runtime.NumCPU()) {
		t.Errorf("%v: afterwards we have %s, not %s, and a tool %s", err, CPUs(), before, after)
	}
}

func TestAProcessorThatProcStatDoesNotHaveIsNotTaken(t *testing.T) {
	var other unix.CPUSet
	other.Set(1000)
	if cpu := mostIdle(other); cpu != -1 {
		t.Errorf("it is %d", cpu)
	}
}

// All of them, since a tool is started by whichever is free.
func TestAToolOnOneProcessorLeavesNoThreadOfOursThere(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one processor")
	}
	for range 3 {
		var was unix.CPUSet
		err := onOneCPU(func() error { return unix.SchedGetaffinity(0, &was) })
		if err != nil || was.Count() != 1 {
			t.Fatalf("%v: it would have %d processors", err, was.Count())
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		bound := 0
		threads, _ := os.ReadDir("/proc/self/task")
		for _, thread := range threads {
			var its unix.CPUSet
			id, _ := strconv.Atoi(thread.Name())
			if unix.SchedGetaffinity(id, &its) == nil && its.Count() == 1 {
				bound++
			}
		}
		if bound == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d threads stay on one", bound)
		}
	}
}
