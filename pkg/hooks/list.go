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
	run, _, err := Look(dir)
	return run, err
}

// Look returns what List does, and beside it what looks as if it was meant to run
// but isn't, as "NAME: why".
func Look(dir string) (run, skipped []string, err error) {
	if dir == "" {
		return nil, nil, nil
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read hooks folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read hooks folder: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		ok, why := runs(path, e.Name())
		if ok {
			run = append(run, path)
		} else if why != "" {
			skipped = append(skipped, e.Name()+": "+why)
		}
	}
	slices.Sort(run)
	return run, skipped, nil
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
	case !hookName().MatchString(name):
		return false, ""
	case !executable && st.Mode().IsRegular():
		if shebang(path) == "" { // a README, say
			return false, ""
		}
		return false, "not executable: chmod +x it"
	case !st.Mode().IsRegular():
		return false, "not a regular file"
	}
	return true, ""
}
