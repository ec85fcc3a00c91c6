package filesystem

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/tell"
)

// extInodeBytes is the size of an inode, which holds times beyond 2038,
// nanoseconds and small extended attributes.
const extInodeBytes = 256

// mke2fsConf stands in for the node's mke2fs.conf. It sets what has no option
// of its own; the types are there because mke2fs warns when they are missing.
const mke2fsConf = `[defaults]
	base_features = none
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
[fs_types]
	ext2 = {
		features = none
	}
	ext3 = {
		features = none
	}
	ext4 = {
		features = none
	}
`

// extFeatures returns what mke2fs -O gets after "none".
func extFeatures(t Type, suite string) string {
	switch t {
	case Ext2:
		return ext2Features
	case Ext3:
		return ext3Features
	}
	return lookup(suite).ext4
}

// extInodeRatio returns the bytes per inode. Small disks get more inodes than
// mke2fs's default of 16384 gives them, for a Debian root on 1 GiB would run out
// of inodes before it runs out of space; very large ones get fewer, as in
// mke2fs.conf(5)'s type big. A larger disk never has fewer inodes than a smaller.
func extInodeRatio(sizeBytes int64) int64 {
	switch {
	case sizeBytes < 2<<30:
		return 8192
	case sizeBytes < 4<<30:
		return sizeBytes / (2 << 30 / 8192)
	case sizeBytes < 4<<40:
		return 16384
	case sizeBytes < 8<<40:
		return sizeBytes / (4 << 40 / 16384)
	}
	return 32768
}

// extInodeRatioFor is the ratio for what a spec asks for; mke2fs takes none below
// 1024.
func extInodeRatioFor(s Spec) int64 {
	ratio := extInodeRatio(s.SizeBytes)
	if s.MinInodes > 0 {
		ratio = max(1024, min(ratio, s.SizeBytes/s.MinInodes))
	}
	return ratio
}

// extJournalMiB returns the journal's size: 1/64 of the disk, within 16 and 128
// MiB. mke2fs's own choice, up to 1 GiB, differs between versions.
func extJournalMiB(sizeBytes int64) int64 { return min(max(16, sizeBytes>>26), 128) }

// extLazy returns mke2fs's -E options for what needn't be written at once.
//
// lazy_itable_init leaves the inode tables, 1.6 GiB of them on 100 GiB, to the
// guest's kernel, which zeroes them in the background when it first mounts.
// Until then the group descriptors, which carry checksums, say which inodes are
// unused, so that old disk content in the tables is never read. ext2 and ext3
// have no such checksums, and mke2fs writes their tables whatever is said here.
//
// lazy_journal_init leaves out zeroing the journal. What was on the disk can be
// taken for a part of the journal only if its blocks' checksums match, which are
// seeded with the new UUID; so this is for metadata_csum only.
func extLazy(list string) string {
	journal := 0
	if strings.Contains(list, "metadata_csum") {
		journal = 1
	}
	return fmt.Sprintf("lazy_itable_init=1,lazy_journal_init=%d", journal)
}

// extGeometry is what of an ext* depends on its disk's size.
type extGeometry struct {
	inodeRatio int64 // bytes per inode
	journalMiB int64
	discard    string // discard or nodiscard
}

// makeExt has the disk discarded, which is mke2fs's default, said because
// mke2fs.conf could change it: a thin volume gets its space back on a reinstall.
func makeExt(ctx context.Context, s Spec, uuid string) error {
	return mke2fs(ctx, s, uuid, extGeometry{inodeRatio: extInodeRatioFor(s), journalMiB: extJournalMiB(s.SizeBytes), discard: "discard"})
}

func mke2fs(ctx context.Context, s Spec, uuid string, g extGeometry) error {
	list := extFeatures(s.Type, s.Suite)
	blocks := s.SizeBytes / blockBytes
	if blocks >= 1<<32 && !strings.Contains(list, "64bit") {
		return fmt.Errorf("%s is more than this suite's %s can address (16 TiB): use a smaller disk or filesystem xfs", tell.MiB(s.SizeBytes), s.Type)
	}
	args := []string{
		"mke2fs", "-q", "-F", "-t", string(s.Type), "-T", "default",
		"-O", "none," + list,
		"-b", strconv.Itoa(blockBytes), "-I", strconv.Itoa(extInodeBytes), "-i", strconv.FormatInt(g.inodeRatio, 10),
		"-E", g.discard + "," + extLazy(list), "-U", uuid,
	}
	if s.Type != Ext2 {
		args = append(args, "-J", fmt.Sprintf("size=%d", g.journalMiB))
	}
	if s.Label != "" {
		args = append(args, "-L", s.Label)
	}
	args = append(args, s.Device, strconv.FormatInt(blocks, 10))
	return command.Run(ctx, command.Cmd{Args: args, In: forMke2fs(s.Device), Quiet: true})
}

// forMke2fs is writing, with our mke2fs.conf.
func forMke2fs(device string) *cell.Place {
	return &cell.Place{Disk: device, Files: map[string]string{"/etc/mke2fs.conf": mke2fsConf}}
}
