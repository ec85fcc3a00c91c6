package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// rows are all comparisons, in the order of the table.
func (b *bench) rows() []row {
	return []row{
		{"used", "warm create, on a used disk", "≤ 0.30", b.warmUsed},
		{"fresh", "warm create, on a fresh sparse file", "≤ 0.38", b.warmFresh},
		{"boot", "warm create of a guest that boots; the shell's with a GRUB hook that gets grub-pc from the archive", "≤ 0.15", b.bootFromArchive},
		{"boot-cached", "the same; the shell's hook has all packages in the cache and runs update-grub", "", b.bootFromCache},
		{"xfs", "warm create, disk and cache on one xfs (reflink)", "≤ 0.15", b.reflink},
		{"btrfs", "warm create, disk and cache on one btrfs (reflink)", "≤ 0.15", b.reflink},
		{"cold", "cold create, the tree kept in the cache too", "≤ 0.18", b.cold},
		{"cold-boot", "cold create of a guest that boots; the shell's with the same kernel and the GRUB hook", "≤ 0.30", b.coldBoot},
		{"slow", "cold create, from a mirror at 50 Mbit/s", "", b.coldSlowly},
		{"packages", "cold create, its packages kept", "≤ 0.16", b.coldWithPackages},
		{"variant", "cold create with less, lsof and tcpdump, by a tree that is cached without them", "≤ 0.08", b.variant},
		{"renewal", "create by a tree past its age, nothing newer in the archive", "≤ 0.08", b.renewal},
		{"export", "export to a pipe", "≤ 0.4", b.export},
		{"import", "import from a pipe, on a fresh sparse file", "≤ 0.4", b.imports},
		{"eight", "8 warm creates at once, on fresh sparse files", "≤ 0.35", b.eight},
		{"verify", "verify", "", b.verify},
		{"rename", "rename", "", b.rename},
		{"start", "start-up: `version`", "", b.startUp},
		{"trees", "size of the tree", "", b.trees},
		{"disks", "size of the disk", "", b.diskSizes},
		{"concurrency", "creates at once", "", b.concurrency},
		{"steps", "where the time goes", "", b.stepTimes},
	}
}

// plain is a guest without a kernel, as the shell provider makes it.
var plain = []string{"BOOTLOADER=none"}

func (b *bench) warmUsed(r row) error {
	return b.warm(r, false)
}

func (b *bench) warmFresh(r row) error {
	return b.warm(r, true)
}

func (b *bench) warm(r row, fresh bool) error {
	tar, err := b.tree(plain...)
	if err != nil {
		return err
	}
	shell, ours, limit := b.disk("shell"), b.disk("ours"), b.disk("limit")
	if !fresh {
		for _, disk := range []string{shell, ours, limit} {
			if err := b.usedDisk(disk); err != nil {
				return err
			}
		}
	}
	if err := b.compete(r, b.runs,
		b.shellCreates(creation{disks: []string{shell}, tar: tar, fresh: fresh}),
		b.weCreate(creation{disks: []string{ours}, settings: plain, fresh: fresh}),
		b.limit(tar, fresh, limit)); err != nil {
		return err
	}
	return b.compareGuests(shell, ours)
}

func (b *bench) compareGuests(disks ...string) error {
	n, err := b.sameGuests(disks...)
	if err == nil {
		fmt.Printf("  both are sound and have the same %d packages\n", n)
	}
	return err
}

// grubHook is what admins of the shell provider wrote: packages in the chroot,
// then GRUB's configuration and its boot sector, for which a disk without
// partitions has no place. There GRUB takes the loop device's file for the root's
// device, so the hook makes that a device.
const grubHook = `#!/bin/bash
set -e
export LANG=C DEBIAN_FRONTEND=noninteractive
if [ "$PROXY" ]; then export http_proxy="$PROXY" https_proxy="$PROXY"; fi
file=
finish() {
	umount "$TARGET/proc" "$TARGET/dev"
	[ -z "$file" ] || rm "$TARGET$file"
}
mount --bind /dev "$TARGET/dev"
mount -t proc proc "$TARGET/proc"
trap finish EXIT
%s
if [ "$PARTITION_STYLE" = none ]; then
	file=$(losetup -n -O BACK-FILE "$BLOCKDEV")
	mkdir -p "$TARGET$(dirname "$file")"
	mknod "$TARGET$file" b $(stat -L -c "0x%%t 0x%%T" "$BLOCKDEV")
fi
chroot "$TARGET" update-grub
[ "$PARTITION_STYLE" = none ] || chroot "$TARGET" grub-install --no-floppy "$BLOCKDEV"
`

func (b *bench) bootFromArchive(r row) error {
	kernel, err := b.tree("BOOTLOADER=none", "EXTRA_PKGS=zstd,linux-image-"+b.arch)
	if err != nil {
		return err
	}
	return b.bootable(r, kernel, `chroot "$TARGET" apt-get -qq -y --no-install-recommends install grub-pc`)
}

func (b *bench) bootFromCache(r row) error {
	tar, err := b.tree("PARTITION_STYLE=msdos")
	if err != nil {
		return err
	}
	return b.bootable(r, tar, "")
}

func (b *bench) bootable(r row, tar, install string) error {
	shell, ours := b.disk("shell"), b.disk("ours")
	if err := b.withGrubHook(install, func() error {
		return b.compete(r, b.runs,
			b.shellCreates(creation{disks: []string{shell}, tar: tar, fresh: true}),
			b.weCreate(creation{disks: []string{ours}, fresh: true, settings: []string{"PARTITION_STYLE=msdos"}}))
	}); err != nil {
		return err
	}
	return b.compareGuests(shell, ours)
}

// coldBoot has each make a tree with a kernel.
func (b *bench) coldBoot(r row) error {
	shell, ours := b.disk("shell"), b.disk("ours")
	if err := b.withGrubHook(`chroot "$TARGET" apt-get -qq -y --no-install-recommends install grub-pc`, func() error {
		return b.turns(r, 0, b.runs, []contender{
			b.shellCreates(creation{disks: []string{shell}, fresh: true, settings: []string{"EXTRA_PKGS=dbus,systemd-timesyncd,zstd,linux-image-" + b.arch}}),
			b.weCreate(creation{disks: []string{ours}, fresh: true, settings: []string{"PARTITION_STYLE=msdos"}, cache: b.disk("cold-cache"), reset: os.RemoveAll}),
		})
	}); err != nil {
		return err
	}
	return b.compareGuests(shell, ours)
}

// withGrubHook gives the shell provider a hook that installs GRUB, for the time of what is done.
func (b *bench) withGrubHook(install string, do func() error) error {
	hooks := b.hooks(b.shell)
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(hooks)
	if err := os.WriteFile(hooks+"/grub", fmt.Appendf(nil, grubHook, install), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(hooks+"/grub", 0o755); err != nil { // whatever the umask
		return err
	}
	return do()
}

// reflink has disks and caches on a filesystem of its own, of the row's type.
func (b *bench) reflink(r row) (err error) {
	tar, err := b.tree(plain...)
	if err != nil {
		return err
	}
	image, dir := b.work+"/reflink.img", b.work+"/reflink"
	os.Remove(image)
	if err := newDisk(image, 24<<30); err != nil {
		return err
	}
	defer os.Remove(image)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, args := range [][]string{{"mkfs." + r.name, image}, {"mount", "-o", "loop", image, dir}} {
		if _, err := tool(args...); err != nil {
			return err
		}
	}
	defer func() {
		if _, umountErr := tool("umount", dir); err == nil {
			err = umountErr
		}
	}()
	if err := copyDir(b.ours.cache, dir+"/cache"); err != nil {
		return err
	}
	shell := b.shell
	shell.cache = dir + "/shell"
	if err := os.MkdirAll(shell.cache, 0o755); err != nil {
		return err
	}
	if err := bind(shell.cache, packagedCache); err != nil {
		return err
	}
	defer func() {
		if _, umountErr := tool("umount", packagedCache); err == nil {
			err = umountErr
		}
	}()
	tar = filepath.Join(dir, "cache", filepath.Base(tar))
	shellDisk, ourDisk, limit := dir+"/shell-disk", dir+"/our-disk", dir+"/limit"
	if err := b.compete(r, b.runs,
		b.shellOf(shell, creation{disks: []string{shellDisk}, tar: tar, fresh: true}),
		b.weCreate(creation{disks: []string{ourDisk}, cache: dir + "/cache", settings: plain, fresh: true}),
		b.limit(tar, true, limit)); err != nil {
		return err
	}
	return b.compareGuests(shellDisk, ourDisk)
}

func (b *bench) eight(r row) error {
	tar, err := b.tree(plain...)
	if err != nil {
		return err
	}
	shell, ours := b.manyDisks("shell", 8), b.manyDisks("ours", 8)
	return b.compete(r, b.runs,
		b.shellCreates(creation{disks: shell, tar: tar, fresh: true}),
		b.weCreate(creation{disks: ours, settings: plain, fresh: true}),
		b.limit(tar, true, b.manyDisks("limit", 8)...))
}

func (b *bench) manyDisks(name string, n int) (disks []string) {
	for i := range n {
		disks = append(disks, b.disk(name+strconv.Itoa(i)))
	}
	return disks
}

func (b *bench) verify(r row) error {
	var contenders []contender
	for _, p := range []provider{b.shell, b.ours} {
		contenders = append(contenders, contender{name: p.name, dir: b.work, before: func() error { return p.settings(b.common(p)...) }, op: func() error {
			cmd := p.command("verify", "")
			cmd.Args = append(cmd.Args, "parameters")
			return p.run(cmd)
		}})
	}
	return b.compete(r, b.runs, contenders...)
}

func (b *bench) rename(r row) error {
	tar, err := b.tree(plain...)
	if err != nil {
		return err
	}
	shell := b.shellCreates(creation{disks: []string{b.disk("shell")}, tar: tar, fresh: true})
	ours := b.weCreate(creation{disks: []string{b.disk("ours")}, settings: plain, fresh: true})
	var contenders []contender
	for i, c := range []contender{shell, ours} {
		p := []provider{b.shell, b.ours}[i]
		if err := c.before(); err != nil {
			return err
		}
		if err := c.op(); err != nil {
			return err
		}
		disk := b.disk(p.name)
		contenders = append(contenders, contender{name: p.name, dir: b.work, op: func() error {
			if err := p.run(p.command("rename", disk)); err != nil {
				return err
			}
			return syncFile(disk)
		}})
	}
	return b.compete(r, b.runs, contenders...)
}

func (b *bench) startUp(r row) error {
	return b.compete(r, b.runs, contender{name: "ours", dir: b.work, op: func() error {
		return b.ours.run(exec.Command(b.work+"/ours/instance-debootstrap", "version"))
	}})
}
