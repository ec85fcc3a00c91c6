// Package debootstrap is the OS definition: one file a verb, each a recipe
// that reads from top to bottom like the admin guide.
package debootstrap

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/hooks"
	"instance-debootstrap/pkg/network"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

// Job is one run of a verb: what was asked for, and what the steps so far
// have found and made.
type Job struct {
	Request  *osapi.Request
	Settings *settings.Settings
	// DiskName is what messages call the disk; "" is the request's path.
	DiskName string
	// Image is set by install when it made the disk file itself.
	Image *NewImage
	// KeepData refuses a disk that isn't blank. Ganeti's disks are its own to
	// overwrite; a disk named by hand may be a mistake.
	KeepData bool
	// BootPath is a disk for a /boot of its own, which BIOS starts from; "" keeps
	// /boot on the root's.
	BootPath string
	// Fresh says that this run has made the disks: what they seem to hold is left
	// over from volumes that were there before.
	Fresh bool
	// NICs are the guest's, where Ganeti's words for them don't say enough; nil are the
	// request's.
	NICs []network.NIC
	// ResolvConf is the guest's resolv.conf; nil is the node's.
	ResolvConf []byte

	session *session.Session
	mark    int // the undo stack's height before this job
	disk    *blockdev.Disk
	blank   bool // the disk is a new file, so that there is nothing to erase on it
	swaps   []*blockdev.Disk
	data    []*dataDisk
	told    map[string]bool // the warnings of the cache that were given
	tree    *cache.Entry    // nil: bootstrap straight onto the disk
	image   *rootImage      // nil: make the filesystem and unpack the tree
	tool    bootstrap.Tool
	arch    string

	moreSources map[string]string // EXTRA_SOURCES and its keys and pins, by their paths in the guest
	keys        string            // who may log in as root by ssh, as authorized_keys has it
	hostKeys    []guest.HostKey   // of the guest's ssh server, in the end

	receipt []byte // a Receipt as JSON

	boot     bootJob
	bootDisk bootDisk
	table    partition.Layout // what the disk is partitioned as, also by a hook
	loop     *blockdev.Loop   // BLOCKDEV, over the whole disk
	fsysDev  string           // FSYSDEV, where the root filesystem is
	rootUUID string
	swapUUID []string
	target   string // TARGET, where it is mounted
	resolv   guest.ResolvConf

	netBefore  guest.NetworkFiles // before the hooks; nil where there is none
	menuBefore string             // the fingerprint of boot.LegacyMenu then
}

// fstype is the root filesystem's type.
func (j *Job) fstype() filesystem.Type { return filesystem.Type(j.Settings.Filesystem) }

func (j *Job) style() partition.Style { return partition.Style(j.Settings.PartitionStyle) }

// swapPaths lists the disks that become swap: the one that API 5's -s or the
// setting swapdev names, and every disk but the first whose Ganeti name is
// "swap"; one disk by two names is one.
func (j *Job) swapPaths() []string {
	var paths, keys []string
	add := func(path string) {
		key, err := blockdev.Key(path)
		if err != nil {
			key = path // which fails when it is claimed
		}
		if path != "" && !slices.Contains(keys, key) {
			paths, keys = append(paths, path), append(keys, key)
		}
	}
	add(cmp.Or(j.Request.SwapDev, j.Settings.SwapDev))
	for _, d := range j.Request.Disks {
		if d.Index > 0 && d.Name == "swap" {
			add(d.Path)
		}
	}
	return paths
}

// claimDisks opens the root disk, the swap and the data disks, exclusively, and refuses
// what can't be used, before anything is written.
func (j *Job) claimDisks(ctx context.Context) error {
	j.warnOfFiles(ctx)
	err := j.checkNetwork()
	if err != nil {
		return err
	}
	_, err = hooks.Trusted(j.Settings.CustomizeDir, j.strictFiles())
	if err != nil {
		err = fmt.Errorf("no hook is run: %w", err)
	}
	if err = errors.Join(err, j.store().CheckFolder(), j.checkSettings()); err != nil {
		return err
	}
	if j.disk, err = j.claim(j.Request.BlockDev); err != nil {
		return err
	}
	j.disk.Path = j.diskName()
	if _, err := j.layout(); err != nil {
		return fmt.Errorf("disk %s: %w", j.disk.Path, err)
	}
	if j.KeepData {
		if err := j.checkBlank(ctx); err != nil {
			return err
		}
	}
	for _, path := range j.swapPaths() {
		if err := j.claimSwap(ctx, path); err != nil {
			return err
		}
	}
	if err := j.claimBoot(); err != nil {
		return err
	}
	return j.claimData(ctx)
}

// claimSwap opens a disk that is to become swap, and refuses one with data.
func (j *Job) claimSwap(ctx context.Context, path string) error {
	if key, err := blockdev.Key(path); err == nil {
		if root, _ := blockdev.Key(j.Request.BlockDev); key == root {
			return fmt.Errorf("swap disk %s is the root disk: check swapdev in the settings", path)
		}
	}
	if j.isReadOnly(path) {
		return fmt.Errorf("swap disk %s is read-only (DISK_n_ACCESS=ro): no guest can swap on it; make it writable (gnt-instance modify --disk N:modify,mode=rw), or give it another name", path)
	}
	d, err := j.claim(path)
	if err != nil {
		return err
	}
	if j.Fresh {
		j.swaps = append(j.swaps, d)
		return nil
	}
	free, what, err := filesystem.IsBlankOrSwap(ctx, d.Node())
	if err != nil {
		return fmt.Errorf("swap disk %s: %w", path, err)
	}
	if !free {
		return fmt.Errorf("swap disk %s holds %s, and only a blank disk or old swap is overwritten; if it may go, run mkswap on it once", path, what)
	}
	j.swaps = append(j.swaps, d)
	return nil
}

// checkBlank refuses a disk that holds anything. A file without any data, such as the
// image that install makes and that has no name yet, holds nothing.
func (j *Job) checkBlank(ctx context.Context) error {
	if j.disk.IsEmpty() {
		return nil
	}
	free, what, err := filesystem.IsBlankOrSwap(ctx, j.disk.Node())
	if err != nil {
		return err
	}
	if !free || what != "blank" {
		return fmt.Errorf("disk %s holds %s; --force overwrites it", j.disk.Path, what)
	}
	return nil
}

// isReadOnly tells whether a path is of a disk that the guest can't write to.
func (j *Job) isReadOnly(path string) bool {
	key, err := blockdev.Key(path)
	return slices.ContainsFunc(j.Request.Disks, func(d osapi.Disk) bool {
		other, kerr := blockdev.Key(d.Path)
		return d.ReadOnly() && (d.Path == path || err == nil && kerr == nil && key == other)
	})
}

// claim opens one disk for writing until the end of the run.
func (j *Job) claim(path string) (*blockdev.Disk, error) { return j.claimBy(blockdev.Open, path) }

func (j *Job) claimBy(open func(path, lockDir string, hostProc *os.Root) (*blockdev.Disk, error), path string) (*blockdev.Disk, error) {
	d, err := open(path, paths.LockDir, j.session.HostProc)
	if err == nil {
		j.session.Defer("release "+path, func(context.Context) error { return errors.Join(d.Sync(), d.Close()) })
	}
	return d, err
}

func (j *Job) layout() (partition.Layout, error) {
	return partition.PlanBoot(j.style(), j.disk.SizeBytes, j.Settings.PartitionAlignment, j.bootPartitions(), rand.Reader)
}

// partitionDisk removes every old signature and writes the partition table. The
// disk stays locked until it is mapped.
func (j *Job) partitionDisk(ctx context.Context) error {
	var err error
	if j.table, err = j.layout(); err != nil {
		return err
	}
	j.disk.Lock(true)
	if j.blank = j.disk.IsEmpty(); !j.blank {
		if err := filesystem.Wipe(ctx, j.disk.Node()); err != nil {
			return err
		}
	}
	return j.table.Write(j.disk.File())
}

// mapDisk makes the disk reachable: BLOCKDEV is a loop device over all of it,
// FSYSDEV the root partition's node, or BLOCKDEV itself when there are no
// partitions.
func (j *Job) mapDisk(ctx context.Context) (err error) {
	defer j.disk.Lock(false)
	partitioned := j.style() != partition.StyleNone
	if j.loop, err = j.attach(ctx, j.disk.File(), partitioned); err != nil {
		return err
	}
	j.fsysDev = j.loop.Path
	if !partitioned {
		return nil
	}
	start, sectors := j.table.Root()
	j.fsysDev, err = j.loop.AddPartition(rootPartition, start, sectors)
	return err
}

// attach puts a loop device over an open disk until the end of the run.
func (j *Job) attach(ctx context.Context, f *os.File, partitions bool) (*blockdev.Loop, error) {
	l, err := blockdev.Attach(ctx, f, partitions)
	if err == nil {
		j.session.Defer("detach "+l.Path, func(ctx context.Context) error { return errors.Join(l.Sync(), l.Detach(ctx)) })
	}
	return l, err
}

// makeRoot makes the root filesystem, of the image that was copied where there is
// one, and mounts it on TARGET.
func (j *Job) makeRoot(ctx context.Context) error {
	err := j.mapDisk(ctx)
	switch {
	case err != nil:
	case j.image != nil:
		j.rootUUID, err = j.image.spec.Settle(ctx, j.fsysDev, j.image.Journal)
	default:
		if !j.blank {
			err = filesystem.Wipe(ctx, j.fsysDev)
		}
		if err == nil {
			j.rootUUID, err = filesystem.Make(ctx, filesystem.Spec{Type: j.fstype(), Device: j.fsysDev, Suite: j.Settings.Suite})
		}
	}
	if err != nil {
		return err
	}
	j.loop.Unlock()
	if err := j.session.HideDevDisk(j.devLinks()); err != nil {
		return err
	}
	j.session.Defer("sync "+j.fsysDev, func(context.Context) error { return syncDevice(j.fsysDev) })
	j.target, err = j.mount(ctx, "target", func(dir string) error {
		return filesystem.Mount(ctx, j.fsysDev, dir, j.fstype())
	})
	return err
}

// mount mounts a filesystem on a folder of the session until the end of the
// run. What a hook or a package script left running or mounted there is ended
// first.
func (j *Job) mount(ctx context.Context, name string, mount func(dir string) error) (string, error) {
	dir := filepath.Join(j.session.WorkDir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	j.session.Defer("remove "+dir, func(context.Context) error { return os.Remove(dir) })
	if err := mount(dir); err != nil {
		return "", err
	}
	// Opened before the first write: syncfs(2) then tells of every write-back that
	// failed, which umount(2) does in silence. The scratch is dropped unsynced.
	var top *os.File
	if name != scratchName {
		var err error
		if top, err = os.Open(dir); err != nil {
			return "", errors.Join(err, filesystem.Unmount(dir))
		}
	}
	j.session.Defer("unmount "+dir, func(ctx context.Context) error {
		if j.loop != nil {
			j.loop.DetachStacked(ctx, dir)
		}
		return errors.Join(j.session.EndStrays(ctx, dir), syncTree(top), bootstrap.UnmountBelow(dir), filesystem.Unmount(dir))
	})
	return dir, nil
}

// makeSwap makes swap of the disks that were found blank, or swap already.
func (j *Job) makeSwap(ctx context.Context) error {
	for _, d := range j.swaps {
		l, err := j.attach(ctx, d.File(), false)
		if err != nil {
			return err
		}
		uuid, err := filesystem.MakeSwap(ctx, l.Path)
		if err != nil {
			return err
		}
		l.Unlock()
		j.swapUUID = append(j.swapUUID, uuid)
	}
	return nil
}

// letGo unmounts, makes everything durable and frees the devices, in the
// reverse order of the claims: Ganeti finds the disk free when we exit.
func (j *Job) letGo(ctx context.Context) error {
	return j.session.UnwindTo(context.WithoutCancel(ctx), j.mark)
}

// syncTree writes out the filesystem that an open folder is on, and closes it;
// nil is none.
func syncTree(top *os.File) error {
	if top == nil {
		return nil
	}
	err := unix.Syncfs(int(top.Fd()))
	if err != nil {
		err = fmt.Errorf("write the guest's data to the disk: %w", err)
	}
	return errors.Join(err, top.Close())
}

func syncDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// describeTree says which tree is installed, for plans and logs.
func (j *Job) describeTree() string {
	s := j.Settings
	text := s.Suite
	if s.Arch != "" {
		text += "/" + s.Arch
	}
	if packages := j.packages(); len(packages) > 0 {
		text += " with " + strings.Join(packages, ", ")
	}
	return text
}

// diskName is what messages call the root disk.
func (j *Job) diskName() string { return cmp.Or(j.DiskName, j.Request.BlockDev) }

// begin binds the job to a session and makes its tools' environment.
func (j *Job) begin(s *session.Session) {
	j.session, j.mark, j.told = s, s.Mark(), map[string]bool{}
	command.SetProxy(j.Settings.Proxy)
}
