//go:build root

package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// guest creates an instance whose tree can then be changed, as its guest might.
func (l *lab) guest(style, fstype string) {
	l.Helper()
	l.tinyTree()
	l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = style, fstype
	l.create()
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = "inst1.example", "inst2.example"
}

// change mounts the root writable and lets the test be the guest.
func (l *lab) change(as func(tree string)) {
	l.Helper()
	dev, dir := l.root(), l.TempDir()
	l.tool("mount", dev, dir)
	defer func() {
		l.tool("umount", dir)
		l.tool("losetup", "-d", dev)
		for try := 0; try < 50 && exec.Command("losetup", dev).Run() == nil; try++ { // somebody looks at it
			time.Sleep(100 * time.Millisecond)
		}
	}()
	as(dir)
}

func TestRenameOnEveryStyleAndFilesystem(t *testing.T) {
	for _, style := range []string{"none", "msdos", "gpt"} {
		for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
			t.Run(style+"/"+fstype, func(t *testing.T) {
				l := newLab(t, 600)
				l.guest(style, fstype)
				l.change(func(tree string) {
					must(t, os.WriteFile(tree+"/etc/hosts", []byte("192.0.2.1\tinst1.example inst1 # mine\n"), 0o640))
					must(t, os.Chmod(tree+"/etc/hosts", 0o640))
				})
				log, exit := l.run("rename")
				if exit != 0 {
					t.Fatalf("exit status %d\n%s", exit, log)
				}
				l.matches(log, `\ninst2\.example is the name of the guest now, on `+l.disk+`, in [0-9.]+ s\n$`)
				l.clean(0)
				l.mounted(func(tree string) {
					for name, want := range map[string]string{"hostname": "inst2.example", "mailname": "inst2.example", "hosts": "192.0.2.1\tinst2.example inst2 # mine"} {
						if got := l.tool("cat", tree+"/etc/"+name); got != want {
							t.Errorf("/etc/%s is %q", name, got)
						}
					}
					if st, err := os.Stat(tree + "/etc/hosts"); err != nil || st.Mode() != 0o640 {
						t.Errorf("/etc/hosts: %v, %v", st.Mode(), err)
					}
				})
				l.checkFilesystem(fstype)
			})
		}
	}
}

func TestRenameKeepsToTheScriptsRules(t *testing.T) {
	l := newLab(t, 600)
	l.guest("msdos", "ext4")
	l.change(func(tree string) { must(t, os.WriteFile(tree+"/etc/mailname", []byte("mail.example\n"), 0o644)) })
	l.env["INSTANCE_NAME"] = "inst1.example" // old = new, as after an import
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatalf("old = new: exit status %d\n%s", exit, log)
	}
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = "other.example", "inst2.example"
	if log, exit := l.run("rename"); exit != 1 || !strings.Contains(log, `"inst1.example", not "other.example"`) {
		t.Errorf("another host name: exit status %d\n%s", exit, log)
	}
	l.clean(0)
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/etc/hostname", tree+"/etc/mailname"); got != "inst1.example\nmail.example" {
			t.Errorf("the names are %q", got)
		}
	})
}

func TestRenameNeverWritesThroughTheGuestsLinks(t *testing.T) {
	// victim is a file of the node; want is in the last line of the failure, "" is
	// for what succeeds.
	for name, c := range map[string]struct{ attack, want string }{
		"hostname is a link out":          {"ln -sf $victim etc/hostname", "no such file"},
		"mailname is a relative link out": {"ln -sf ../../../../../../../../../../..$victim etc/mailname", ""},
		"hosts is a link to a device":     {"mknod dev-zero c 1 5; ln -sf /dev-zero etc/hosts", "a device node, not a regular file"},
		"etc is a link to the node's":     {"rm -r etc; ln -s ${victim%/*} etc", "no such file"},
		"etc is a link to the top":        {"mv etc/hostname .; rm -r etc; ln -s / etc", ""},
		"etc is a file":                   {"rm -r etc; echo >etc", "not a directory"},
		"no etc":                          {"rm -r etc", "no such file"},
		"nothing at all":                  {"rm -r *", "no such file"},
		"hostname is a fifo":              {"rm etc/hostname; mkfifo etc/hostname", "a FIFO, not a regular file"},
		"hostname is a folder":            {"rm etc/hostname; mkdir etc/hostname", "a directory, not a regular file"},
		"hostname is a disk":              {"rm etc/hostname; mknod etc/hostname b 7 0", "a device node, not a regular file"},
		"mailname is a folder":            {"rm -f etc/mailname; mkdir etc/mailname", "a directory, not a regular file"},
		"hosts is a socket":               {"rm -f etc/hosts; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"etc/hosts\")'", "a socket, not a regular file"},
		"hostname is 2 GiB":               {"truncate -s 2G etc/hostname", "more than the"},
		"hosts is 2 GiB":                  {"truncate -s 2G etc/hosts", "more than the"},
		"links in a circle":               {"rm -r etc; ln -s etc etc", "too many levels of symbolic links"},
		"a long chain of links":           {"mv etc e0; for i in $(seq 100); do ln -s e$((i - 1)) e$i; done; ln -s e100 etc", "too many levels of symbolic links"},
		"a process's files":               {"rm etc/hostname; ln -s /proc/self/environ etc/hostname", "no such file"},
		"another's hard link":             {"ln etc/hostname mine; chmod 0666 mine", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.guest("msdos", "ext4")
			victim := filepath.Join(t.TempDir(), "hostname")
			must(t, os.WriteFile(victim, []byte("inst1.example\n"), 0o644))
			l.change(func(tree string) { l.tool("sh", "-e", "-c", "cd "+tree+"; victim="+victim+"; "+c.attack) })
			start := time.Now()
			log, exit := l.run("rename")
			if last := (fed{log: log}).last(); (exit == 0) != (c.want == "") || !strings.Contains(last, c.want) || time.Since(start) > 10*time.Second {
				t.Errorf("exit status %d after %v, want %q\n%s", exit, time.Since(start), c.want, log)
			}
			l.clean(0)
			if b, err := os.ReadFile(victim); err != nil || string(b) != "inst1.example\n" {
				t.Errorf("the node's file is %q, %v\n%s", b, err, log)
			}
			entries, _ := os.ReadDir(filepath.Dir(victim))
			if len(entries) != 1 {
				t.Errorf("the node's folder has %v", entries)
			}
			l.checkFilesystem("ext4")
		})
	}
}

// TestRenameLeavesADiskOfUnknownLayoutAlone, whatever a guest makes of its table.
func TestRenameLeavesADiskOfUnknownLayoutAlone(t *testing.T) {
	for name, script := range map[string]string{
		"two partitions":       "printf '2048,4096,L\n8192,,L\n' | sfdisk -q $disk",
		"a swap partition":     "echo 2048,,S | sfdisk -q $disk",
		"a GPT of odd numbers": `printf '\377\377\377\177' | dd of=$disk bs=1 seek=592 conv=notrunc`,
		"a partition beyond the end": `dd if=/dev/zero of=$disk bs=512 count=1 conv=notrunc
			printf '\000\000\000\000\203\000\000\000\000\010\000\000\377\377\377\377' | dd of=$disk bs=1 seek=446 conv=notrunc; printf '\125\252' | dd of=$disk bs=1 seek=510 conv=notrunc`,
		"nothing at all": "dd if=/dev/zero of=$disk bs=1M count=70 conv=notrunc",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.guest("gpt", "ext4")
			l.tool("sh", "-e", "-c", "disk="+l.disk+"; "+script)
			before := sumOf(t, l.disk)
			log, exit := l.run("rename")
			if last := (fed{log: log}).last(); exit != 1 || !strings.Contains(last, "disk "+l.disk) {
				t.Errorf("exit status %d\n%s", exit, log)
			}
			l.clean(0)
			if sumOf(t, l.disk) != before {
				t.Errorf("the disk was changed\n%s", log)
			}
		})
	}
}
