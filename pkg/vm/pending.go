package vm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/tell"
)

// Volumes and domains are libvirtd's, and outlive us. What is made of a guest is
// therefore written down before it is made, in a file of StateDir, which is removed
// when the guest is whole. While it is there the guest is in the making, or a run
// was ended and nobody has swept up yet: its own undo stack does that on a failure
// and on a signal, the process that started it and a guard when it is killed, and
// every later vm command when all of these were. Who sweeps holds the guest's
// lock.

const pendingSuffix = ".making"

// pending is what is written down.
type pending struct {
	Guest   string          `json:"guest"`
	UUID    string          `json:"uuid"` // of the domain
	Pool    string          `json:"pool"`
	Volumes []pendingVolume `json:"volumes"`
}

type pendingVolume struct {
	Pool      string `json:"pool,omitempty"` // "" is the file's
	Name      string `json:"name"`
	SizeBytes int64  `json:"bytes"`
	// Made is false while libvirtd is being asked. The name was free before.
	Made bool `json:"made"`
}

func pendingPath(guest string) string { return filepath.Join(paths.StateDir, guest+pendingSuffix) }

// write makes the file durable.
func (m pending) write() error {
	if err := os.MkdirAll(paths.StateDir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return filesystem.WriteDurably(pendingPath(m.Guest), append(text, '\n'))
}

// forgetUnlessMade is for a volume that libvirtd refused to make, since it is there as
// somebody else's who was faster: it must not be swept.
func (m *pending) forgetUnlessMade() error {
	m.Volumes = slices.DeleteFunc(m.Volumes, func(v pendingVolume) bool { return !v.Made })
	return m.write()
}

// readPending reads the file; a guest that isn't in the making has none.
func readPending(guest string) (m pending, err error) {
	text, err := os.ReadFile(pendingPath(guest))
	if err == nil {
		if err = json.Unmarshal(text, &m); err != nil || m.Guest != guest {
			err = fmt.Errorf("%s is damaged: remove the guest's volumes by hand, then this file: %w", pendingPath(guest), err)
		}
	}
	return m, err
}

const (
	// sweepTime is how long the devices of a killed run are waited for.
	sweepTime = 30 * time.Second
	// goneTime is how long a libvirtd is waited for that doesn't answer: it may just be
	// starting anew.
	goneTime = 3 * time.Second
)

// sweepGuest removes what was made of a guest that didn't become whole, and then the
// file that says so. It tries again for a time, unless that can't help.
func sweepGuest(ctx context.Context, virsh libvirt.Virsh, guest string) error {
	m, err := readPending(guest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	tell.Warn(ctx, "removing what was made of the guest %s", guest)
	begin := time.Now()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if err = m.remove(ctx, virsh); err == nil || errors.Is(err, errNoPool) || time.Since(begin) > sweepTime || time.Since(begin) > goneTime && virsh.Check(ctx) != nil {
			break
		}
		time.Sleep(pause)
	}
	if err != nil {
		return fmt.Errorf("the guest %s is half made: %w; instance-debootstrap vm list tries again to remove it", guest, err)
	}
	return cmp.Or(os.Remove(pendingPath(guest)), filesystem.SyncFolder(paths.StateDir))
}

// errNoPool is why a volume can't be looked for.
var errNoPool = errors.New("is not active in libvirt")

// remove removes domain and volumes, as many as it can. libvirtd may still be about to
// make the one that it was asked for last: that one is looked for twice.
func (m pending) remove(ctx context.Context, virsh libvirt.Virsh) error {
	if err := removeDomain(ctx, virsh, m.UUID); err != nil {
		return err
	}
	var errs []error
	for _, v := range m.Volumes {
		errs = append(errs, v.remove(ctx, virsh, cmp.Or(v.Pool, m.Pool), m.Guest))
	}
	return errors.Join(errs...)
}

func (v pendingVolume) remove(ctx context.Context, virsh libvirt.Virsh, pool, guest string) error {
	if active, err := virsh.HasPool(ctx, pool); err != nil || !active {
		return cmp.Or(err, fmt.Errorf("the pool %s of its volume %s %w: start it (virsh pool-start %s), or remove %s if it is gone for good", pool, v.Name, errNoPool, pool, pendingPath(guest)))
	}
	if err := virsh.Refresh(ctx, pool); err != nil {
		return err
	}
	path, err := virsh.PathOf(ctx, pool, v.Name)
	if err == nil && path == "" && !v.Made {
		time.Sleep(time.Second)
		path, err = virsh.PathOf(ctx, pool, v.Name)
	}
	if err == nil && path != "" && (v.Made || volumeAt(path).SizeBytes >= v.SizeBytes) {
		err = virsh.DeleteVolume(ctx, pool, v.Name)
	}
	return err
}

// removeDomain ends and undefines a domain, if there is one. That goes last: nobody would find
// its files without it.
func removeDomain(ctx context.Context, virsh libvirt.Virsh, uuid string) error {
	domain, err := virsh.Domain(ctx, uuid)
	if err != nil && virsh.IsGone(ctx, uuid) {
		return removeCredentials(ctx, virsh, uuid)
	}
	if err != nil {
		return err
	}
	if state, err := virsh.State(ctx, uuid); err == nil && state != shutOff {
		if err := virsh.Destroy(ctx, uuid); err != nil {
			return err
		}
	}
	if err := cmp.Or(removeCredentials(ctx, virsh, uuid), removeLog(ctx, virsh, domain)); err != nil {
		return err
	}
	return virsh.Undefine(ctx, uuid)
}

// removeLog removes the log of the serial console, which libvirt leaves. It has the
// name that the guest was made with.
func removeLog(ctx context.Context, virsh libvirt.Virsh, d libvirt.Domain) error {
	log := d.Log()
	if d.Metadata == nil || d.Metadata.Guest == nil || log == "" || log != consoleLog(strings.TrimSuffix(filepath.Base(log), logSuffix)) {
		return nil
	}
	others, err := otherDomains(ctx, virsh, d.UUID)
	if err != nil || slices.ContainsFunc(others, func(o libvirt.Domain) bool { return o.Log() == log }) {
		return err
	}
	names, err := filepath.Glob(log + "*") // virtlogd rotates it
	for _, name := range names {
		if rest := strings.TrimPrefix(name, log); strings.Trim(rest, ".0123456789") == "" {
			err = errors.Join(err, os.Remove(name))
		}
	}
	return err
}

// logSuffix is none that libvirt's own logs of domains in the same folder can have.
const logSuffix = ".console"

func consoleLog(guest string) string { return "/var/log/libvirt/qemu/" + guest + logSuffix }

// Sweep removes what killed runs have left, of guests that nobody works on. What it
// can't remove is told, and is no reason not to work on others.
func Sweep(ctx context.Context, virsh libvirt.Virsh) {
	files, _ := filepath.Glob(filepath.Join(paths.StateDir, "*"+pendingSuffix))
	for _, file := range files {
		guest := strings.TrimSuffix(filepath.Base(file), pendingSuffix)
		lock, err := lockGuest(guest, false)
		if errors.Is(err, errBusy) {
			continue
		}
		if err == nil {
			err = errors.Join(sweepGuest(ctx, virsh, guest), lock.Close())
		}
		if err != nil {
			tell.Warn(ctx, "%v", err)
		}
	}
	dirs, _ := filepath.Glob(filepath.Join(paths.MountDir, "*"))
	for _, dir := range dirs {
		if lock, err := lockGuest(filepath.Base(dir), false); err == nil {
			tidyMount(filepath.Base(dir))
			lock.Close()
		}
	}
	sweepLocks()
}
