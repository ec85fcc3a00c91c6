package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/paths"
)

// updateParameters is the command that makes Ganeti's list anew.
const updateParameters = "`instance-debootstrap parameters --update`"

func parametersPath() string { return filepath.Join(paths.OSDir, "parameters.list") }

// InstalledParameters is what Ganeti's parameters.list has to be: the program's OS
// parameters, and those of the site's own list.
func InstalledParameters() (string, error) {
	site, err := SiteParameters(paths.ParametersList())
	if err != nil {
		return "", err
	}
	return ParametersList(site), nil
}

// UpdateParameters writes the OS definition's parameters.list, whole or not at all,
// and says whether it had to. With a fault in the site's list the old one stays.
func UpdateParameters() (path string, changed bool, err error) {
	path = parametersPath()
	text, err := InstalledParameters()
	if err != nil {
		return path, false, err
	}
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return path, false, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".parameters.list-")
	if errors.Is(err, fs.ErrNotExist) {
		return path, false, fmt.Errorf("%w: there is no OS definition, which `make install` or the package makes", err)
	}
	if err != nil {
		return path, false, err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil { // Ganeti's masterd is not always root
		return path, false, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return path, false, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return path, true, err
	}
	return path, true, errors.Join(dir.Sync(), dir.Close())
}

// ErrStaleParameters says that Ganeti's list is not made of the lists that are there
// now. One that doesn't exist is not stale: Ganeti calls nothing then.
var ErrStaleParameters = errors.New("not what this version and the site's list come to")

// CheckParameters compares the OS definition's parameters.list with what it has to
// be, and returns how many parameters that has.
func CheckParameters() (n int, err error) {
	want, err := InstalledParameters()
	if err != nil {
		return 0, err
	}
	got, err := os.ReadFile(parametersPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err == nil && string(got) != want:
		err = fmt.Errorf("%s is %w (%s): on each node, %s", parametersPath(), ErrStaleParameters, paths.ParametersList(), updateParameters)
	}
	return strings.Count(want, "\n"), err
}
