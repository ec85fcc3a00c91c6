//go:build root

package root

import (
	"os"
	"path/filepath"
	"testing"
)

// What a tool prints that can't be read is said to be that tool's, in one line.
func TestWhatCannotBeReadIsSaidToBeTheTools(t *testing.T) {
	const garbage = `printf '\033[2J\n0\n"{<(\n'`
	for tool, c := range map[string]struct{ filesystem, want string }{
		"mkfs.xfs":    {"xfs", `mkfs.xfs prints "\\x1b\[2J\\n0\\n\\"\{<\(\\n", and no features: install the package xfsprogs again$`},
		"mkfs.btrfs":  {"btrfs", `mkfs.btrfs prints ".*", and no features: install the package btrfs-progs again$`},
		"debootstrap": {"ext4", `version of debootstrap: it prints ".*", which is none: install the package debootstrap again, or remove what stands in its place$`},
	} {
		l := newLab(t, 600)
		if tool == "debootstrap" {
			l.write("default", "BOOTSTRAP=debootstrap\nMIRROR=http://mirror.example/debian\n", 0o644)
		} else {
			l.tinyTree()
		}
		l.fake(tool, garbage)
		l.env["OSP_FILESYSTEM"] = c.filesystem
		l.matches((fed{log: l.fails("")}).last(), c.want)
	}
}

// wget leaves a wget-log in its working folder when the terminal goes, which would be that of the
// OS scripts, and so do others.
func TestWhatABootstrapLeavesInItsWorkingFolderGoesAway(t *testing.T) {
	l := newLab(t, 600)
	l.fakeDebootstrap("0.01")
	text, err := os.ReadFile(filepath.Join(l.fakes, "debootstrap"))
	must(t, err)
	l.fake("debootstrap", "case \"$1\" in --version) ;; *) echo left >left-by-debootstrap;; esac\n"+string(text))
	l.fake("wget", "echo left >wget-log; exit 4")
	l.create()
	for _, name := range []string{"wget-log", "left-by-debootstrap"} {
		if _, err := os.Lstat(filepath.Join(base, "os", name)); err == nil {
			t.Errorf("%s is left beside the scripts", name)
			os.Remove(filepath.Join(base, "os", name))
		}
	}
	l.mounted(func(tree string) {
		if out := l.tool("find", tree, "-name", "*left-by*", "-o", "-name", "wget-log"); out != "" {
			t.Errorf("the guest has %s", out)
		}
	})
}
