package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatEverybodyCanWriteIsRefusedAndWhatAGroupCanIsWarnedOf(t *testing.T) {
	for name, c := range map[string]struct {
		folder, above os.FileMode
		file          os.FileMode
		refused, warn string
	}{
		"nobody's but ours":         {0o755, 0o755, 0o644, "", ""},
		"a file for everybody":      {0o755, 0o755, 0o666, "hooks/file can be written by everybody", ""},
		"a folder for everybody":    {0o777, 0o755, 0o644, "hooks can be written by everybody", ""},
		"a folder above":            {0o755, 0o777, 0o644, "above can be written by everybody", ""},
		"a sticky folder above":     {0o755, 0o777 | os.ModeSticky, 0o644, "", ""},
		"a file for a group":        {0o755, 0o755, 0o664, "", "hooks/file can be written by its group"},
		"a folder for a group":      {0o775, 0o755, 0o644, "", "hooks can be written by its group"},
		"a folder above of a group": {0o755, 0o775, 0o644, "", "above can be written by its group"},
	} {
		t.Run(name, func(t *testing.T) {
			above := filepath.Join(t.TempDir(), "above")
			dir := filepath.Join(above, "hooks")
			file := filepath.Join(dir, "file")
			must(t, os.MkdirAll(dir, 0o755))
			must(t, os.WriteFile(file, nil, 0o600))
			must(t, os.Chmod(file, c.file))
			must(t, os.Chmod(dir, c.folder))
			must(t, os.Chmod(above, c.above))
			link := filepath.Join(t.TempDir(), "link")
			must(t, os.Symlink("../"+filepath.Join(filepath.Base(filepath.Dir(above)), "above/hooks/file"), link))
			for _, path := range []string{file, link} {
				warnings, err := Check(path, false)
				if got := strings.Join(warnings, "\n"); (c.warn == "") != (got == "") || !strings.Contains(got, c.warn) {
					t.Errorf("%s: warnings %q, want %q", path, got, c.warn)
				}
				if (c.refused == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%s: error %v, want %q", path, err, c.refused)
				}
				want := c.refused + c.warn
				if _, err := Check(path, true); (want == "") != (err == nil) || err != nil && !(strings.Contains(err.Error(), want) && IsRefused(err)) {
					t.Errorf("%s, strict: error %v, want %q", path, err, want)
				}
			}
		})
	}
}

func TestAStickyFolderIsRefusedForItselfSinceEverybodyCanPutFilesThere(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777|os.ModeSticky))
	if _, err := Check(dir, false); !IsRefused(err) {
		t.Errorf("error %v", err)
	}
}

func TestWhatIsNotThereIsNotThere(t *testing.T) {
	for _, path := range []string{"none", "none/below"} {
		if _, err := Check(filepath.Join(t.TempDir(), path), true); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v", path, err)
		}
	}
	dir := t.TempDir()
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	if _, err := CheckIn(dir, "loop", true); err == nil {
		t.Error("a link to itself: no error")
	}
}

// Somebody who means none by it isn't told to take it from the node's users.
func TestADeviceIsRefusedAsThatAndNotForItsMode(t *testing.T) {
	_, err := Check("/dev/null", false)
	if err == nil || strings.Contains(err.Error(), "chmod") || !strings.Contains(err.Error(), "/dev/null is a device") {
		t.Errorf("%v", err)
	}
}
