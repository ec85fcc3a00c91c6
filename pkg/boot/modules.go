package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

// Limits of what is taken from a guest, some five times of what GRUB 2.12 has,
// and of what is made of it.
const (
	maxModules      = 1500
	maxModuleBytes  = 2 << 20
	maxModulesBytes = 20 << 20
	maxLinkTime     = time.Minute
)

// bootModules is where GRUB loads its modules from.
const bootModules = "/boot/grub/i386-pc"

var moduleName = pattern.New(`^[a-z0-9_]+\.(mod|lst|img)$`)

// copyModules copies the guest's GRUB for BIOS out of its tree into an empty
// folder, for anyone to read.
func copyModules(root *guest.Root, dir string) error {
	from := guest.HasGRUB(root).Modules
	if from == "" {
		return errors.New("the guest has no GRUB 2 for BIOS (/usr/lib/grub/i386-pc of the package grub-pc-bin)")
	}
	names, err := root.ReadDir(from)
	if err != nil {
		return err
	}
	count, bytes := 0, 0
	for _, name := range names {
		if !moduleName().MatchString(name) {
			continue
		}
		data, err := root.ReadFile(path.Join(from, name), maxModuleBytes)
		if err != nil {
			return err
		}
		count, bytes = count+1, bytes+len(data)
		if count > maxModules || bytes > maxModulesBytes {
			return fmt.Errorf("the guest's %s has more than %d files or %d MiB: that is no GRUB", from, maxModules, maxModulesBytes>>20)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}

// fsModules are the modules that read a filesystem.
var fsModules = map[filesystem.Type]string{
	filesystem.Ext2: "ext2", filesystem.Ext3: "ext2", filesystem.Ext4: "ext2", filesystem.XFS: "xfs", filesystem.Btrfs: "btrfs",
}

// makeCore links the core image: what GRUB needs to read /boot/grub.
func makeCore(ctx context.Context, t Target, dir string) ([]byte, error) {
	reader := fsModules[t.FSType]
	if reader == "" {
		return nil, fmt.Errorf("filesystem %q: no module is known that reads it", t.FSType)
	}
	// A prefix without a disk means the one that BIOS started. msdos and gpt are
	// GRUB's names for the tables too.
	prefix := fmt.Sprintf("(,%s%d)%s", t.Style, t.RootNumber, t.onBoot("/boot/grub"))
	args := []string{"grub-mkimage", "--format=i386-pc", "--prefix=" + prefix, "biosdisk", "part_" + string(t.Style), reader}
	out, err := os.Create(filepath.Join(dir, "core.img"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, maxLinkTime, errors.New("it took too long"))
	defer cancel()
	if t.Trusted {
		// (What it prints on stdout can't be synced, but need not be either.)
		if err := command.Run(ctx, command.Cmd{Quiet: true, Chroot: t.Dir, Stdout: out, Args: args}); err != nil {
			return nil, err
		}
		return os.ReadFile(out.Name())
	}
	// The output is a file since grub-mkimage syncs it.
	err = command.Run(ctx, command.Cmd{Quiet: true, In: &cell.Place{Folder: dir, ReadOnly: true}, Stdout: out, Args: append(args, "--directory="+dir)})
	if err != nil {
		return nil, err
	}
	return os.ReadFile(out.Name())
}

// fillBoot gives the guest's /boot/grub the modules that the core image was made
// of, and the two images, whose presence tells Debian's package that GRUB is
// installed.
func (t Target) fillBoot(dir string, core []byte) error {
	root, modules := t.Root, bootModules
	if t.Boot != nil && t.Boot.Root != nil {
		root, modules = t.Boot.Root, strings.TrimPrefix(modules, "/boot")
	}
	if err := root.MkdirAll(modules, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, ".img") && name != "boot.img" && name != "core.img" {
			continue
		}
		data := core
		if name != "core.img" {
			if data, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		inBoot := path.Join(modules, name)
		if old, err := root.ReadFile(inBoot, maxModuleBytes); err == nil && bytes.Equal(old, data) {
			continue
		}
		if err := root.WriteFile(inBoot, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
