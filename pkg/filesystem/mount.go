package filesystem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/mounts"
)

// MountOptions change how MountWith mounts. The zero value is for a fresh root
// that is populated: writable, and with devices, set-user-ID and programs, for
// chroots run in it.
type MountOptions struct {
	ReadOnly bool
	// Untrusted is for a filesystem that a guest has written: no devices, no
	// set-user-ID, no programs.
	Untrusted bool
	// NoReplay, with ReadOnly, leaves a journal or log alone: the filesystem of a
	// guest that runs is seen as it was some moments ago, and may look damaged.
	NoReplay bool
	// Subvolume is a btrfs's, by its path from the top; "" is the default one.
	Subvolume string
}

// noReplay are a type's options for that.
var noReplay = map[Type]string{Ext3: "noload", Ext4: "noload", XFS: "norecovery", Btrfs: "rescue=nologreplay"}

// mountData returns the options of a type for the time of populating.
func mountData(t Type) string {
	switch t {
	case XFS:
		// The node may have another copy of the same filesystem mounted.
		return "nouuid"
	case Btrfs:
		return ""
	case Ext4:
		// The inode tables are the guest's to zero, on its first boot: see extLazy.
		return "errors=remount-ro,noinit_itable"
	}
	return "errors=remount-ro"
}

// data are the options of a type for a mount.
func (o MountOptions) data(t Type) string {
	var list []string
	if text := mountData(t); text != "" {
		list = append(list, text)
	}
	if text := noReplay[t]; o.NoReplay && text != "" {
		list = append(list, text)
	}
	if o.Subvolume != "" {
		list = append(list, "subvol="+o.Subvolume)
	}
	return strings.Join(list, ",")
}

// ErrNeedsReplay is why a filesystem can't be mounted from a read-only device: it
// was not unmounted, and its journal or log has to be replayed first.
var ErrNeedsReplay = errors.New("it was not unmounted cleanly, and its log has to be replayed")

// Mount mounts a fresh root on dir, to be populated.
func Mount(ctx context.Context, device, dir string, t Type) error {
	return MountWith(ctx, device, dir, t, MountOptions{})
}

// MountWith mounts a filesystem on dir, an existing folder. Access times stay as
// they are.
func MountWith(ctx context.Context, device, dir string, t Type, o MountOptions) error {
	flags := uintptr(unix.MS_NOATIME)
	if o.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	if o.Untrusted {
		flags |= unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC
	}
	zerolog.Ctx(ctx).Debug().Str("device", device).Str("dir", dir).Msgf("mount %s", t)
	err := unix.Mount(device, dir, string(t), flags, o.data(t))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EROFS) && o.ReadOnly:
		// ext4, xfs and btrfs say so to a log that they may not replay.
		err = fmt.Errorf("%w: %w", ErrNeedsReplay, err)
	case errors.Is(err, unix.ENODEV):
		err = fmt.Errorf("%w: this node's kernel has no %s (modprobe %s)", err, t, t)
	case errors.Is(err, unix.EINVAL):
		err = fmt.Errorf("%w: not a %s that this node's kernel can read; dmesg says why", err, t)
	}
	return fmt.Errorf("mount %s on %s as %s: %w", device, dir, t, err)
}

// earlyPause is how long WriteEarly waits between two rounds, or as long as the last one took.
const earlyPause = 30 * time.Millisecond

// WriteEarly has what is written below a mount point go to the disk while more is
// being written, instead of all of it at the end, until it is stopped. It tells
// of no error: a later syncfs(2) does.
func WriteEarly(dir string) (stop func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer f.Close()
		for pause := earlyPause; ; {
			select {
			case <-end:
				return
			case <-time.After(pause):
			}
			began := time.Now()
			_ = unix.Syncfs(int(f.Fd()))
			pause = max(earlyPause, time.Since(began)) // a slow disk has others to serve, too
		}
	}()
	return func() { close(end); <-ended }
}

// unmountWait is how long Unmount waits for a busy mount, and again for its
// device to come free.
const unmountWait = 5 * time.Second

// Unmount unmounts dir and returns once its device is free: umount(2) returns
// while the filesystem may live on, in another namespace or for an open file.
// A mount that stays busy for 5 seconds is an error that wraps unix.EBUSY; who
// keeps it so is the caller's to find out. Nothing is ever detached lazily.
func Unmount(dir string) error { return unmount(dir, unmountWait) }

// UnmountBeside is Unmount of a filesystem that was mounted already when it was mounted on dir,
// as with subvolumes: its device isn't free after it.
func UnmountBeside(dir string) error {
	err := retryBusy(unmountWait, func() error { return unix.Unmount(dir, unix.UMOUNT_NOFOLLOW) })
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// Unmounting is how to unmount what was just mounted on dir.
func Unmounting(dir string) func(dir string) error {
	source, err := MountSource(dir)
	if points, listErr := MountsOf(source); err == nil && listErr == nil && len(points) > 1 {
		return UnmountBeside
	}
	return Unmount
}

// UnmountAll unmounts what is mounted on these folders, the last first, and stops at one that
// stays. Several may be of one filesystem, whose device must be free after the last of them.
func UnmountAll(dirs []string) error {
	for i, dir := range slices.Backward(dirs) {
		unmount := Unmount
		if source, err := MountSource(dir); err == nil && slices.ContainsFunc(dirs[:i], func(other string) bool {
			its, err := MountSource(other)
			return err == nil && its == source
		}) {
			unmount = UnmountBeside
		}
		if err := unmount(dir); err != nil {
			return err
		}
	}
	return nil
}

func unmount(dir string, wait time.Duration) error {
	source, err := MountSource(dir)
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	err = retryBusy(wait, func() error { return unix.Unmount(dir, unix.UMOUNT_NOFOLLOW) })
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmount %s: %w for %v: a process is working in it or has a file open", dir, err, wait)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	st, err := os.Stat(source)
	if err != nil || st.Mode()&os.ModeDevice == 0 {
		return nil // tmpfs, proc, a bind mount: nothing to wait for
	}
	defer forget(source)
	err = retryBusy(wait, func() error {
		f, err := os.OpenFile(source, os.O_RDONLY|unix.O_EXCL, 0)
		if err == nil {
			f.Close()
		}
		return err
	})
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmount %s: %s is %w for %v after it: it is mounted elsewhere or claimed", dir, source, unix.EBUSY, wait)
	}
	return nil // the device itself can be gone by now, and that is well
}

// retryBusy repeats f while it says EBUSY, for as long as wait.
func retryBusy(wait time.Duration, f func() error) error {
	deadline := time.Now().Add(wait)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := f()
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// MountSource returns what is mounted on dir, the topmost if there are several.
func MountSource(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	list, err := mounts.List("self")
	for _, m := range slices.Backward(list) {
		if m.Point == abs {
			return m.Source, nil
		}
	}
	return "", cmp.Or(err, errors.New("nothing is mounted there"))
}
