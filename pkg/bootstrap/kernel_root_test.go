//go:build root

package bootstrap

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"instance-debootstrap/pkg/filesystem"
)

// copyProgram puts a program of the node, and what it is linked to, into a tree.
func copyProgram(t *testing.T, name, tree, at string) {
	t.Helper()
	program, err := exec.LookPath(name)
	must(t, err)
	files := map[string]string{program: at}
	linked, err := exec.Command("ldd", program).Output()
	must(t, err)
	for word := range strings.FieldsSeq(string(linked)) {
		if strings.HasPrefix(word, "/") {
			files[word] = word
		}
	}
	for from, to := range files {
		raw, err := os.ReadFile(from)
		must(t, err)
		must(t, os.MkdirAll(filepath.Join(tree, filepath.Dir(to)), 0o755))
		must(t, os.WriteFile(filepath.Join(tree, to), raw, 0o755))
	}
}

// A kernel's package makes no link to an initramfs that it is told not to make.
func TestTheLinkToAnInitramfsIsThereOnceThatIs(t *testing.T) {
	tree := t.TempDir()
	copyProgram(t, "sh", tree, "/bin/sh")
	copyProgram(t, "run-parts", tree, "/bin/run-parts")
	for name, text := range map[string]string{
		"boot/vmlinuz-6.8.0-1":            "",
		kernelHooks + "/initramfs-tools":  "#!/bin/sh\n: >/boot/initrd.img-$1\n",
		"usr/bin/linux-update-symlinks":   "#!/bin/sh\n[ \"$1$INITRD $3\" = \"upgrade /boot/vmlinuz-$2\" ] && [ -e /boot/initrd.img-$2 ] && echo $2 >/boot/initrd.img\n",
		"etc/initramfs-tools/conf.d/none": "", "proc/none": "", "sys/none": "", "run/none": "",
	} {
		must(t, os.MkdirAll(filepath.Join(tree, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(tree, name), []byte(text), 0o755))
	}
	t.Cleanup(func() { must(t, filesystem.UnmountBelow(tree)) })
	must(t, Spec{}.makeInitramfs(t.Context(), tree, nil))
	if link, err := os.ReadFile(filepath.Join(tree, "boot/initrd.img")); string(link) != "6.8.0-1\n" {
		t.Errorf("the link is to %q: %v", link, err)
	}
}
