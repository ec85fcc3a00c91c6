//go:build root

package filesystem

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestACheckerThatCannotLookSaysNothingOfTheFilesystem: only xfs_repair -n's exit status 1 is a
// finding.
func TestACheckerThatCannotLookSaysNothingOfTheFilesystem(t *testing.T) {
	dir := t.TempDir()
	tool, disk := filepath.Join(dir, "xfs_repair"), sparseFile(t, 1<<20)
	for status, want := range map[string]string{"1": "finds it damaged", "4": `exit status 4: "cannot allocate"`, "0": ""} {
		if err := os.WriteFile(tool, []byte("#!/bin/sh\necho 'cannot allocate'\nexit "+status+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		err := check(t.Context(), disk, tool, "-n")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("exit status %s: %v", status, err)
		}
	}
}
