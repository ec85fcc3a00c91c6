package vm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
)

// A running guest's volume is made larger by QEMU, and what is on it by the guest, which
// its agent has run the guest's own tools. What these say is the guest's word.

// onlineTime bounds the guest's part: ext4 writes the descriptors of each new group.
const onlineTime = 10 * time.Minute

// growInside is run by the guest's /bin/sh. Its arguments are the disk, by its serial
// number or by what libvirt calls it; the partition's number, 0 is the whole disk; the
// filesystem's type; and "look", to find out whether the tools are there, or "grow". In the end it prints what
// df says of the filesystem's size, in bytes.
const growInside = `set -e
PATH=/usr/sbin:/usr/bin:/sbin:/bin; LC_ALL=C; export PATH LC_ALL
by_id=$1 name=$2 part=$3 type=$4 do=$5
disk=$(readlink -f "$by_id" || true); [ -b "$disk" ] || disk=$name
dev=$disk; [ "$part" = 0 ] || dev=$disk$part
at=$(findmnt -n -r -o TARGET --source "$dev" | head -n 1)
[ -n "$at" ] || { echo "$dev is not mounted" >&2; exit 1; }
tools="df findmnt"
[ "$part" = 0 ] || tools="$tools sfdisk partx sed"
case $type in
ext*) tools="$tools resize2fs" ;;
xfs) tools="$tools xfs_growfs" ;;
btrfs) tools="$tools btrfs" ;;
esac
for tool in $tools; do command -v $tool >/dev/null || { echo "it lacks $tool" >&2; exit 1; }; done
if [ "$do" = grow ] && [ "$part" != 0 ]; then
	sfdisk --dump "$disk" >/run/grow.dump
	sed -e '/^last-lba:/d' -e "s|^\($dev : start= *[0-9]*, \)size= *[0-9]*, |\1|" /run/grow.dump >/run/grow.sfdisk
	[ -s /run/grow.sfdisk ]
	sfdisk --quiet --no-reread --no-tell-kernel --force "$disk" </run/grow.sfdisk
	rm -f /run/grow.dump /run/grow.sfdisk
	partx --update --nr "$part" "$disk"
fi
[ "$do" != grow ] || case $type in
ext*) resize2fs "$dev" ;;
xfs) xfs_growfs "$at" ;;
btrfs) btrfs filesystem resize max "$at" ;;
esac >&2
df -B1 --output=size "$at" | tail -n 1
`

// isOnline reports whether the guest grows while it runs.
func (g *growth) isOnline() bool { return g.Running() && !g.Stop.Wanted }

// mayGrowOnline refuses what the guest can't grow by itself, before its disk changes.
func (g *growth) mayGrowOnline(ctx context.Context, on content) (dfBytes int64, err error) {
	remedy := "shut it down first, or give --stop, which does that and starts it again"
	if g.Role == "swap" {
		return 0, fmt.Errorf("the guest %s is %s, and swap in use doesn't grow: %s", g.Name, g.State, remedy)
	}
	if on.volumeOnly != "" {
		return 0, nil
	}
	if err := g.virsh.AgentAnswers(ctx, g.Domain.UUID); err != nil {
		return 0, fmt.Errorf("the guest %s is %s, and its agent doesn't answer: %s: %w", g.Name, g.State, remedy, err)
	}
	if dfBytes, err = g.inside(ctx, on, "look"); err != nil {
		err = fmt.Errorf("the guest %s can't grow it while it runs: %s: %w", g.Name, remedy, err)
	}
	return dfBytes, err
}

// inside has the guest look or grow, and returns the bytes that its df then tells.
func (g *growth) inside(ctx context.Context, on content, what string) (sizeBytes int64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, onlineTime, fmt.Errorf("the guest has not done it within %v", onlineTime))
	defer cancel()
	said, err := g.virsh.InGuest(ctx, g.Domain.UUID, "/bin/sh", "-c", growInside, "sh",
		"/dev/disk/by-id/virtio-"+g.serial(), "/dev/"+g.disk.target, strconv.Itoa(on.number), string(on.fstype), what)
	if err != nil {
		return 0, err
	}
	if sizeBytes, err = strconv.ParseInt(strings.TrimSpace(said), 10, 64); err != nil {
		err = fmt.Errorf("of its size the guest says %s", pattern.Quote(said))
	}
	return sizeBytes, err
}

// serial is the serial number of the disk, by which the guest knows it.
func (g *growth) serial() string {
	for _, disk := range g.Domain.Devices.Disks {
		if disk.Target.Dev == g.disk.target && disk.Serial != "" {
			return disk.Serial
		}
	}
	return "none"
}

func (g *growth) resizeOnline(ctx context.Context) error {
	if !g.disk.IsFile && g.SizeBytes > g.disk.SizeBytes { // QEMU makes a file larger itself
		if err := g.virsh.ExtendLV(ctx, g.disk.Pool, g.disk.Path, g.SizeBytes); err != nil {
			return err
		}
	}
	return g.virsh.ResizeDisk(ctx, g.Domain.UUID, g.disk.target, g.disk.Pool, g.SizeBytes)
}

// growOnline has the guest grow what is on its larger disk, and holds what its df says
// against what was added, of which ext4 keeps some for itself.
func (g *growth) growOnline(ctx context.Context, on content) (did string, err error) {
	after, err := g.inside(ctx, on, "grow")
	added := g.SizeBytes - on.startSector*partition.SectorSize - on.bytes
	isGrown := on.dfBytes > on.bytes // by a grow before; XFS writes its superblock late
	if err == nil && !isGrown && after-on.dfBytes < added/10*8 {
		err = fmt.Errorf("its df tells %s, and told %s before", tell.MiB(after), tell.MiB(on.dfBytes))
	}
	if err != nil {
		return "", fmt.Errorf("the volume has %s, and what is on it is still to be grown, from inside the guest or by the same command with that size (%dM, not one to add): %w", tell.MiB(g.SizeBytes), g.SizeBytes>>20, err)
	}
	return fmt.Sprintf("volume %s has %s, and its %s %s, as the guest's df tells", g.disk.Name, tell.MiB(g.SizeBytes), on.fstype, tell.MiB(after)), nil
}
