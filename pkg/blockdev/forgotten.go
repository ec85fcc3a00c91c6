package blockdev

import (
	"os"
	"path/filepath"
	"strings"
)

// Forgotten lists the node's loop devices that nobody may need any more, each as
// "/dev/loopN over FILE": over another block device, which then can't be let go
// of, or over a file that was removed. Those that go with their last user are left
// out (loop(4), LO_FLAGS_AUTOCLEAR), as ours are.
func Forgotten() []string { return forgotten("/sys/block") }

func forgotten(sysBlock string) (found []string) {
	names, _ := filepath.Glob(sysBlock + "/loop*/loop/backing_file")
	for _, name := range names {
		text, err := os.ReadFile(name)
		backing := strings.TrimSuffix(string(text), "\n")
		if err != nil || !strings.HasPrefix(backing, "/dev/") && !strings.HasSuffix(backing, " (deleted)") {
			continue
		}
		if flag, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "autoclear")); strings.TrimSpace(string(flag)) == "0" {
			found = append(found, "/dev/"+filepath.Base(filepath.Dir(filepath.Dir(name)))+" over "+backing)
		}
	}
	return found
}
