package guest

import (
	"os"
	"testing"
)

func TestWhatIsWrittenBelowAGraftLandsInItsFilesystem(t *testing.T) {
	top, ofVar := t.TempDir(), t.TempDir()
	if err := os.Mkdir(top+"/var", 0o755); err != nil {
		t.Fatal(err)
	}
	err := Edit(t.Context(), top, func(root *Root) error {
		if err := root.Graft("/var", ofVar); err != nil {
			return err
		}
		if err := root.Put("/var/lib/file", "new", 0o644); err != nil {
			return err
		}
		return root.WriteFile("/var/file", []byte("new"), 0o644)
	})
	if err != nil && os.Getuid() == 0 { // others may not give a file to root
		t.Fatal(err)
	}
	if names, _ := os.ReadDir(top + "/var"); len(names) > 0 {
		t.Errorf("the root's own folder has %v", names)
	}
	if _, err := os.Stat(ofVar + "/lib"); err != nil {
		t.Error(err)
	}
}
