//go:build root

package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// here runs the program in the test's own namespaces, where what it mounts stays.
func (l *lab) here(args ...string) (out string, exit int) {
	l.Helper()
	cmd := exec.Command(program, args...)
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		l.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// mount mounts l.disk by hand on a new folder, which the test's end frees.
func (l *lab) mount(options ...string) (dir string) {
	l.Helper()
	dir = l.TempDir()
	l.Cleanup(func() { exec.Command("umount", dir).Run() })
	if out, exit := l.here(append(append([]string{"mount"}, options...), l.disk, dir)...); exit != 0 {
		l.Fatalf("mount: exit status %d\n%s", exit, out)
	}
	return dir
}

// loops counts the loop devices over l.disk.
func (l *lab) loops() int {
	l.Helper()
	return len(strings.Fields(l.tool("losetup", "-n", "-O", "NAME", "-j", l.disk)))
}

func TestMountShowsTheGuestAndAPlainUmountFreesAll(t *testing.T) {
	for style, fstype := range map[string]string{"none": "ext4", "msdos": "xfs", "gpt": "btrfs"} {
		t.Run(style+"/"+fstype, func(t *testing.T) {
			l := newLab(t, 600)
			l.guest(style, fstype)
			must(t, os.RemoveAll(filepath.Join(base, "lock"))) // as on a node that has just started
			dir := l.mount()
			name, err := os.ReadFile(filepath.Join(dir, "etc/hostname"))
			must(t, err)
			if string(name) != "inst1.example\n" {
				t.Errorf("the guest's name is %q", name)
			}
			for _, option := range []string{"nodev", "nosuid", "noexec"} {
				l.matches(l.tool("findmnt", "-no", "OPTIONS", dir), `\b`+option+`\b`)
			}
			must(t, os.WriteFile(filepath.Join(dir, "written"), []byte("by hand\n"), 0o644))
			if log, exit := l.run("create"); exit != 1 || !strings.Contains(log, "is over it, which is mounted on "+dir+";") {
				t.Errorf("create on a mounted disk: exit status %d\n%s", exit, log)
			}
			l.tool("umount", dir)
			if n := l.loops(); n != 0 {
				t.Errorf("%d loop devices are left after umount", n)
			}
			l.clean(0)
			l.mounted(func(tree string) { l.matches(l.tool("cat", tree+"/written"), "by hand") })
		})
	}
}

// The mount keeps a block device open; nobody is to wait for it to come free.
func TestAMountOfABlockDeviceDoesNotWaitForItself(t *testing.T) {
	l := newLab(t, 600)
	l.guest("msdos", "ext4")
	disk := l.disk
	l.disk = l.tool("losetup", "--show", "-f", disk)
	defer l.tool("losetup", "-d", l.disk)
	dir := t.TempDir()
	began := time.Now()
	out, exit := l.here("mount", l.disk, dir)
	if exit != 0 || strings.Contains(out, "still open") || time.Since(began) > 8*time.Second {
		t.Errorf("exit status %d after %v\n%s", exit, time.Since(began), out)
	}
	l.tool("umount", dir)
}

func TestAReadOnlyMountChangesNoByte(t *testing.T) {
	for name, c := range map[string]struct {
		make func(*lab)
		says string
	}{
		"clean":         {func(l *lab) { l.guest("msdos", "ext4") }, "mounted"},
		"dirty journal": {func(l *lab) { l.guest("msdos", "ext4"); l.dirty() }, "not unmounted cleanly"},
		"dirty xfs":     {func(l *lab) { l.guest("msdos", "xfs"); l.dirty() }, "not unmounted cleanly"},
		"in use":        {func(l *lab) { l.guest("none", "ext4"); l.root() }, "in use"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			c.make(l)
			before, dir := sumOf(t, l.disk), t.TempDir()
			must(t, os.RemoveAll(filepath.Join(base, "lock")))
			t.Cleanup(func() { exec.Command("umount", dir).Run() })
			out, exit := l.here("mount", "--read-only", l.disk, dir)
			if exit != 0 || !strings.Contains(out, c.says) {
				t.Fatalf("mount: exit status %d\n%s", exit, out)
			}
			if name, err := os.ReadFile(filepath.Join(dir, "etc/hostname")); err != nil || len(name) == 0 {
				t.Errorf("the guest's name is %q: %v", name, err)
			}
			if os.WriteFile(filepath.Join(dir, "written"), nil, 0o644) == nil {
				t.Errorf("it can be written to")
			}
			l.tool("umount", dir)
			if sumOf(t, l.disk) != before {
				t.Errorf("the disk has changed")
			}
		})
	}
}

func TestMountRefusesWhatItCannotDoSafely(t *testing.T) {
	folder := t.TempDir()
	for name, c := range map[string]struct {
		make func(*lab)
		args func(*lab) []string
		want string
	}{
		"no disk":         {nil, func(*lab) []string { return []string{"/nonexistent", folder} }, "no such file"},
		"no folder":       {nil, func(l *lab) []string { return []string{l.disk, "/nonexistent"} }, "folder to mount on"},
		"a file":          {nil, func(l *lab) []string { return []string{l.disk, l.disk} }, "not a folder"},
		"a link":          {func(l *lab) { l.tool("ln", "-sfn", folder, base+"/link") }, func(l *lab) []string { return []string{l.disk, base + "/link"} }, "leads to " + folder},
		"a full folder":   {nil, func(l *lab) []string { return []string{l.disk, "/etc"} }, "/etc isn't empty"},
		"one argument":    {nil, func(l *lab) []string { return []string{l.disk} }, "expected DISK and FOLDER"},
		"a blank disk":    {nil, func(l *lab) []string { return []string{l.disk, folder} }, "only ext2, ext3, ext4, xfs and btrfs"},
		"swap":            {func(l *lab) { l.tool("mkswap", "-q", l.disk) }, func(l *lab) []string { return []string{l.disk, folder} }, "holds swap"},
		"a foreign table": {func(l *lab) { l.tool("sh", "-c", `printf ',100M,L\n,,L\n' | sfdisk -q `+l.disk) }, func(l *lab) []string { return []string{l.disk, folder} }, "not a layout of ours"},
		"in use":          {func(l *lab) { l.guest("none", "ext4"); l.root() }, func(l *lab) []string { return []string{l.disk, folder} }, "is over it"},
		"a second time":   {func(l *lab) { l.guest("none", "ext4") }, func(l *lab) []string { return []string{l.disk, l.mount()} }, "is mounted on"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			if c.make != nil {
				c.make(l)
			}
			args := append([]string{"mount"}, c.args(l)...)
			loops := l.loops()
			before := sumOf(t, l.disk)
			out, exit := l.here(args...)
			if exit == 0 || !strings.Contains(out, c.want) {
				t.Errorf("exit status %d, without %q:\n%s", exit, c.want, out)
			}
			if sumOf(t, l.disk) != before || l.loops() != loops {
				t.Errorf("the disk has changed, or a loop device is left")
			}
			if out, err := exec.Command("mountpoint", "-q", folder).CombinedOutput(); err == nil {
				t.Errorf("%s is mounted: %s", folder, out)
			}
		})
	}
}

func TestMountByAnotherThanRootMakesNoLockFolder(t *testing.T) {
	l := newLab(t, 600)
	must(t, os.RemoveAll(filepath.Join(base, "lock")))
	must(t, os.Chmod(base, 0o777)) // as if the folder above were everybody's
	t.Cleanup(func() { os.Chmod(base, 0o755) })
	out, err := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, "mount", l.disk, t.TempDir()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "root is needed") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Lstat(filepath.Join(base, "lock")); err == nil {
		t.Error("another user has made the lock folder")
	}
}

// TestAMountLandsNowhereElseWhenAUserSwapsTheFolderForALink has the owner of the folder
// above swap the folder for a link to one of root's, all the time.
func TestAMountLandsNowhereElseWhenAUserSwapsTheFolderForALink(t *testing.T) {
	l := newLab(t, 64)
	l.tool("mkfs.ext4", "-q", "-F", l.disk)
	victim, home := t.TempDir(), t.TempDir()
	dir, link := filepath.Join(home, "dir"), filepath.Join(home, "link")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Symlink(victim, link))
	l.tool("chown", "-h", "65534:65534", home, dir, link)
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	}()
	free := func() {
		_ = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		_ = unix.Unmount(link, unix.UMOUNT_NOFOLLOW)
	}
	defer func() { close(stop); <-stopped; free() }()
	mounted := 0
	for range 40 {
		if _, exit := l.here("mount", l.disk, dir); exit == 0 {
			mounted++
		}
		if exec.Command("mountpoint", "-q", victim).Run() == nil {
			l.tool("umount", victim)
			t.Error("it was mounted on root's folder")
		}
		free() // by the name that it has now, which stays while it is mounted on
	}
	if mounted == 0 {
		t.Error("it was never mounted")
	}
	t.Logf("mounted %d times", mounted)
}
