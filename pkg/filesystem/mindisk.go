package filesystem

import "strings"

// floorBytes is the smallest filesystem that the type's mkfs makes, or below
// which there is no use in one.
func floorBytes(t Type) int64 {
	switch t {
	case XFS:
		return 300 << 20 // mkfs.xfs(8)
	case Btrfs:
		return 128 << 20 // 109 MiB in mkfs.btrfs(8), and room to breathe
	}
	return 64 << 20
}

// MinDiskBytes returns the size of the smallest partition, a whole number of
// MiB, that holds a tree as the suite's filesystem of this type.
//
// contentBytes is the sum of the sizes of its files, each rounded up to 4 KiB,
// and of 4 KiB or more for each folder. inodes counts files, folders and all else.
// The tree is what root writes: ext*'s blocks that are reserved for root count
// as free. Nothing is added for what the guest writes later.
func MinDiskBytes(t Type, suite string, contentBytes, inodes int64) int64 {
	const mib = 1 << 20
	if contentBytes > mostBytes || inodes > mostInodes {
		return 1 << 62
	}
	size := max(floorBytes(t), (contentBytes+mib-1)/mib*mib)
	for over := int64(0); over <= 16; over++ {
		// At some sizes ext* begins another block group, which takes more than it
		// brings: the next sizes up must fit, too. Large sizes are looked at less
		// closely, or numbers that somebody has made up would take hours.
		for !fits(t, suite, size+over*mib, contentBytes, inodes) {
			size, over = size+max(mib, size>>12/mib*mib), 0
		}
	}
	return size
}

// What a filesystem of ours can hold at the most; the numbers may be a stream's.
const (
	mostBytes  = 1 << 50
	mostInodes = 1 << 36
)

func fits(t Type, suite string, sizeBytes, contentBytes, inodes int64) bool {
	switch t {
	case XFS:
		return fitsXFS(sizeBytes, contentBytes, inodes)
	case Btrfs:
		return fitsBtrfs(sizeBytes, contentBytes, inodes)
	}
	return fitsExt(t, suite, sizeBytes, contentBytes, inodes)
}

// fitsExt counts what mke2fs takes (mke2fs(8); the on-disk layout is described in
// the kernel's Documentation/filesystems/ext4).
func fitsExt(t Type, suite string, sizeBytes, contentBytes, inodes int64) bool {
	const (
		blocksPerGroup = 8 * blockBytes
		firstInode     = 11 // the ones before are the filesystem's own
		lostFound      = 5  // blocks of lost+found and the root folder
		resvMax        = 4096
	)
	list := extFeatures(t, suite)
	descriptor := int64(32)
	if strings.Contains(list, "64bit") {
		descriptor = 64
	}
	blocks := sizeBytes / blockBytes
	groups := ceil(blocks, blocksPerGroup)
	inodesPerGroup := ceil(ceil(sizeBytes/extInodeRatio(sizeBytes), groups), 16) * 16
	if inodesPerGroup*groups-firstInode < inodes {
		return false
	}
	descriptors := ceil(groups*descriptor, blockBytes)
	copies := superblockCopies(groups)
	// resize_inode keeps descriptors for a growth by 1024, 1024 blocks at most.
	reserved := min(ceil(ceil(min(blocks*1024, 1<<32-1), blocksPerGroup)*descriptor, blockBytes)-descriptors, 1024)
	perCopy := 1 + descriptors + max(0, reserved)
	perGroup := 2 + inodesPerGroup*extInodeBytes/blockBytes // bitmaps and inode table
	// A last group that holds little more than its own tables is left out.
	last := perGroup + (copies-superblockCopies(groups-1))*perCopy
	if rest := blocks % blocksPerGroup; rest > 0 && rest < last+50 {
		return fitsExt(t, suite, (blocks-rest)*blockBytes, contentBytes, inodes)
	}
	used := groups*perGroup + copies*perCopy + lostFound
	content := ceil(contentBytes, blockBytes)
	if t != Ext2 {
		used += extJournalMiB(sizeBytes) << 20 / blockBytes
	}
	if t == Ext4 {
		// The kernel keeps 2% for delayed allocation (ext4's reserved clusters);
		// extents that don't fit in the inode need some blocks.
		used += min(blocks/50, resvMax) + content/200
	} else {
		// Every file of 13 blocks or more has an indirect block, those of more
		// than 4 MiB one for every 1024 blocks. How many there are isn't known:
		// this is the most.
		used += min(content/13, inodes) + content/1024
	}
	return used+content <= blocks
}

// superblockCopies counts the groups that have one under sparse_super: 0, 1 and
// the powers of 3, 5 and 7.
func superblockCopies(groups int64) int64 {
	n := min(groups, 2)
	for _, base := range []int64{3, 5, 7} {
		for power := base; power < groups; power *= base {
			n++
		}
	}
	return n
}

// fitsXFS: the log; the pool that the kernel keeps for itself, 5% but at most
// 8192 blocks (xfs_default_resblks); the trees and their reservations in the
// allocation groups, at most 1%; inodes of 512 bytes in chunks of 64.
func fitsXFS(sizeBytes, contentBytes, inodes int64) bool {
	used := xfsLogMiB(sizeBytes)<<20 + min(sizeBytes/20, 8192*blockBytes) + sizeBytes/100 + 1<<20
	return used+contentBytes+ceil(inodes, 64)*64*512 <= sizeBytes
}

// fitsBtrfs: chunks of metadata, each twice (DUP), of 5% of the device within 32
// and 256 MiB, as mkfs.btrfs and the kernel make them, as many as the trees
// need; the system chunk, twice 8 MiB, and the first MiB.
func fitsBtrfs(sizeBytes, contentBytes, inodes int64) bool {
	const mib = 1 << 20
	chunk := min(max(sizeBytes/20, 32*mib), 256*mib)
	trees := inodes*1024 + contentBytes/512 + 16*mib
	return ceil(trees, chunk)*2*chunk+20*mib+contentBytes <= sizeBytes
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }
