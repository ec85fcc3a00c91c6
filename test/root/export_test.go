//go:build root

package root

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExportToAFileWithoutEXPSIZEFD is a call by hand: stdout has the stream and
// nothing but the stream, whatever the log says, and sha256sum sees no change.
// TestAnExportToAClosedStdoutFails: Go's runtime puts /dev/null in its place.
func TestAnExportToAClosedStdoutFails(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("none", "ext4")
	cmd, _ := l.exporting(0, l.disk)
	closed := exec.Command("sh", append([]string{"-c", `exec "$@" >&-`, "sh", cmd.Path}, cmd.Args[1:]...)...)
	closed.Env, closed.ExtraFiles = cmd.Env, cmd.ExtraFiles
	out, err := closed.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "stdout is closed") {
		t.Errorf("%v\n%s", err, out)
	}
	l.clean(0)
}

func TestExportToAFileWithoutEXPSIZEFD(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	l.env["EXPORT_FORMAT"] = "tar"
	before := l.tool("sha256sum", l.disk)
	piped := l.export(0, l.disk)
	l.env["DEBUG_LEVEL"] = "2"
	out, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	must(t, err)
	defer out.Close()
	cmd := l.command("export")
	cmd.Env = append(cmd.Env, "EXPORT_INDEX=0", "EXPORT_DEVICE="+l.disk)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &stderr
	l.finish(cmd)
	if !cmd.ProcessState.Success() {
		t.Fatalf("export: %v\n%s", cmd.ProcessState, stderr.String())
	}
	l.clean(0)
	l.tool("sh", "-c", `test $(stat -c %s "$0") = $(stat -c %s "$1")`, piped, out.Name())
	if now := l.tool("sha256sum", l.disk); now != before {
		t.Errorf("the disk was %s and is %s", before, now)
	}
	names := strings.Split(l.tool("tar", "-tf", out.Name()), "\n")
	if names[0] != ".instance-debootstrap/manifest.json" || names[len(names)-1] != ".instance-debootstrap/sha256" {
		t.Errorf("the stream's first member is %s, its last %s", names[0], names[len(names)-1])
	}
	tree := t.TempDir()
	l.tool("tar", "-xf", out.Name(), "-C", tree, "./etc") // any tar finds the files
	if got := l.tool("cat", tree+"/etc/hostname"); got != "inst1.example" {
		t.Errorf("/etc/hostname in the stream is %q", got)
	}
}

// TestExportOfASnapshot: the disk itself is in use, and EXPORT_DEVICE isn't.
func TestExportOfASnapshot(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("none", "ext4")
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	l.tool("cp", "--sparse=always", l.disk, snapshot)
	l.change(func(string) {
		disk := l.disk
		l.disk = snapshot
		l.export(0, snapshot)
		l.disk = disk
		log, _, exit := l.exportTo(io.Discard, 0, disk)
		if exit != 1 || !strings.Contains(log, "in use") {
			t.Errorf("of the disk that is mounted: exit status %d\n%s", exit, log)
		}
	})
}

// dirty makes l.disk what a crashed guest leaves: a copy, taken while it is
// mounted, whose log alone knows of /late. Any sync(2) on the node empties the log
// of a btrfs; then it is done again.
func (l *lab) dirty() {
	l.Helper()
	copied := filepath.Join(l.TempDir(), "dirty-disk")
	l.change(func(tree string) {
		l.tool("sh", "-e", "-c", "cd "+tree+`
			for try in 1 2 3 4 5; do
				rm -rf late; sync -f .
				mkdir late; echo late > late/file; sync late/file late
				cp --sparse=always `+l.disk+" "+copied+`
				[ "$(findmnt -no FSTYPE -T .)" = btrfs ] || exit 0
				btrfs inspect-internal dump-super "$(findmnt -no SOURCE -T .)" | grep -q '^log_root[[:space:]]*[1-9]' && exit 0
			done
			echo "the log is emptied again and again"; exit 1`)
	})
	l.tool("sh", "-c", "btrfs device scan --forget; true")
	l.disks(copied)
}

func TestExportOfADirtyJournal(t *testing.T) {
	for _, fstype := range []string{"ext3", "ext4", "xfs", "btrfs"} {
		for _, access := range []string{"rw", "ro"} {
			t.Run(fstype+"/"+access, func(t *testing.T) {
				l := newMoveLab(t, 600)
				l.guest("msdos", fstype)
				l.dirty()
				args := []string{"losetup", "--show", "-f", l.disk}
				if access == "ro" {
					args = append(args, "-r")
				}
				dev := l.tool(args...)
				detachAtEnd(t, dev, l.disk)
				before := sumOf(t, l.disk)
				var stream bytes.Buffer
				log, _, exit := l.exportTo(&stream, 0, dev)
				if exit != 0 {
					t.Fatalf("exit status %d\n%s", exit, log)
				}
				l.tool("losetup", "-d", dev)
				l.clean(0)
				if access == "ro" && sumOf(t, l.disk) != before {
					t.Errorf("a read-only disk was changed")
				}
				if access == "rw" && fstype != "btrfs" && sumOf(t, l.disk) == before {
					t.Errorf("the journal was not replayed in place")
				}
				if !strings.Contains(log, "journal") && !strings.Contains(log, "log") {
					t.Errorf("the log says nothing of the journal:\n%s", log)
				}
				if access == "rw" {
					l.hasLate()
					l.checkFilesystem(fstype)
				}
				l.target(600)
				l.imports(&stream, 0, l.disk)
				l.hasLate()
				l.checkFilesystem(fstype)
			})
		}
	}
}

// hasLate fails when what only the log knew of isn't there. The mount is a
// writable one: of a raw copy the log is still to be replayed, by its next boot.
func (l *lab) hasLate() {
	l.Helper()
	l.change(func(tree string) {
		if got := l.tool("cat", tree+"/late/file"); got != "late" {
			l.Errorf("/late/file is %q", got)
		}
	})
}

// TestExportOfWhatCannotBeRead must fail with the reason last, however much of
// the stream is out.
func TestExportOfWhatCannotBeRead(t *testing.T) {
	fill := func(l *lab) {
		l.change(func(tree string) { l.tool("sh", "-c", "head -c 40000000 /dev/urandom > "+tree+"/big") })
	}
	for name, c := range map[string]struct {
		style, fstype, want string
		damage              func(l *lab) string // returns the disk to export
	}{
		"the end of the device gives I/O errors": {"msdos", "ext4", "/output error", func(l *lab) string {
			fill(l)
			return l.cutUnderALoop()
		}},
		"an unknown disk gives I/O errors": {"none", "", "/output error", func(l *lab) string {
			l.tool("sh", "-c", "head -c 9000000 /dev/urandom > "+l.disk+"; truncate -s 600M "+l.disk)
			return l.cutUnderALoop()
		}},
		"the disk is cut": {"none", "ext4", "", func(l *lab) string {
			must(l, os.Truncate(l.disk, 200<<20))
			return l.disk
		}},
		"a file's checksum is wrong": {"none", "btrfs", "/output error", func(l *lab) string {
			l.change(func(tree string) {
				must(l, os.WriteFile(tree+"/found", bytes.Repeat([]byte("find me in the data "), 5000), 0o644))
			})
			at := l.tool("sh", "-c", "grep -abo -m1 'find me in the data' "+l.disk+" | head -n1 | cut -d: -f1")
			l.tool("sh", "-c", "printf broken | dd of="+l.disk+" bs=1 seek="+at+" conv=notrunc")
			return l.disk
		}},
		"ext4 that e2fsck -p gives up": {"none", "ext4", "e2fsck", func(l *lab) string {
			l.tool("debugfs", "-w", "-R", "clri <2>", l.disk)
			l.tool("debugfs", "-w", "-R", "ssv state 2", l.disk)
			return l.disk
		}},
		"xfs whose log can't be replayed": {"none", "xfs", "", func(l *lab) string {
			l.dirty()
			l.tool("sh", "-c", "head -c 400 /dev/urandom | dd of="+l.disk+" bs=512 seek=1 conv=notrunc") // the space of its first group
			return l.disk
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			if c.fstype != "" {
				l.guest(c.style, c.fstype)
			}
			disk := c.damage(l)
			log, _, exit := l.exportTo(io.Discard, 0, disk)
			last := fed{log: log}.last()
			if exit != 1 || !strings.Contains(last, c.want) || !strings.Contains(last, "export") && !strings.Contains(last, "disk") {
				t.Errorf("exit status %d, the last line is %q, without %q; all of it:\n%s", exit, last, c.want, log)
			}
			if disk != l.disk {
				l.tool("losetup", "-d", disk)
			}
			l.clean(0)
		})
	}
}

// cutUnderALoop returns a device whose end, from 20 MiB on, can't be read.
func (l *lab) cutUnderALoop() (dev string) {
	l.Helper()
	dev = l.tool("losetup", "--show", "-f", l.disk)
	must(l, os.Truncate(l.disk, 20<<20))
	return dev
}

func TestExportWhoseReaderGoesAway(t *testing.T) {
	for _, format := range []string{"tar", "image", "dump"} {
		for _, after := range []int64{0, 1, 100000, 10 << 20} {
			t.Run(fmt.Sprint(format, "/", after), func(t *testing.T) {
				l := newMoveLab(t, 600)
				l.guest("msdos", "ext4")
				l.change(func(tree string) { l.tool("sh", "-c", "head -c 40000000 /dev/urandom > "+tree+"/big") })
				l.env["EXPORT_FORMAT"] = format
				r, w, err := os.Pipe()
				must(t, err)
				cmd, told := l.exporting(0, l.disk)
				var stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = w, &stderr
				go func() {
					io.CopyN(io.Discard, r, after)
					r.Close()
				}()
				must(t, cmd.Start())
				w.Close()
				start := time.Now()
				cmd.Wait()
				told()
				if cmd.ProcessState.Success() || time.Since(start) > 10*time.Second {
					t.Errorf("%v after %v\n%s", cmd.ProcessState, time.Since(start), stderr.String())
				}
				if !strings.HasSuffix(stderr.String(), "broken pipe\n") || !strings.Contains(stderr.String(), ": the reader of the backup went away before the end: ") {
					t.Errorf("the reader isn't named:\n%s", stderr.String())
				}
				if strings.Contains(stderr.String(), "goroutine ") {
					t.Errorf("it panics:\n%s", stderr.String())
				}
				l.clean(2 * time.Second)
				l.checkFilesystem("ext4")
			})
		}
	}
}

// TestExportKilled kills it at moments all over a run, some while its reader is slow.
func TestExportKilled(t *testing.T) {
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	l.change(func(tree string) { l.tool("sh", "-c", "head -c 40000000 /dev/urandom > "+tree+"/big") })
	before := sumOf(t, l.disk)
	start := time.Now()
	l.export(0, l.disk)
	took := time.Since(start)
	for _, format := range []string{"tar", "image", "dump"} {
		for i, name := range []string{"SIGTERM", "SIGKILL", "SIGTERM to the group", "SIGKILL to the group", "SIGKILL", "SIGTERM", "SIGKILL to the inner process"} {
			l.env["EXPORT_FORMAT"] = format
			cmd, told := l.exporting(0, l.disk)
			var stderr bytes.Buffer
			r, w, err := os.Pipe()
			must(t, err)
			cmd.Stdout, cmd.Stderr = w, &stderr
			must(t, cmd.Start())
			w.Close()
			after := time.Duration(rand.Int64N(int64(took)))
			if i >= 4 { // nobody reads: it waits in write(2)
				after = took + 100*time.Millisecond
			} else {
				go io.Copy(io.Discard, r)
			}
			time.Sleep(after)
			kills[name](cmd.Process.Pid)
			ended := make(chan struct{})
			go func() { cmd.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-time.After(8 * time.Second):
				syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				t.Errorf("%s: %s after %v: it does not end\n%s", format, name, after, stderr.String())
				<-ended
			}
			told()
			r.Close()
			l.clean(2 * time.Second)
			if i >= 4 && cmd.ProcessState.Success() {
				t.Errorf("%s: %s after %v: it succeeds\n%s", format, name, after, stderr.String())
			}
		}
	}
	if sumOf(t, l.disk) != before {
		t.Error("the disk was changed")
	}
	l.export(0, l.disk)
}

func TestDumpIsRefusedByName(t *testing.T) {
	for _, fstype := range []string{"xfs", "btrfs"} {
		l := newMoveLab(t, 600)
		l.guest("none", fstype)
		l.env["EXPORT_FORMAT"] = "dump"
		log, _, exit := l.exportTo(io.Discard, 0, l.disk)
		if last := (fed{log: log}).last(); exit != 1 || !strings.Contains(last, fstype) || !strings.Contains(last, "EXPORT_FORMAT") {
			t.Errorf("%s: exit status %d\n%s", fstype, exit, log)
		}
		l.clean(0)
	}
	l := newMoveLab(t, 600)
	l.guest("msdos", "ext4")
	l.env["EXPORT_FORMAT"] = "dump"
	cmd, told := l.exporting(0, l.disk)
	var out, stderr bytes.Buffer
	cmd = l.withoutTool("dump", cmd)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	l.finish(cmd)
	told()
	if last := (fed{log: stderr.String()}).last(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(last, "dump") || !strings.Contains(last, "install") || out.Len() > 0 {
		t.Errorf("without dump: %v, %d bytes\n%s", cmd.ProcessState, out.Len(), stderr.String())
	}
	l.clean(0)
}

// withoutTool has the command see a node that lacks the tool.
func (l *lab) withoutTool(tool string, cmd *exec.Cmd) *exec.Cmd {
	l.Helper()
	path, err := exec.LookPath(tool)
	must(l, err)
	path, err = filepath.EvalSymlinks(path)
	must(l, err)
	none := filepath.Join(l.TempDir(), "not-a-program")
	must(l, os.WriteFile(none, nil, 0o644))
	outer := exec.Command("unshare", append([]string{"-m", "sh", "-c", `mount --bind "$0" ` + path + ` && exec "$@"`, none}, cmd.Args...)...)
	outer.Env, outer.ExtraFiles, outer.SysProcAttr = cmd.Env, cmd.ExtraFiles, cmd.SysProcAttr
	return outer
}

// TestGuestIsMountedWithoutTrust looks at the mount while export waits for its
// reader. The superblock's own wish is that an error panics the node.
func TestGuestIsMountedWithoutTrust(t *testing.T) {
	for fstype, want := range map[string][]string{"ext4": {"errors=remount-ro"}, "xfs": {"nouuid"}, "btrfs": nil} {
		l := newMoveLab(t, 600)
		l.guest("msdos", fstype)
		l.change(func(tree string) { l.tool("sh", "-c", "head -c 5000000 /dev/urandom > "+tree+"/big") })
		if fstype == "ext4" {
			dev := l.root()
			l.tool("tune2fs", "-e", "panic", dev)
			l.tool("losetup", "-d", dev)
		}
		r, w, err := os.Pipe()
		must(t, err)
		cmd, told := l.exporting(0, l.disk)
		cmd.Stdout = w
		must(t, cmd.Start())
		w.Close()
		_, err = io.ReadFull(r, make([]byte, 100000)) // it is within the files
		must(t, err)
		found := ""
		tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
		for _, table := range tables {
			b, _ := os.ReadFile(table)
			for line := range strings.Lines(string(b)) {
				if strings.Contains(line, base+"/run") && strings.Contains(line, " - "+fstype+" ") {
					found = strings.TrimSpace(line)
				}
			}
		}
		for _, option := range append(want, "nosuid", "nodev", "noexec", "ro") {
			if !slices.Contains(strings.FieldsFunc(found, func(r rune) bool { return r == ' ' || r == ',' }), option) {
				t.Errorf("%s is mounted without %s: %q", fstype, option, found)
			}
		}
		_, err = io.Copy(io.Discard, r)
		must(t, err)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		told()
		l.clean(0)
	}
}
