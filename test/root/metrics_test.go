//go:build root

package root

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// figures are those of a file of METRICS_DIR, by their names with labels.
func (l *lab) figures(path string) map[string]string {
	l.Helper()
	text, err := os.ReadFile(path)
	must(l, err)
	if problems, err := promlint.New(strings.NewReader(string(text))).Lint(); err != nil || len(problems) > 0 {
		l.Errorf("%v, %v:\n%s", err, problems, text)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if at := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") {
			out[strings.TrimPrefix(line[:at], "instance_debootstrap_")] = strings.TrimSpace(line[at:])
		}
	}
	return out
}

func TestACreateTellsPrometheusHowItWent(t *testing.T) {
	l := newLab(t, 600)
	dir := t.TempDir()
	l.write("default", "METRICS_DIR="+dir+"\n", 0o644)
	l.tinyTree()
	l.create()
	file := dir + "/instance-debootstrap-create-default.prom"
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", err, st.Mode())
	}
	f := l.figures(file)
	for name, want := range map[string]string{
		`creates_total{variant="default",result="success"}`: "1", `creates_total{variant="default",result="failure"}`: "0",
		`last_create_success{variant="default"}`: "1", `last_create_tree_cached{variant="default"}`: "1", `last_create_disk_size_bytes{variant="default"}`: "629145600",
	} {
		if f[name] != want {
			t.Errorf("%s is %q, not %s: %v", name, f[name], want, f)
		}
	}
	for _, name := range []string{`last_create_duration_seconds{variant="default"}`, `last_create_step_duration_seconds{variant="default",step="unmount, sync and release the disks"}`, `last_create_written_bytes{variant="default"}`} {
		if f[name] == "" || f[name] == "0" {
			t.Errorf("%s is %q: %v", name, f[name], f)
		}
	}
	l.hook("10-fails", "false")
	l.fails("10-fails")
	f = l.figures(file)
	if f[`creates_total{variant="default",result="success"}`] != "1" || f[`creates_total{variant="default",result="failure"}`] != "1" || f[`last_create_success{variant="default"}`] != "0" {
		t.Errorf("after a failure: %v", f)
	}
	must(t, os.Remove(base+"/conf/hooks/10-fails"))

	// What is refused is counted, and nothing else of the last create changes.
	for _, variables := range [][2]string{{"OSP_NETWORK", "static"}, {"DISK_0_PATH", base + "/none"}, {"DISK_0_PATH", l.blankDisk("small", 1)}} {
		before := l.env[variables[0]]
		l.env[variables[0]] = variables[1]
		l.fails("")
		if l.env[variables[0]] = before; before == "" {
			delete(l.env, variables[0])
		}
	}
	refused := l.figures(file)
	if refused[`creates_total{variant="default",result="refused"}`] != "3" {
		t.Errorf("what was refused is counted as %v", refused)
	}
	refused[`creates_total{variant="default",result="refused"}`] = "0"
	if !maps.Equal(refused, f) {
		t.Errorf("the figures were\n%v\nand after refusals are\n%v", f, refused)
	}
	must(t, os.RemoveAll(dir))
	if log := l.create(); !strings.Contains(log, "METRICS_DIR: ") || !strings.Contains(log, "the create isn't counted") {
		t.Error(log)
	}
}

func TestTheNodesFiguresAreThoseOfItsCacheAndOfDoctor(t *testing.T) {
	l := newLab(t, 600)
	l.fakeDebootstrap("0")
	if out, exit := l.byHand("metrics"); exit != 1 || !strings.Contains(out, "METRICS_DIR isn't set") {
		t.Errorf("exit status %d\n%s", exit, out)
	}
	dir := t.TempDir()
	b, err := os.ReadFile(base + "/default")
	must(t, err)
	l.write("default", string(b)+"METRICS_DIR="+dir+"\n", 0o644)
	l.create()
	if out, exit := l.byHand("metrics"); exit != 0 || out != "" {
		t.Errorf("exit status %d\n%s", exit, out)
	}
	f := l.figures(dir + "/instance-debootstrap-node.prom")
	at := `{dir="` + base + `/cache"}`
	if f["cache_trees"+at] != "1" || f["cache_expired_trees"+at] != "0" || len(f["cache_oldest_tree_timestamp_seconds"+at]) < 10 || f[`cache_size_bytes{dir="`+base+`/cache",kind="trees"}`] == "0" {
		t.Errorf("the cache: %v", f)
	}
	tars, _ := filepath.Glob(base + "/cache/cache-*.tar")
	l.tool("sh", "-ec", `cp "$0" "$0.corrupt"; touch -d 2001-02-03 "$0.corrupt"`, tars[0])
	l.byHand("metrics")
	if now := l.figures(dir + "/instance-debootstrap-node.prom"); now["cache_trees"+at] != "1" || now["cache_oldest_tree_timestamp_seconds"+at] != f["cache_oldest_tree_timestamp_seconds"+at] {
		t.Errorf("with a damaged one that was set aside: %v", now)
	}
	must(t, os.Remove(tars[0]+".corrupt"))
	faults := f[`doctor_findings{subject="settings",state="fault"}`]
	must(t, os.Remove(base+"/conf/variants/default.conf"))
	l.tool("sh", "-c", "echo 'SUITE=No' >>$0", base+"/default")
	out, _ := l.byHand("metrics", "--print")
	if !strings.Contains(out, `state="fault"} `) || strings.Count(out, `state="fault"} 0`) == strings.Count(out, `state="fault"}`) {
		t.Errorf("before, settings had %q faults; now\n%s", faults, out)
	}
}

func TestTheExamplesForPrometheusAskForWhatThereIs(t *testing.T) {
	l := newLab(t, 600)
	l.fakeDebootstrap("0")
	dir := t.TempDir()
	b, err := os.ReadFile(base + "/default")
	must(t, err)
	l.write("default", string(b)+"METRICS_DIR="+dir+"\n", 0o644)
	l.create()
	if out, exit := l.byHand("metrics"); exit != 0 {
		t.Fatal(out)
	}
	written, err := filepath.Glob(dir + "/*.prom")
	must(t, err)
	labels := map[string]string{} // of each name
	series := regexp.MustCompile(`instance_debootstrap_([a-z_]+)(?:\{(.*?)\})?`)
	for _, path := range written {
		for name := range l.figures(path) {
			m := series.FindStringSubmatch("instance_debootstrap_" + name)
			labels[m[1]] = m[2]
		}
	}
	examples, err := filepath.Glob("../../examples/prometheus/*")
	must(t, err)
	asked, label := 0, regexp.MustCompile(`([a-z]+)(?:=~?)`)
	for _, path := range examples {
		text, err := os.ReadFile(path)
		must(t, err)
		if filepath.Ext(path) == ".json" {
			var board map[string]any
			must(t, json.Unmarshal(text, &board))
			text = []byte(strings.ReplaceAll(string(text), `\"`, `"`))
		}
		for _, m := range series.FindAllStringSubmatch(string(text), -1) {
			has, there := labels[m[1]]
			if !there {
				t.Errorf("%s: there is no metric %s", path, m[1])
			}
			for _, of := range label.FindAllStringSubmatch(m[2], -1) {
				if of[1] != "instance" && !strings.Contains(","+has, ","+of[1]+"=") { // which Prometheus gives each
					t.Errorf("%s: %s has no label %s, only %s", path, m[1], of[1], has)
				}
			}
			asked++
		}
	}
	if len(labels) < 12 || asked < 15 {
		t.Errorf("%d metrics, %d of them asked for", len(labels), asked)
	}
}
