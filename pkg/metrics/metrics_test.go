package metrics

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lint reads a text as Prometheus does, and has its own word on the names.
func lint(t *testing.T, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v:\n%s", err, problems, text)
	}
}

func TestLabelsMayHaveAnyText(t *testing.T) {
	text := Text([]Family{
		Gauge("some_bytes", "Some.", 1.5, Label{"variant", "a\"b\\c\nd\xff}"}),
		{Name: "runs_total", Help: "Runs.", Counter: true, Samples: []Sample{{nil, 3}}},
		{Name: "nothing", Help: "Is left out."},
		Gauge("end_timestamp_seconds", "When.", Seconds(time.UnixMilli(1764450000123))),
	})
	lint(t, text)
	for _, want := range []string{`variant="a\"b\\c\nd?}"} 1.5`, "instance_debootstrap_end_timestamp_seconds 1764450000.123\n", "# TYPE instance_debootstrap_runs_total counter\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "nothing") {
		t.Error(text)
	}
}

func counted(label string) []Family {
	return []Family{{Name: "runs_total", Help: "Runs.", Counter: true, Samples: []Sample{{[]Label{{"of", label}}, 1}}}}
}

func TestCountersGoOnAlsoWhenManyWriteAtOnce(t *testing.T) {
	dir, locks := t.TempDir(), t.TempDir()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := Write(dir, locks, "x", counted("a b")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	text := read(dir + "/x.prom")
	lint(t, text)
	if !strings.Contains(text, `instance_debootstrap_runs_total{of="a b"} 20`+"\n") {
		t.Error(text)
	}
	if st, err := os.Stat(dir + "/x.prom"); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", err, st.Mode())
	}
	if left, _ := filepath.Glob(dir + "/.*"); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
}

func TestWhatIsNoFileOfOursIsReplaced(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"garbage": func(path string) error {
			return os.WriteFile(path, []byte("instance_debootstrap_runs_total{of=\"a\"} 1e9\n\x00"), 0o600)
		},
		"a link":         func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a fifo":         func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a killed run's": func(path string) error { return os.Symlink("/etc/passwd", filepath.Dir(path)+"/.x.prom.new") },
	} {
		dir := t.TempDir()
		must(t, make(dir+"/x.prom"))
		before, err := os.ReadFile("/etc/passwd")
		must(t, err)
		must(t, Write(dir, t.TempDir(), "x", counted("a")))
		if text := read(dir + "/x.prom"); !strings.HasSuffix(text, `{of="a"} 1`+"\n") {
			t.Errorf("%s: %q", name, text)
		}
		if after, _ := os.ReadFile("/etc/passwd"); string(after) != string(before) {
			t.Errorf("%s: another file was written to", name)
		}
	}
}

func TestAFolderThatIsNotThereIsAnError(t *testing.T) {
	if err := Write(t.TempDir()+"/none", t.TempDir(), "x", counted("a")); err == nil || !strings.Contains(err.Error(), "METRICS_DIR") {
		t.Error(err)
	}
}
