package settings

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// maxFile bounds a settings file, in bytes.
const maxFile = 1 << 20

// readTrusted reads a file that is about to be executed as root: it and its
// folder must be root's alone to write.
func readTrusted(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", path)
	}
	if err := checkOwner(path, st); err != nil {
		return nil, err
	}
	if err := checkFolders(path); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return text, err
}

// checkFolders refuses a file that others can replace: in its folder, or, when
// it is a symlink, in the folder of what that leads to.
func checkFolders(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(real)} {
		st, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if st.Mode()&os.ModeSticky != 0 {
			continue
		}
		if err := checkOwner(dir, st); err != nil {
			return err
		}
	}
	return nil
}

// checkOwner refuses what others than root (or who runs this) can write.
func checkOwner(path string, st os.FileInfo) error {
	uid := int(st.Sys().(*syscall.Stat_t).Uid)
	if uid != 0 && uid != os.Getuid() {
		return fmt.Errorf("%s belongs to user %d, who could have anything executed as root: chown root %s", path, uid, path)
	}
	if st.Mode()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others than root, who could have anything executed as root: chmod go-w %s", path, path)
	}
	return nil
}
