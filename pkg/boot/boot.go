// Package boot puts a boot loader back on the disk of a guest that has one in
// its tree: GRUB for BIOS, by the node's own grub-mkimage and grub-bios-setup.
//
// The core image is made of the guest's own modules, since GRUB loads the others
// from its /boot/grub at boot and the two must be of one version. They are
// copied out through the guest's Root, bounded in number and size, and are data
// to the node's tools: nothing of the guest runs. What is left is that
// grub-mkimage reads ELF files that a guest has written; it runs in the
// session's sandbox, where the node's tree is read-only.
package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/partition"
)

// Target is a disk whose root filesystem is mounted.
type Target struct {
	Disk       string // the device over all of it, with partition nodes
	RootDevice string
	Dir        string // where the root is mounted
	Root       *guest.Root
	Style      partition.Style
	RootNumber int // its partition, 0 is the whole disk
	FSType     filesystem.Type
	RootUUID   string
	WorkDir    string // for temporary files
}

// ErrTools is why GRUB can't be put back on this node.
var ErrTools = errors.New("install the packages grub-common, grub2-common and grub-pc-bin on the node, or run grub-install in the guest from a rescue system")

// Limits of what is taken from a guest.
const (
	maxModules     = 1000
	maxModuleBytes = 4 << 20
)

var moduleName = regexp.MustCompile(`^[a-z0-9_]+\.(mod|lst|img)$`)

// Loader names the boot loader of a disk by its boot record and its partitions;
// "" is none. GRUB's boot.img has its name in its messages.
func Loader(sector0 []byte, l partition.Layout) string {
	loader := ""
	code := sector0[:min(len(sector0), 440)]
	switch {
	case bytes.Contains(code, []byte("GRUB")):
		loader = "grub-bios"
	case len(code) > 0 && l.Style != partition.StyleNone && !bytes.Equal(code, make([]byte, len(code))):
		loader = "unknown"
	}
	for _, p := range l.Partitions {
		if strings.EqualFold(p.Type, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B") {
			if loader == "grub-bios" {
				return "grub-bios+efi"
			}
			return "grub-efi"
		}
	}
	return loader
}

// RestoreBIOS writes GRUB's boot record and core image for the guest's own
// modules and grub.cfg. On a disk without partitions there is no place for the
// core image that survives: that is an error which says what to run.
func RestoreBIOS(ctx context.Context, t Target) error {
	if t.Style == partition.StyleNone {
		return errors.New("its disk has no partition table, and so no room for GRUB's core image: use a kernel from the node, or import with PARTITION_STYLE=msdos")
	}
	for _, tool := range []string{"grub-mkimage", "grub-bios-setup"} {
		if _, err := command.Look(tool); err != nil {
			return fmt.Errorf("%w: %w", err, ErrTools)
		}
	}
	dir, err := os.MkdirTemp(t.WorkDir, "grub-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyModules(t.Root, dir); err != nil {
		return err
	}
	return install(ctx, t, dir)
}

// copyModules copies the guest's GRUB for BIOS out of its tree, and sees to it
// that the modules in /boot/grub are the same, as grub-install does.
func copyModules(root *guest.Root, dir string) error {
	from := guest.HasGRUB(root).Modules
	if from == "" {
		return errors.New("the guest has no GRUB for BIOS (package grub-pc-bin)")
	}
	names, err := root.ReadDir(from)
	if err != nil {
		return err
	}
	copied := 0
	for _, name := range names {
		if !moduleName.MatchString(name) {
			continue
		}
		if copied++; copied > maxModules {
			return fmt.Errorf("the guest's %s has more than %d modules", from, maxModules)
		}
		data, err := root.ReadFile(path.Join(from, name), maxModuleBytes)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
		inBoot := path.Join("/boot/grub/i386-pc", name)
		if old, err := root.ReadFile(inBoot, maxModuleBytes); err == nil && bytes.Equal(old, data) {
			continue
		}
		if err := root.MkdirAll(path.Dir(inBoot), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(inBoot, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fsModules are the modules that read a filesystem.
var fsModules = map[filesystem.Type]string{
	filesystem.Ext2: "ext2", filesystem.Ext3: "ext2", filesystem.Ext4: "ext2", filesystem.XFS: "xfs", filesystem.Btrfs: "btrfs",
}

func install(ctx context.Context, t Target, dir string) error {
	prefix, table := fmt.Sprintf("(,msdos%d)/boot/grub", t.RootNumber), "part_msdos"
	if t.Style == partition.StyleGPT {
		prefix, table = fmt.Sprintf("(,gpt%d)/boot/grub", t.RootNumber), "part_gpt"
	}
	// The search makes the root the right one, on whichever disk BIOS has it.
	early := filepath.Join(dir, "early.cfg")
	text := fmt.Sprintf("search.fs_uuid %s root\nset prefix=($root)/boot/grub\n", t.RootUUID)
	if err := os.WriteFile(early, []byte(text), 0o600); err != nil {
		return err
	}
	err := command.Run(ctx, command.Cmd{Quiet: true, Args: []string{
		"grub-mkimage", "--format=i386-pc", "--directory=" + dir, "--output=" + filepath.Join(dir, "core.img"), "--config=" + early,
		"--prefix=" + prefix, "biosdisk", table, fsModules[t.FSType], "search_fs_uuid",
	}})
	if err != nil {
		return fmt.Errorf("make GRUB's core image: %w", err)
	}
	// The map gives GRUB a name for the disk that is no loop device's.
	deviceMap := filepath.Join(dir, "device.map")
	if err := os.WriteFile(deviceMap, []byte("(hd0) "+t.Disk+"\n"), 0o600); err != nil {
		return err
	}
	err = command.Run(ctx, command.Cmd{Quiet: true, Args: []string{
		"grub-bios-setup", "--directory=" + dir, "--device-map=" + deviceMap, "--skip-fs-probe", "--no-rs-codes", t.Disk,
	}})
	if err != nil {
		return fmt.Errorf("write GRUB's boot record: %w", err)
	}
	return nil
}
