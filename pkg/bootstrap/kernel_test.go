package bootstrap

import (
	"errors"
	"os"
	"testing"
)

// mkinitramfs looks into /proc/swaps for where the machine resumes from.
func TestAnInitramfsDoesNotLookForTheNodesSwap(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	must(t, noResume(root))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("a tree without initramfs-tools got %v, %v", entries, err)
	}
	const conf = "etc/initramfs-tools/conf.d"
	must(t, errors.Join(root.MkdirAll(conf, 0o755), noResume(root)))
	if got, err := root.ReadFile(conf + "/resume"); err != nil || string(got) != "RESUME=none\n" {
		t.Errorf("%q, %v", got, err)
	}
}
