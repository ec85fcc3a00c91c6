package blockdev

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// DetachStacked detaches the loop devices that a hook left over this one, over
// its partitions, or over files below dir, the tree that is mounted from it:
// each would keep the disk from coming free. Each is named in the log.
func (l *Loop) DetachStacked(ctx context.Context, dir string) {
	var ours []uint64
	for _, node := range append([]string{l.Path}, l.parts...) {
		var st unix.Stat_t
		if unix.Stat(node, &st) == nil {
			ours = append(ours, st.Rdev)
		}
	}
	for _, attached := range glob("/sys/block/loop*/loop") {
		path, backing := "/dev/"+filepath.Base(filepath.Dir(attached)), value(attached, "backing_file")
		if path != l.Path && isStacked(path, backing, dir, ours) {
			zerolog.Ctx(ctx).Warn().Msgf("%s over %s was left attached by a hook; detaching it", path, backing)
			if err := detach(path); err != nil {
				zerolog.Ctx(ctx).Warn().Err(err).Msg("detach " + path)
			}
		}
	}
}

func isStacked(path, backing, dir string, ours []uint64) bool {
	if dir != "" && strings.HasPrefix(backing, dir+"/") {
		return true
	}
	info := loopStatus(path)
	return info != nil && slices.Contains(ours, info.Rdevice)
}

func detach(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), loopClrFd, 0); err != nil {
		return fmt.Errorf("free the loop device: %w", err)
	}
	return nil
}
