//go:build root

package root

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// newDoctorLab is a lab whose OS definition is whole.
func newDoctorLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t, 600)
	for _, verb := range []string{"import", "export"} {
		must(t, os.Symlink(program, filepath.Join(base, "os", verb)))
	}
	l.write("os/ganeti_api_version", "20\n15\n", 0o644)
	l.write("os/parameters.list", "suite the suite\n", 0o644)
	l.write("default", "SUITE=trixie\nARCH=amd64\nPARTITION_STYLE=none\n", 0o644)
	l.tinyTree()
	return l
}

// doctor runs doctor, as text and as JSON, which must say the same, and returns the
// text. It must change nothing below the compiled-in folders.
func (l *lab) doctor() (text string, exit int) {
	l.Helper()
	look := func() string {
		return l.tool("sh", "-c", `cd "$0" && find os conf cache default -printf '%p %y %m %s %T@ %l\n' 2>/dev/null | sort`, base)
	}
	before := look()
	text, exit = l.here("doctor")
	cmd := exec.Command(program, "doctor", "--json")
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState.ExitCode() != exit {
		l.Fatalf("doctor --json: %v, without: exit status %d", err, exit)
	}
	var findings []struct{ Subject, State, Text string }
	must(l, json.Unmarshal(out, &findings))
	faults := false
	for _, f := range findings {
		if !strings.Contains(text, f.Text) || f.Subject == "" {
			l.Errorf("the text lacks %q:\n%s", f, text)
		}
		faults = faults || f.State == "fault"
	}
	if faults != (exit == 1) {
		l.Errorf("exit status %d, faults: %v\n%s", exit, faults, text)
	}
	if after := look(); after != before {
		l.Errorf("doctor has changed something:\n%s\nbefore:\n%s", after, before)
	}
	l.clean(0)
	return text, exit
}

func TestDoctorIsContentWithANodeThatWorks(t *testing.T) {
	l := newDoctorLab(t)
	text, exit := l.doctor()
	if exit != 0 || strings.Contains("\n"+text, "\nwarning ") {
		t.Errorf("exit status %d\n%s", exit, text)
	}
	for _, want := range []string{`ok +OS definition +.*/os leads to this program`, `ok +sandbox`, `ok +loop devices`, `ok +settings +trixie/amd64 as ext4`,
		`ok +variant default +.*its tree is cache-trixie-amd64\.tar`, `ok +hooks +.*: none`, `ok +cache +.* MiB free, trees: 1,`} {
		l.matches(text, want)
	}
	l.create() // and it does
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		make func(*lab)
		want string // its line begins with fault or warning
	}{
		"a script that is missing":     {func(l *lab) { l.tool("rm", base+"/os/export") }, `fault +OS definition +.*os/export: no such file`},
		"a script that is another's":   {func(l *lab) { l.tool("rm", base+"/os/rename"); l.write("os/rename", "#!/bin/sh\n", 0o755) }, `warning +OS definition +rename in .*not this program`},
		"no API version":               {func(l *lab) { l.tool("rm", base+"/os/ganeti_api_version") }, `fault +OS definition .*invalid without it`},
		"not installed for Ganeti":     {func(l *lab) { l.tool("rm", "-r", base+"/os") }, `warning +OS definition +.*does not exist`},
		"a setting that is wrong":      {func(l *lab) { l.write("default", "OSP_FILESYSTEM=minix\n", 0o644) }, `fault +settings +.*minix`},
		"a setting by a wrong name":    {func(l *lab) { l.write("default", "SUITE=trixie\nARCH=amd64\nFILESYSTEM=xfs\n", 0o644) }, `warning +settings +.*FILESYSTEM is not a setting: OSP_FILESYSTEM is meant`},
		"a settings file of others":    {func(l *lab) { l.write("default", "SUITE=trixie\n", 0o666) }, `fault +settings +.*chmod go-w`},
		"a suite that nobody knows":    {func(l *lab) { l.write("conf/variants/default.conf", "SUITE=trixy\n", 0o644) }, `fault +variant default +.*trixy`},
		"a listed variant without one": {func(l *lab) { l.write("conf/variants.list", "default\nnone-such\n", 0o644) }, `fault +variant none-such +.*none-such`},
		"no list of variants":          {func(l *lab) { l.tool("rm", base+"/conf/variants.list") }, `fault +settings +.*variants.list: no such file`},
		"NAMESPACE=host": {func(l *lab) {
			l.write("default", "SUITE=trixie\nARCH=amd64\nPARTITION_STYLE=none\nNAMESPACE=host\n", 0o644)
		}, `warning +sandbox +NAMESPACE=host`},
		"a hook that doesn't run": {func(l *lab) { l.write("conf/hooks/network.sh", "#!/bin/sh\n", 0o755) }, `warning +hooks +.*network\.sh: only names`},
		"a hook for all to write": {func(l *lab) { l.write("conf/hooks/10-net", "#!/bin/sh\n", 0o777) }, `warning +hooks +.*10-net can be written by others`},
		"a damaged tree":          {func(l *lab) { l.write("cache/cache-trixie-amd64-0123456789abcdef.tar.corrupt", "x", 0o600) }, `warning +cache +.*damaged tree`},
		"a full cache folder": {func(l *lab) {
			l.tool("mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", base+"/cache")
			l.Cleanup(func() { l.tool("umount", base+"/cache") })
		}, `fault +cache +.*100 MiB left`},
		"a loop device over a disk": {func(l *lab) {
			over := l.tool("losetup", "--show", "-f", l.disk)
			l.Cleanup(func() { l.tool("losetup", "-d", over) })
			second := l.tool("losetup", "--show", "-f", over)
			l.Cleanup(func() { l.tool("losetup", "-d", second) })
		}, `warning +loop devices +/dev/loop\d+ over /dev/loop\d+ is attached`},
		"a loop device over a removed file": {func(l *lab) {
			over := l.tool("losetup", "--show", "-f", l.disk)
			l.Cleanup(func() { l.tool("losetup", "-d", over) })
			must(l, os.Remove(l.disk))
		}, `warning +loop devices +/dev/loop\d+ over .*\(deleted\) is attached`},
	} {
		t.Run(name, func(t *testing.T) {
			l := newDoctorLab(t)
			c.make(l)
			text, exit := l.here("doctor")
			l.matches(text, `(?m)^`+c.want)
			if want := map[bool]int{true: 1, false: 0}[strings.HasPrefix(c.want, "fault")]; exit != want {
				t.Errorf("exit status %d, not %d\n%s", exit, want, text)
			}
		})
	}
}

func TestDoctorShowsNoPassword(t *testing.T) {
	l := newDoctorLab(t)
	l.write("default", "SUITE=trixie\nMIRROR='http://admin:secret@mirror.example/a b'\nPROXY=nonsense://u:secret@x\n", 0o644)
	text, _ := l.here("doctor")
	json, _ := l.here("doctor", "--json")
	if strings.Contains(text+json, "secret") || !strings.Contains(text, "mirror") {
		t.Errorf("%s\n%s", text, json)
	}
}
