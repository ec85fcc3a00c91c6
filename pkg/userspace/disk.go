// Package userspace reaches disks that the kernel doesn't see: those that Ganeti names by
// a URI only, and qcow2 images. qemu-storage-daemon opens such a disk and serves it as a
// file (FUSE) in the run's folder for temporary files; all else sees a file disk.
//
// The daemon is started in a cell without a right to mount: the filesystem is mounted
// here, and its descriptor is handed to the daemon by this program, which is its
// fusermount3(1). It ends with this process, whatever ends that.
package userspace

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

// endTime is how long the daemon may take to write out what it holds of a disk that was
// synced before.
const endTime = time.Minute

// IsServed tells whether the daemon is needed for a disk.
func (d Source) IsServed() bool { return d.Path == "" || d.Format != Raw }

// Open returns the path of a disk until the undo stack ends it: its own, or that of a
// file which the daemon serves. readOnly is for who only looks at the disk: not a byte of
// it can be changed then.
func (d Source) Open(ctx context.Context, s *session.Session, readOnly bool) (path string, err error) {
	path, _, err = d.open(ctx, s, readOnly)
	return path, err
}

// OpenForReading is Open for who reads the disk, and writes to it only what its journal needs:
// where the storage refuses to write, the file can't be written to either.
func (d Source) OpenForReading(ctx context.Context, s *session.Session) (path string, err error) {
	d.orReadOnly = true
	return d.Open(ctx, s, false)
}

// Serve is Open for who waits while others use the disk: ended is closed when its daemon
// has ended, after which nothing of it can be read or written. It is nil without a daemon.
func (d Source) Serve(ctx context.Context, s *session.Session, readOnly bool) (path string, ended <-chan struct{}, err error) {
	d.kept = true
	return d.open(ctx, s, readOnly)
}

func (d Source) open(ctx context.Context, s *session.Session, readOnly bool) (path string, ended <-chan struct{}, err error) {
	if !d.IsServed() {
		return d.Path, nil, nil
	}
	if err := d.Missing(ctx); err != nil {
		return "", nil, fmt.Errorf("disk %s: %w", d.Name, err)
	}
	reached, err := d.claim(s, readOnly)
	if err != nil {
		return "", nil, err
	}
	path, ended, err = d.serve(ctx, s, reached, readOnly)
	if err != nil && d.orReadOnly && ctx.Err() == nil && !errors.Is(err, errNoAnswer) {
		var fails error
		if path, ended, fails = d.serve(ctx, s, reached, true); fails == nil {
			zerolog.Ctx(ctx).Info().Msgf("disk %s can only be read: %v", d.Name, err)
			err = nil
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("disk %s: %w", d.Name, err)
	}
	if s.Named != nil {
		s.Named(path, d.Name)
	}
	zerolog.Ctx(ctx).Info().Msgf("%s is reached by %s", d.Name, daemon)
	return path, ended, nil
}

// Glance has a disk looked at by its path, whoever else works on it: it is neither locked nor
// kept from anybody. A server that takes no further client, or hangs, isn't waited for.
func (d Source) Glance(ctx context.Context, s *session.Session, look func(path string)) error {
	mark := s.Mark()
	d.shared = true
	bounded, cancel := context.WithTimeoutCause(ctx, glanceTime, fmt.Errorf("disk %s: no answer within %s", d.Name, glanceTime))
	defer cancel()
	path, err := d.Open(bounded, s, true)
	if err == nil {
		look(path)
	}
	if cause := context.Cause(bounded); cause != nil {
		err = cause
	}
	return errors.Join(err, s.UndoTo(ctx, mark))
}

// claim keeps others off the disk, and returns what the daemon may reach.
func (d Source) claim(s *session.Session, readOnly bool) (cell.Place, error) {
	reached := cell.Place{ReadOnly: readOnly}
	if d.Path == "" {
		if !d.shared {
			lock, err := blockdev.LockPlace(d.Name, place(d.protocol), paths.LockDir, readOnly, s.HostProc)
			if err != nil {
				return reached, err
			}
			s.Defer("unlock "+d.Name, func(context.Context) error { return lock.Close() })
		}
		if !readOnly {
			if err := d.InUse(s.HostProc); err != nil {
				return reached, err
			}
		}
		reached.Sockets, reached.Shown = true, d.shown()
		// By its socket gluster only says where the bricks are.
		reached.Network = d.socket == "" || d.protocol["driver"] != "nbd"
		return reached, nil
	}
	open := blockdev.Open
	if readOnly {
		open = blockdev.OpenReadOnly
	}
	disk, err := open(d.Path, paths.LockDir, s.HostProc)
	if err != nil {
		return reached, err
	}
	s.Defer("release "+d.Path, disk.Release)
	if err := checkQcow2(disk.File()); err != nil {
		return reached, fmt.Errorf("disk %s: %w", d.Path, err)
	}
	reached.Disk = disk.Node()
	return reached, nil
}

// shown are the node's files by which a server is found.
func (d Source) shown() map[string]string {
	shown := map[string]string{}
	for _, path := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services", d.config, d.socket} {
		if st, err := os.Stat(path); path != "" && err == nil && (path != d.socket || st.Mode().Type() == os.ModeSocket) {
			shown[path] = path
		}
	}
	return shown
}

// served is the name of the file in the daemon's cell.
const served = "/disk"

// serve starts the daemon, and returns the file in which the disk is, and what is closed when
// the daemon has ended.
func (d Source) serve(ctx context.Context, s *session.Session, place cell.Place, readOnly bool) (string, <-chan struct{}, error) {
	dir, err := os.MkdirTemp(s.WorkDir, paths.ServedPrefix)
	if err != nil {
		return "", nil, err
	}
	path := filepath.Join(dir, fileName(d.Name)) // which messages show
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	s.Defer("remove "+path, func(context.Context) error { return errors.Join(os.Remove(path), os.Remove(dir)) })
	helper, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "", nil, err
	}
	if place.Shown == nil {
		place.Shown = map[string]string{}
	}
	place.Shown[fusermount], place.Files = helper, map[string]string{served: ""}
	fuse, err := mountFUSE(path, d.orReadOnly && readOnly)
	if err != nil {
		return "", nil, err
	}
	args := d.args(place.Disk, readOnly)
	run, err := command.Start(ctx, command.Cmd{Args: args, In: &place, Env: []string{"MALLOC_ARENA_MAX=4"}, Plain: withoutOptions(args), Files: []*os.File{fuse}})
	// While it is open here as well, the kernel would wait for answers of a daemon that is gone.
	fuse.Close()
	if err == nil {
		s.Spare(run.PID)
		if err = d.answers(ctx, run, path); err == nil {
			err = checkSize(path)
		}
		if err != nil {
			run.Kill()
		}
	}
	if err != nil {
		return "", nil, errors.Join(err, unix.Unmount(path, unix.MNT_DETACH))
	}
	stop := func() {}
	if !d.kept {
		stop = d.endOverdue(ctx, run)
	}
	s.Defer("end "+daemon+" of "+d.Name, func(ctx context.Context) error { stop(); return end(ctx, run, path, readOnly) })
	return path, run.Done, nil
}

// Hold marks a folder in which disks are served as used, until the file is closed.
func Hold(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	return f, err
}

// Sweep frees the folders, by a pattern, of runs that were killed, and whose daemons have
// ended with them, as far as nothing is mounted any longer of what they served.
func Sweep(pattern string) {
	dirs, _ := filepath.Glob(pattern)
	for _, dir := range dirs {
		f, err := Hold(dir)
		if err != nil {
			f.Close() // it is used
			continue
		}
		files, _ := filepath.Glob(dir + "/" + paths.ServedPrefix + "*/*")
		for _, path := range files {
			_ = unmountWithin(200*time.Millisecond, path)
			_ = errors.Join(os.Remove(path), os.Remove(filepath.Dir(path)))
		}
		_ = errors.Join(os.Remove(dir), f.Close())
	}
}

// maxBytes bounds the size that an image or a server may claim: what reads a disk is given
// memory and time by its size.
const maxBytes = 64 << 40

func checkSize(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Size > maxBytes {
		return fmt.Errorf("it claims to have %d TiB, and at most %d TiB are accepted", st.Size>>40, int64(maxBytes)>>40)
	}
	return nil
}

// withoutOptions is what the daemon says of its options, which it repeats before, without them.
func withoutOptions(args []string) func(line string) string {
	return func(line string) string {
		for at := 1; at+1 < len(args); at += 2 {
			line = strings.TrimPrefix(line, daemon+": "+strings.Join(args[at:at+2], " ")+": ")
		}
		return line
	}
}

// fileName makes a file's name of a disk's.
func fileName(disk string) string {
	name := strings.NewReplacer("/", "_", "\\", "_", " ", "_").Replace(disk)
	return name[:min(len(name), 200)]
}

// end writes out the disk, and ends the daemon, before the file is unmounted: a daemon of
// QEMU 7.2 that reads of an unmounted one does its last request again, without end. A disk
// that something still has open, or a daemon that isn't there any longer, or doesn't end in
// order, is an error: what was written may not be on the disk.
func end(ctx context.Context, run *command.Daemon, path string, readOnly bool) error {
	var errs []error
	if !readOnly {
		errs = append(errs, syncBy(ctx, run, path))
	}
	stopped := run.Stop(endTime)
	if err := unmountWithin(2*time.Second, path); err != nil {
		errs = append(errs, fmt.Errorf("unmount %s: %w", path, err), unix.Unmount(path, unix.MNT_DETACH))
	}
	if stopped != nil { // why all else failed
		return stopped
	}
	return errors.Join(errs...)
}

// unmountWithin tries it again for a while: the kernel closes what a loop device had open after
// that is gone.
func unmountWithin(limit time.Duration, path string) error {
	end := time.Now().Add(limit)
	for {
		err := unix.Unmount(path, 0)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// syncBy writes out the disk. A storage that doesn't answer would be waited for without end:
// with the daemon all that waits for it ends.
func syncBy(ctx context.Context, run *command.Daemon, path string) error {
	synced := make(chan error, 1)
	go func() { synced <- sync(path) }()
	select {
	case err := <-synced:
		return err
	case <-ctx.Done():
		run.Kill()
		return errors.Join(context.Cause(ctx), <-synced)
	}
}

func sync(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return cmp.Or(f.Sync(), f.Close())
}

// args are the daemon's. What of a disk is known to be zero is said to it, so it need not
// look for zeros itself (detect-zeroes), and passes on what is given up (discard).
func (d Source) args(file string, readOnly bool) []string {
	protocol := map[string]any{"node-name": "storage", "read-only": readOnly, "discard": "unmap"}
	for name, value := range d.protocol {
		protocol[name] = value
	}
	if d.protocol == nil { // which is claimed, and locked as QEMU does, by us
		protocol["driver"], protocol["filename"], protocol["locking"] = "file", file, "off"
		if isDevice(file) {
			protocol["driver"] = "host_device"
		}
	}
	node := map[string]any{"node-name": "disk", "driver": d.Format, "file": protocol, "read-only": readOnly, "discard": "unmap", "detect-zeroes": "off", "force-share": d.shared}
	if d.Format == Qcow2 {
		node["backing"] = nil
	}
	writable := "on"
	if readOnly {
		writable = "off"
	}
	return []string{
		daemon, "--blockdev", asJSON(node),
		"--export", "type=fuse,id=disk,node-name=disk,mountpoint=" + served + ",writable=" + writable + ",allow-other=off",
	}
}

func isDevice(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK
}

// asJSON is a value of strings, numbers, lists and maps, whose keys come in order.
func asJSON(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}
