package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/rs/zerolog"
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

// Exposed says how others than root could change a hook or hooks folder, which runs
// as root. run-parts doesn't care, so it runs all the same.
func Exposed(path string) (why []string) {
	st, err := os.Stat(path)
	if err != nil {
		return nil
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 {
		why = append(why, fmt.Sprintf("%s runs as root but belongs to user %d: chown root it", path, sys.Uid))
	}
	if st.Mode().Perm()&0o022 != 0 {
		why = append(why, fmt.Sprintf("%s runs as root but others can write to it (mode %04o): chmod go-w it", path, st.Mode().Perm()))
	}
	return why
}

func warnExposed(ctx context.Context, path string) {
	for _, why := range Exposed(path) {
		zerolog.Ctx(ctx).Warn().Msg(why)
	}
}
