//go:build root

package boot

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
)

// must runs a tool that must succeed and returns what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// disk is a disk file with a table and an empty filesystem.
type disk struct {
	path   string
	layout partition.Layout
	root   partition.Partition
	fstype filesystem.Type
	uuid   string
}

// newDisk partitions a disk of 600 MiB and makes its root filesystem. gpt gets a
// BIOS-boot partition, from sgdisk, where cloud images have it.
func newDisk(t *testing.T, style partition.Style, fstype filesystem.Type) *disk {
	t.Helper()
	const sizeBytes = 600 << 20
	d := &disk{path: filepath.Join(t.TempDir(), "disk"), fstype: fstype}
	write(t, d.path, "")
	if err := os.Truncate(d.path, sizeBytes); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if style == partition.StyleGPT {
		must(t, "sgdisk", "--new=14:2048:10239", "--typecode=14:ef02", "--new=1:10240:0", d.path)
	} else {
		l, err := partition.Plan(style, sizeBytes, 2048, rand.Reader)
		if err == nil {
			err = l.Write(f)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if d.layout, err = partition.Read(f, sizeBytes); err != nil {
		t.Fatal(err)
	}
	d.root, _ = d.layout.RootPartition()
	d.attached(t, func(_, rootDevice string) {
		if d.uuid, err = filesystem.Make(t.Context(), filesystem.Spec{Type: fstype, Device: rootDevice, Suite: "bookworm"}); err != nil {
			t.Fatal(err)
		}
	})
	return d
}

// attached calls f with a loop device over the disk, and the node of its root.
func (d *disk) attached(t *testing.T, f func(whole, rootDevice string)) {
	t.Helper()
	back, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	l, err := blockdev.Attach(t.Context(), back, d.root.Number > 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Detach(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	node := l.Path
	if d.root.Number > 0 {
		if node, err = l.AddPartition(d.root.Number, d.root.StartSector, d.root.Sectors); err != nil {
			t.Fatal(err)
		}
	}
	f(l.Path, node)
}

// mounted calls f with the target that a mounted root makes.
func (d *disk) mounted(t *testing.T, f func(target Target)) {
	t.Helper()
	d.attached(t, func(whole, rootDevice string) {
		dir := t.TempDir()
		if err := filesystem.Mount(t.Context(), rootDevice, dir, d.fstype); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := filesystem.Unmount(dir); err != nil {
				t.Error(err)
			}
		}()
		root, err := guest.OpenRoot(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		f(Target{
			Disk: whole, RootDevice: rootDevice, Dir: dir, Root: root, Style: d.layout.Style, RootNumber: d.root.Number,
			FSType: d.fstype, RootUUID: d.uuid, WorkDir: t.TempDir(),
		})
	})
}

// boots starts the disk in QEMU, with a BIOS and no KVM, and returns what its
// serial port said until the guest asked for a reboot.
func (d *disk) boots(t *testing.T, limit time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var serial bytes.Buffer
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nographic", "-no-reboot",
		"-nic", "none", "-drive", "format=raw,if=virtio,snapshot=on,file="+d.path)
	cmd.Stdout, cmd.Stderr = &serial, &serial
	if err := cmd.Run(); err != nil {
		t.Fatalf("it does not boot to its end: %v\n%s", err, serial.String())
	}
	return serial.String()
}

// check has tools that wrote nothing here look at the table and the filesystem.
func (d *disk) check(t *testing.T) {
	t.Helper()
	if d.root.Number > 0 {
		must(t, "sfdisk", "--verify", d.path)
	}
	if d.layout.Style == partition.StyleGPT {
		if out := must(t, "sgdisk", "--verify", d.path); !strings.Contains(out, "No problems found") {
			t.Error(out)
		}
	}
	fsck := map[filesystem.Type][]string{
		filesystem.XFS: {"xfs_repair", "-n"}, filesystem.Btrfs: {"btrfs", "check", "--readonly"},
	}[d.fstype]
	if fsck == nil {
		fsck = []string{"e2fsck", "-fn"}
	}
	d.attached(t, func(_, rootDevice string) { must(t, append(fsck, rootDevice)...) })
}

// identity is what the node's tools see on the whole disk.
func (d *disk) identity(t *testing.T) string {
	t.Helper()
	seen := must(t, "blkid", "--probe", "--output", "export", d.path) + must(t, "wipefs", "--no-act", d.path)
	if d.root.Number > 0 {
		seen += must(t, "sfdisk", "--dump", d.path)
	}
	return seen
}

// nodesGRUB puts the GRUB of this node's package into a tree, as the guest's.
func nodesGRUB(t *testing.T, dir string) {
	t.Helper()
	must(t, "mkdir", "-p", dir+"/usr/lib/grub", dir+"/boot/grub")
	must(t, "cp", "-r", "/usr/lib/grub/i386-pc", dir+"/usr/lib/grub/i386-pc")
}

// leftovers lists what is in a folder.
func leftovers(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(entries)
}
