package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ownModes are those that base-files gives folders which aren't 0755: dpkg leaves one
// that is there as it is.
var ownModes = map[string]fs.FileMode{"root": 0o700, "tmp": 0o777 | fs.ModeSticky, "var/tmp": 0o777 | fs.ModeSticky}

// layFiles writes the files that come before the packages. Folders and files are
// for everybody to read, whatever our umask.
func layFiles(target string, files map[string]string) error {
	root, err := os.OpenRoot(target)
	if err != nil {
		return fmt.Errorf("bootstrap target: %w", err)
	}
	defer root.Close()
	var faults []error
	for name, text := range files {
		name = strings.TrimPrefix(name, "/")
		var made []string
		for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
			if _, err := root.Stat(dir); errors.Is(err, fs.ErrNotExist) {
				made = append(made, dir)
			}
		}
		faults = append(faults, root.MkdirAll(filepath.Dir(name), 0o755))
		for _, dir := range made {
			mode, ok := ownModes[dir]
			if !ok {
				mode = 0o755
			}
			faults = append(faults, root.Chmod(dir, mode))
		}
		faults = append(faults, writeReadable(root, name, []byte(text)))
	}
	return errors.Join(faults...)
}
