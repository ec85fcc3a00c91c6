package userspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

const daemon = "qemu-storage-daemon"

// fusermount is where libfuse looks for the program that mounts for those who may not,
// and hands them the filesystem's descriptor. In the daemon's cell it is this program.
const fusermount = "/usr/bin/fusermount3"

// Helper is the name by which this program is that.
const Helper = "fusermount3"

// fuseFD is the descriptor in the daemon, and in what it starts: the first of a
// command.Cmd's Files.
const fuseFD = 3

// Hand hands the filesystem's descriptor to the daemon, by the socket whose number libfuse
// (lib/mount.c) gives its program in _FUSE_COMMFD.
func Hand(socket string) error {
	fd, err := strconv.Atoi(socket)
	if err != nil {
		return fmt.Errorf("%s: only %s starts this", Helper, daemon)
	}
	return unix.Sendmsg(fd, []byte{0}, unix.UnixRights(fuseFD), nil, 0)
}

// maxRead, in bytes, is what the daemon asks for (QEMU's block/export/fuse.c).
const maxRead = 64 << 20

// mountFUSE mounts a filesystem that is one file over a file, and returns the descriptor
// for who serves it. It is root's alone, by its mode and the run's folder; allow_other
// (mount.fuse3(8)) is for QEMU, which is nobody when it is handed the open file.
func mountFUSE(path string, readOnly bool) (*os.File, error) {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: modprobe fuse", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,default_permissions,allow_other,max_read=%d", f.Fd(), unix.S_IFREG|0o600, maxRead)
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("instance-debootstrap", path, "fuse", flags, options); err != nil {
		f.Close()
		return nil, fmt.Errorf("mount FUSE on %s: %w", path, err)
	}
	return f, nil
}

// modules are QEMU's drivers that are packages of their own.
const modules = "/usr/lib/*/qemu/block-"

// extra are those of them that are used here, each with what is done where it isn't there.
var extra = map[string]string{
	"rbd":     "install the package qemu-block-extra",
	"gluster": "install the package qemu-block-extra, which has it in Debian 13 and before, or set the disk's access parameter to kernelspace",
}

// Missing says what the node lacks for disks of this kind.
func (d Source) Missing(ctx context.Context) error {
	errs := []error{Missing(ctx)}
	driver, _ := d.protocol["driver"].(string)
	if remedy := extra[driver]; remedy != "" {
		if found, _ := filepath.Glob(modules + driver + ".so"); len(found) == 0 {
			errs = append(errs, fmt.Errorf("QEMU's driver for %s is not on this node: %s", driver, remedy))
		}
	}
	return errors.Join(errs...)
}

// Missing says what the node lacks for any disk that the kernel doesn't see.
func Missing(ctx context.Context) error {
	var errs []error
	_, err := command.Look(daemon)
	if err != nil {
		errs = append(errs, fmt.Errorf("%w: install the package qemu-system-common (until Debian 12) or qemu-utils", err))
	} else if err := canServe(ctx); err != nil {
		errs = append(errs, err)
	}
	if _, err := os.Stat("/dev/fuse"); errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, errors.New("the kernel has no FUSE (/dev/fuse): modprobe fuse"))
	}
	return errors.Join(errs...)
}

// canServe says why the daemon can't serve a disk over FUSE.
func canServe(ctx context.Context) error {
	help, err := command.OutputIn(ctx, cell.Place{}, daemon, "--help")
	if err != nil {
		return err
	}
	version, err := command.OutputIn(ctx, cell.Place{}, daemon, "--version")
	if err == nil && (!strings.Contains(help, "type=]fuse") || !isKnown(version)) {
		err = fmt.Errorf("%s can't serve a disk over FUSE as it must: install QEMU 7.2 or later", daemon)
	}
	return err
}

var versionRE = pattern.New(`version ([0-9]+)\.([0-9]+)`)

// isKnown tells by what the daemon says of its version whether it is one that we know. Those of
// QEMU 6 take a hole for a mere discard, which storage may ignore: what a file disk reads as
// zero after that (fallocate(2)) would be what was there before.
func isKnown(said string) bool {
	m := versionRE().FindStringSubmatch(said)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major > 7 || major == 7 && minor >= 2
}

// Drivers says for which kinds of storage this node has QEMU's drivers.
func Drivers() string {
	list := []string{"nbd", "qcow2"}
	for _, driver := range slices.Sorted(maps.Keys(extra)) {
		if found, _ := filepath.Glob(modules + driver + ".so"); len(found) > 0 {
			list = append(list, driver)
		}
	}
	return strings.Join(list, ", ")
}
