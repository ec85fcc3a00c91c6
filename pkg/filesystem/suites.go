package filesystem

import "strings"

// features is a row of the table of what a suite's own kernel, fsck and GRUB
// read. The rule: what the suite's own mkfs made, less what its GRUB, as first
// released, can't read, and less what a root has no use for.
type features struct {
	suites string // names, separated by blanks
	ext4   string // mke2fs -O
	xfs    string // mkfs.xfs switches that are on; all others are off. "" is: can't
	btrfs  string // mkfs.btrfs features that are on; all others are off
	// btrfsNodeBytes is the size of btrfs's tree nodes.
	btrfsNodeBytes int
}

// The features of ext* that are the same for all suites. dir_index and
// resize_inode date from 2.6.0 to 2.6.10, large inodes from 2.6.10.
const (
	ext2Features = "ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file"
	ext3Features = "has_journal," + ext2Features
	// ext4Base is what e2fsprogs 1.41 and 1.42 made.
	ext4Base = ext3Features + ",extent,flex_bg,huge_file,uninit_bg,dir_nlink,extra_isize"
	// ext4Csum: e2fsck reads metadata_csum and 64bit together from 1.43 on, GRUB
	// ignores the former and reads the latter from 2.00 on.
	ext4Csum = ext3Features + ",extent,flex_bg,huge_file,dir_nlink,extra_isize,metadata_csum,64bit"
	// ext4Seed: with metadata_csum_seed a copied filesystem takes a new UUID
	// without a rewrite of all its metadata. GRUB 2.12 reads it, and 2.06 as
	// Debian has it (bullseye's, too, which was tried). Never orphan_file, which
	// e2fsck before 1.47 refuses.
	ext4Seed = ext4Csum + ",metadata_csum_seed"
)

// suiteTable goes from old to new. The versions are of e2fsprogs / xfsprogs /
// btrfs-progs / kernel / GRUB.
var suiteTable = []features{
	{
		// wheezy: 1.42.5 / 3.1.7 / 0.19 / 3.2 / 1.99. btrfs: extref needs Linux
		// 3.7, nodes above 4 KiB 3.4.
		suites: "woody sarge etch lenny squeeze wheezy dapper edgy feisty gutsy hardy intrepid jaunty karmic lucid " +
			"maverick natty oneiric precise quantal raring saucy",
		ext4: ext4Base, xfs: "", btrfs: "", btrfsNodeBytes: 4096,
	},
	{
		// jessie: 1.42.12 / 3.2.1 / 3.17 / 3.16 / 2.02~beta2; trusty: 1.42.9 /
		// 3.1.9 / 3.12 / 3.13 / 2.02~beta2. xfs: that GRUB reads format 4 only.
		suites: "jessie trusty utopic vivid wily",
		ext4:   ext4Base, xfs: "", btrfs: "extref", btrfsNodeBytes: 16384,
	},
	{
		// xenial: 1.42.13 / 4.3 / 4.4 / 4.4 / 2.02~beta2 with format 5.
		suites: "xenial",
		ext4:   ext4Base, xfs: "crc finobt", btrfs: "extref skinny-metadata", btrfsNodeBytes: 16384,
	},
	{
		// stretch: 1.43.4 / 4.9 / 4.7 / 4.9 / 2.02~beta3; bionic: 1.44.1 / 4.9 /
		// 4.15 / 4.15 / 2.02; buster: 1.44.5 / 4.20 / 4.20 / 4.19 / 2.02. xfs:
		// GRUB reads sparse inodes from 2.04 on, reflink is Linux 4.16's.
		suites: "stretch buster yakkety zesty artful bionic cosmic disco ascii beowulf",
		ext4:   ext4Csum, xfs: "crc finobt", btrfs: "extref skinny-metadata", btrfsNodeBytes: 16384,
	},
	{
		// focal: 1.45.5 / 5.3 / 5.4 / 5.4 / 2.04; jammy: 1.46.5 / 5.13 / 5.16 /
		// 5.15 / 2.06, whose GRUB may lack Debian's patch for metadata_csum_seed.
		suites: "eoan focal groovy hirsute impish jammy kinetic lunar mantic",
		ext4:   ext4Csum, xfs: "crc finobt sparse reflink", btrfs: "extref skinny-metadata", btrfsNodeBytes: 16384,
	},
	{
		// bullseye: 1.46.2 / 5.10 / 5.10 / 5.10 / 2.04. xfs: GRUB reads bigtime
		// from 2.06 on; inobtcount was new.
		suites: "bullseye chimaera byzantium",
		ext4:   ext4Seed, xfs: "crc finobt sparse reflink", btrfs: "extref skinny-metadata", btrfsNodeBytes: 16384,
	},
	{
		// bookworm: 1.47.0 / 6.1 / 6.2 / 6.1 / 2.06; trixie: 1.47.2 / 6.13 / 6.14 /
		// 6.12 / 2.12; noble: 1.47.0 / 6.6 / 6.6 / 6.8 / 2.12. The row of every
		// suite that no row names: it has nothing that bookworm can't read.
		suites: "bookworm trixie forky sid noble",
		ext4:   ext4Seed, xfs: "crc finobt sparse reflink bigtime inobtcount", btrfs: "extref skinny-metadata no-holes free-space-tree", btrfsNodeBytes: 16384,
	},
}

// lookup returns the row of a suite; one that no row names gets the newest.
func lookup(suite string) features {
	for _, row := range suiteTable {
		for name := range strings.FieldsSeq(row.suites) {
			if name == suite {
				return row
			}
		}
	}
	return suiteTable[len(suiteTable)-1]
}
