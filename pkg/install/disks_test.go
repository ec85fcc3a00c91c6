package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/settings"
)

// A cluster-wide swapdev="$DISK_1_PATH" may name the disk of one instance's firmware.
func TestADiskThatGanetiKeepsForItselfNeverBecomesSwap(t *testing.T) {
	dir := t.TempDir()
	root, state, link := filepath.Join(dir, "root"), filepath.Join(dir, "state"), filepath.Join(dir, "link")
	for _, path := range []string{root, state} {
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(state, link); err != nil {
		t.Fatal(err)
	}
	for role, refused := range map[string]bool{"firmware": true, "vtpm": true, "data": false, "": false} {
		for _, path := range []string{state, link} {
			o := &Order{
				Settings: &settings.Settings{SwapDev: path},
				Request:  &osapi.Request{BlockDev: root, Disks: []osapi.Disk{{Path: root, Access: "rw"}, {Index: 1, Path: state, Access: "rw", Role: role}}},
			}
			err := o.checkSwapPath(path)
			if refused != (err != nil) || refused && !strings.Contains(err.Error(), "DISK_1_ROLE="+role) {
				t.Errorf("role %q, swapdev=%s: %v", role, filepath.Base(path), err)
			}
		}
	}
}
