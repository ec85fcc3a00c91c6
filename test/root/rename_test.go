//go:build root

package root

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
	defer func() { l.tool("umount", dir); l.tool("losetup", "-d", dev) }()
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
				if log, exit := l.run("rename"); exit != 0 {
					t.Fatalf("exit status %d\n%s", exit, log)
				}
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
	for name, attack := range map[string]func(tree, victim string) error{
		"hostname is a link out": func(tree, victim string) error {
			os.Remove(tree + "/etc/hostname")
			return os.Symlink(victim, tree+"/etc/hostname")
		},
		"mailname is a relative link out": func(tree, victim string) error {
			os.Remove(tree + "/etc/mailname")
			return os.Symlink(strings.Repeat("../", 20)+victim, tree+"/etc/mailname")
		},
		"etc is a link to the node's": func(tree, victim string) error {
			os.RemoveAll(tree + "/etc")
			return os.Symlink(filepath.Dir(victim), tree+"/etc")
		},
		"hostname is a fifo": func(tree, _ string) error {
			os.Remove(tree + "/etc/hostname")
			return mkfifo(tree + "/etc/hostname")
		},
		"hostname is 2 GiB": func(tree, _ string) error { return os.Truncate(tree+"/etc/hostname", 2<<30) },
		"links in a circle": func(tree, _ string) error {
			os.RemoveAll(tree + "/etc")
			return os.Symlink("etc", tree+"/etc")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.guest("msdos", "ext4")
			victim := filepath.Join(t.TempDir(), "hostname")
			must(t, os.WriteFile(victim, []byte("inst1.example\n"), 0o644))
			l.change(func(tree string) { must(t, attack(tree, victim)) })
			log, _ := l.run("rename")
			l.clean(0)
			if b, err := os.ReadFile(victim); err != nil || string(b) != "inst1.example\n" {
				t.Errorf("the node's file is %q, %v\n%s", b, err, log)
			}
			entries, _ := os.ReadDir(filepath.Dir(victim))
			if len(entries) != 1 {
				t.Errorf("the node's folder has %v", entries)
			}
		})
	}
}

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o644) }
