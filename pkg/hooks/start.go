package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"instance-debootstrap/pkg/trust"
)

// explain says why a hook could not be started: the kernel's own answers name the
// hook even when it is the interpreter that is wrong.
func explain(hook string, err error) error {
	var cause error = err
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		cause = pathErr.Err
	}
	interpreter := shebang(hook)
	switch {
	case errors.Is(err, syscall.ENOEXEC) && interpreter == "":
		return fmt.Errorf("not started: %w: its first line must be #!/bin/sh or the like", cause)
	case errors.Is(err, syscall.ENOENT) && interpreter != "":
		return fmt.Errorf("not started: its interpreter %q is missing: %w", interpreter, cause)
	case errors.Is(err, syscall.EACCES) && interpreter != "":
		return fmt.Errorf("not started: its interpreter %q is not executable: %w", interpreter, cause)
	}
	return fmt.Errorf("not started: %w", cause)
}

// shebang returns the interpreter that a script's first line names, or "".
func shebang(hook string) string {
	f, err := os.Open(hook)
	if err != nil {
		return ""
	}
	defer f.Close()
	head, _ := io.ReadAll(io.LimitReader(f, 256))
	line, _, _ := bytes.Cut(head, []byte("\n"))
	rest, ok := bytes.CutPrefix(line, []byte("#!"))
	if words := bytes.Fields(bytes.ReplaceAll(rest, []byte("\r"), []byte(`\r`))); ok && len(words) > 0 {
		return string(words[0])
	}
	return ""
}

// Trusted says whether others than root could change the hooks of a folder, which run
// as root: see package trust. A folder that doesn't exist is nobody's.
func Trusted(dir string, strict bool) (warnings []string, err error) {
	warnings, err = trust.Check(dir, strict)
	if dir == "" || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	run, listErr := List(dir)
	errs := []error{err, listErr}
	for _, hook := range run {
		more, err := trust.CheckIn(filepath.Dir(hook), filepath.Base(hook), strict)
		warnings, errs = append(warnings, more...), append(errs, err)
	}
	return warnings, errors.Join(errs...)
}
