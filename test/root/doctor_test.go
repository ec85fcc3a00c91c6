//go:build root

package root

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	l.tool(program, "parameters", "--update")
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
	free := regexp.MustCompile(`\d+ MiB`) // which other programs change meanwhile
	faults := false
	for _, f := range findings {
		if !strings.Contains(free.ReplaceAllString(text, ""), free.ReplaceAllString(f.Text, "")) || f.Subject == "" {
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
	return text, exit
}

func TestDoctorIsContentWithANodeThatWorks(t *testing.T) {
	l := newDoctorLab(t)
	l.write("default", "SUITE=trixie\nARCH=amd64\nPARTITION_STYLE=none\ntest -s \"$DISK_0_PATH\"\n", 0o644)
	text, exit := l.doctor()
	l.clean(0)
	if exit != 0 {
		t.Errorf("exit status %d\n%s", exit, text)
	}
	for _, want := range []string{`ok +OS definition +.*/os leads to this program`, `ok +sandbox`, `loop devices`, `ok +settings +trixie/amd64 as ext4`,
		`ok +variant default +.*its tree is cache-trixie-amd64\.tar`, `ok +hooks +.* has none`, `cache +.* MiB free, trees: 1,`} {
		l.matches(text, want)
	}
	l.create() // and it does
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	plain := "SUITE=trixie\nARCH=amd64\nPARTITION_STYLE=none\n"
	fullCache := func(l *lab) {
		l.tool("mount", "-t", "tmpfs", "-o", "size=100m,mode=755", "tmpfs", base+"/cache")
		l.Cleanup(func() { l.tool("umount", base+"/cache") })
	}
	old := func(l *lab, name string) {
		l.write("cache/"+name, "x", 0o600)
		l.tool("touch", "-d", "40 days ago", base+"/cache/"+name)
	}
	for name, c := range map[string]struct {
		make func(*lab)
		want string // its line begins with ok, warning or fault
	}{
		"a script that is missing":   {func(l *lab) { l.tool("rm", base+"/os/export") }, `fault +OS definition +.*os/export: no such file`},
		"a script that is another's": {func(l *lab) { l.tool("rm", base+"/os/rename"); l.write("os/rename", "#!/bin/sh\n", 0o755) }, `warning +OS definition +rename in .*not this program`},
		"no API version":             {func(l *lab) { l.tool("rm", base+"/os/ganeti_api_version") }, `fault +OS definition .*refuses the OS definition without it`},
		"not installed for Ganeti":   {func(l *lab) { l.tool("rm", "-r", base+"/os") }, `warning +OS definition +.*does not exist`},
		"a setting that is wrong":    {func(l *lab) { l.write("default", "OSP_FILESYSTEM=minix\n", 0o644) }, `fault +variant default +.*minix`},
		"a setting by a wrong name":  {func(l *lab) { l.write("default", plain+"FILESYSTEM=xfs\n", 0o644) }, `warning +settings +.*FILESYSTEM is not a setting: did you mean OSP_FILESYSTEM`},
		"a command that fails":       {func(l *lab) { l.write("default", plain+"x=$(false)\nfalse\n", 0o644) }, `warning +settings +.*default:`},
		"a settings file of others":  {func(l *lab) { l.write("default", plain, 0o666) }, `fault +variant default +.*chmod go-w`},
		"a suite that nobody knows":  {func(l *lab) { l.write("conf/variants/default.conf", "SUITE=trixy\n", 0o644) }, `fault +variant default +.*trixy`},
		"a suite for by hand": {func(l *lab) {
			l.write("default", "SUITE=trixy\nARCH=amd64\n", 0o644)
			l.write("conf/variants/default.conf", "SUITE=trixie\n", 0o644)
		}, `warning +settings +.*trixy`},
		"a listed variant that isn't": {func(l *lab) { l.write("conf/variants.list", "default\n# a comment\nnone-such\n", 0o644) }, `fault +variant none-such +.*none-such`},
		"no list of variants":         {func(l *lab) { l.tool("rm", base+"/conf/variants.list") }, `ok +settings +trixie/amd64`},
		"NAMESPACE=host":              {func(l *lab) { l.write("default", plain+"NAMESPACE=host\n", 0o644) }, `warning +sandbox +NAMESPACE=host`},
		"a hook that doesn't run":     {func(l *lab) { l.write("conf/hooks/network.sh", "#!/bin/sh\n", 0o755) }, `warning +hooks +.*network\.sh: only names`},
		"a hook not executable":       {func(l *lab) { l.write("conf/hooks/10-net", "#!/bin/sh\n", 0o644) }, `warning +hooks +.*10-net: not executable: chmod`},
		"a hook for all to write":     {func(l *lab) { l.write("conf/hooks/10-net", "#!/bin/sh\n", 0o777) }, `fault +hooks +.*10-net can be written by everybody.*chmod go-w`},
		"a hook for a group to write": {func(l *lab) { l.write("conf/hooks/10-net", "#!/bin/sh\n", 0o775) }, `warning +hooks +.*10-net can be written by its group`},
		"that, when it is refused": {func(l *lab) {
			l.write("default", plain+"SHARED_FILES=refuse\n", 0o644)
			l.write("conf/hooks/10-net", "#!/bin/sh\n", 0o775)
		}, `fault +hooks +.*10-net can be written by its group`},
		"a cache for all to write": {func(l *lab) { must(l, os.Chmod(base+"/cache", 0o777)) }, `fault +cache +.*cache can be written by everybody`},
		"a tar for all to write":   {func(l *lab) { must(l, os.Chmod(l.tar(), 0o666)) }, `fault +cache +.*\.tar can be written by everybody`},
		"a cache for a group":      {func(l *lab) { must(l, os.Chmod(base+"/cache", 0o775)) }, `warning +cache +.*cache can be written by its group`},
		"a tar of another user":    {func(l *lab) { must(l, os.Chown(l.tar(), 1000, 1000)) }, `warning +cache +.*\.tar belongs to user 1000`},
		"a hook of another user": {func(l *lab) {
			l.write("conf/hooks/10-net", "#!/bin/sh\n", 0o755)
			must(l, os.Chown(base+"/conf/hooks/10-net", 1000, 1000))
		}, `warning +hooks +.*10-net .*belongs to user 1000`},
		"a damaged tree":  {func(l *lab) { l.write("cache/cache-trixie-amd64-0123456789abcdef.tar.corrupt", "x", 0o600) }, `warning +cache +.*1 files, .*cache prune`},
		"an expired tree": {func(l *lab) { old(l, "cache-trixie-amd64-0123456789abcdef.tar") }, `(ok|warning) +cache `},
		"an expired tree that is used": {func(l *lab) {
			l.write("default", plain+"CACHE_STALE_OK=yes\n", 0o644)
			old(l, "cache-trixie-amd64-0123456789abcdef.tar")
		}, `warning +cache +.*cache warm --all --expired`},
		"an expired tree is none":           {func(l *lab) { old(l, "cache-trixie-amd64.tar") }, `ok +variant default +.*still to be built`},
		"a compressed tree of the admin's":  {func(l *lab) { l.tool("gzip", "-n", l.tar()); l.tool("mv", l.tar()+".gz", l.tar()) }, `fault +variant default +.*compressed with gzip`},
		"a full cache folder":               {fullCache, `fault +variant default +.*100 MiB left`},
		"a full cache folder with the tree": {func(l *lab) { fullCache(l); l.tinyTree() }, `warning +cache +.* left: a new tree`},
		"a full cache folder of no use":     {func(l *lab) { l.write("default", plain+"GENERATE_CACHE=no\n", 0o644); fullCache(l) }, `warning +cache +.*left`},
		"a loop device over a disk": {func(l *lab) {
			over := l.tool("losetup", "--show", "-f", l.disk)
			l.Cleanup(func() { l.tool("losetup", "-d", over) })
			second := l.tool("losetup", "--show", "-f", over)
			l.Cleanup(func() { l.tool("losetup", "-d", second) })
		}, `warning +loop devices +/dev/loop\d+ keeps /dev/loop\d+ from`},
		"a loop device over a removed file": {func(l *lab) {
			over := l.tool("losetup", "--show", "-f", l.disk)
			l.Cleanup(func() { l.tool("losetup", "-d", over) })
			must(l, os.Remove(l.disk))
		}, `warning +loop devices +/dev/loop\d+ keeps .*\(deleted\) from`},
	} {
		t.Run(name, func(t *testing.T) {
			l := newDoctorLab(t)
			c.make(l)
			text, exit := l.doctor()
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

func TestDoctorNamesWhatAKilledRunInTheNodesOwnNamespacesLeft(t *testing.T) {
	l := newLab(t, 600)
	target := filepath.Join(base, "run/run-123/target")
	must(t, os.MkdirAll(target, 0o755))
	dev := l.tool("losetup", "-f", "--show", l.disk)
	l.tool("mkfs.ext4", "-q", dev)
	l.tool("mount", dev, target)
	l.tool("sh", "-c", "mkdir "+target+"/proc && mount -t proc proc "+target+"/proc && losetup -d "+dev) // which goes with its last user
	out, _ := exec.Command(program, "doctor").CombinedOutput()
	l.matches(string(out), `warning +sandbox +`+dev+` is mounted on `+target+`: unless a run with NAMESPACE=host goes on, or mount with a URI or a qcow2 image, one that was killed has left it: .umount -R `+target)
	if strings.Count(string(out), "is mounted on") != 1 {
		t.Errorf("%s", out)
	}
	l.tool("umount", "-R", target)
	must(t, os.RemoveAll(filepath.Join(base, "run/run-123")))
	out, _ = exec.Command(program, "doctor").CombinedOutput()
	if strings.Contains(string(out), "is mounted on") || l.tool("losetup", "-n", "-O", "BACK-FILE", "-j", l.disk) != "" {
		t.Errorf("afterwards:\n%s", out)
	}
}
