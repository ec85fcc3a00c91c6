package filesystem

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCountsOfUnusedInodesCountOnlyWhereTheKernelHeedsThem: without uninit_bg and
// metadata_csum the field is nobody's, whatever it holds.
func TestCountsOfUnusedInodesCountOnlyWhereTheKernelHeedsThem(t *testing.T) {
	for features, counted := range map[string]bool{"metadata_csum": true, "^metadata_csum,uninit_bg": true, "^metadata_csum,^uninit_bg": false} {
		path := filepath.Join(t.TempDir(), "fs")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		run := func(args ...string) {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Stdin = strings.NewReader("set_bg 0 itable_unused 1000\nset_bg 0 checksum calc\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
		}
		run("mke2fs", "-q", "-t", "ext4", "-O", features+",^has_journal", path, "64m")
		run("debugfs", "-w", path)
		_, empty, err := UsedExtents(context.Background(), path, Ext4)
		if err != nil {
			t.Fatal(err)
		}
		if counted != (len(empty) > 0) {
			t.Errorf("%s: %v may be zeros", features, empty)
		}
	}
}
