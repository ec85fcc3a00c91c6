package script

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The pages' own readers find no fault: man-db's, and mandoc, by which other systems show
// them. A date is left out, so that two builds are the same.
func TestTheManPagesHaveNoFault(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.[1-8].in")
	if err != nil || len(pages) < 5 {
		t.Fatalf("pages %v, %v", pages, err)
	}
	for _, page := range pages {
		for _, args := range [][]string{{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page}, {"mandoc", "-T", "lint", "-W", "warning", page}} {
			var said bytes.Buffer
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Stderr = &said
			if args[0] == "mandoc" {
				cmd.Stdout = &said
			}
			err := cmd.Run()
			for line := range strings.Lines(said.String()) {
				if !strings.Contains(line, "missing date") {
					t.Error(strings.TrimSpace(line))
				}
			}
			if err != nil && said.Len() == 0 {
				t.Errorf("%v: %v", args, err)
			}
		}
	}
}
