package settings

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"instance-debootstrap/pkg/trust"
)

// maxFile bounds a settings file, in bytes.
const maxFile = 1 << 20

// readTrusted reads a file that is about to be executed as root: it and the folders
// above it must be root's (or the caller's) alone to write.
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
	if _, err := trust.Check(path, true); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return text, err
}
