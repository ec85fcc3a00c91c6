package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/pattern"
)

// hookName is run-parts' rule of which names are run.
var hookName = pattern.New(`^[A-Za-z0-9_-]+$`)

// List returns the absolute paths of the hooks in a folder, in the order they run,
// by the rules of run-parts(8): names of letters, digits, "_" and "-" only, in
// byte order; executable regular files and links to such. A folder of "", or one
// that doesn't exist or isn't a folder, has none.
func List(dir string) ([]string, error) {
	found, err := list(dir)
	return found.run, err
}

// Skipped returns what lies in a hooks folder and looks as if it was meant to run,
// but isn't, as "NAME: why".
func Skipped(dir string) ([]string, error) {
	found, err := list(dir)
	return found.skipped, err
}

// found is what a hooks folder holds.
type found struct {
	run     []string // absolute paths
	skipped []string // "NAME: why", of what looks as if it was meant to run
}

func list(dir string) (found, error) {
	if dir == "" {
		return found{}, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return found{}, fmt.Errorf("read hooks folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return found{}, nil
	}
	if err != nil {
		return found{}, fmt.Errorf("read hooks folder: %w", err)
	}
	var f found
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		ok, why := runs(path, e.Name())
		if ok {
			f.run = append(f.run, path)
		} else if why != "" {
			f.skipped = append(f.skipped, e.Name()+": "+why)
		}
	}
	slices.Sort(f.run)
	return f, nil
}

// runs tells whether a name in the folder is a hook to run, and if not, why, where
// an admin might wonder.
func runs(path, name string) (ok bool, why string) {
	st, err := os.Stat(path)
	switch {
	case err != nil && hookName().MatchString(name):
		return false, "a link to nothing: " + err.Error()
	case err != nil || st.IsDir():
		return false, ""
	}
	executable := unix.Access(path, unix.X_OK) == nil
	switch {
	case !hookName().MatchString(name) && executable && st.Mode().IsRegular():
		return false, "only names of A-Z a-z 0-9 _ - are run, as by run-parts: rename it"
	case !hookName().MatchString(name) || !executable && st.Mode().IsRegular():
		return false, ""
	case !st.Mode().IsRegular():
		return false, "not a regular file"
	}
	return true, ""
}
