# Disks and filesystems. Sourced by run, for the texts, and by row.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # variables of provider.sh and of the hooks
section "Disks and filesystems"

row disk-small 'a disk of 256 MiB'
row-disk-small() {
	new_disk "$disk" 256
	give DISK_0_SIZE=256
	create
	outcome "$(names 256)" "$(disk_fate)"
}

row disk-small-says 'the size that the message for it asks for' \
	'The number is the one that is enforced.'
row-disk-small-says() {
	new_disk "$disk" 300
	give DISK_0_SIZE=300
	create
	outcome "$(names 256 511 512)"
}

row disk-511 'a disk of 511 MiB'
row-disk-511() {
	admin_tree
	new_disk "$disk" 511
	give DISK_0_SIZE=511
	create
	outcome "$(guest cat "$root/etc/hostname")"
}

row tree-too-large 'a tree that does not fit on the disk' \
	'Found out before the disk is written to, with the number that would do.'
row-tree-too-large() {
	admin_tree
	mkdir -p /srv/large
	head -c 700M /dev/zero >/srv/large/blob
	tar -rf "$admin_tar" -C /srv/large ./blob
	rm -r /srv/large
	create
	outcome "$(disk_fate)"
}

row tree-not-at-top "the admin's own tar has its tree in a folder" \
	'Every refusal ends with 1, and it is looked at before.'
row-tree-not-at-top() {
	mkdir -p /srv/below/tree
	tar -xf /srv/tree.tar -C /srv/below/tree
	tar -cf "$admin_tar" -C /srv/below ./tree
	rm -r /srv/below
	create
	outcome "$(disk_fate)"
}

row root-read-only 'DISK_0_ACCESS=ro' \
	'The guest cannot write there.'
row-root-read-only() {
	admin_tree
	give DISK_0_ACCESS=ro
	create
	outcome "fstab says $(guest awk '$2 == "/" {print $4}' "$root/etc/fstab")"
}

row data-disk-read-only 'DATA_DISKS names a blank disk with DISK_1_ACCESS=ro' \
	'What the guest can only read is never formatted; the shell provider has no data disks.'
row-data-disk-read-only() {
	admin_tree
	settings DATA_DISKS=data=/srv
	give DISK_COUNT=2 DISK_1_PATH="$swap" DISK_1_ACCESS=ro DISK_1_SIZE=64 DISK_1_UUID=2b7d93b7-0f8e-4a3e-8f0e-1f4b1c9b7a11 \
		DISK_1_NAME=data DISK_1_BACKEND_TYPE=file:loop
	truncate -s 64M "$swap"
	create
	outcome "second disk is $(kind "$swap")" "$(disk_fate)"
}

row swap-read-only 'swapdev=$DISK_1_PATH, and DISK_1_ACCESS=ro' \
	'No guest can swap there, and what is read-only is not formatted.'
row-swap-read-only() {
	settings 'swapdev=$DISK_1_PATH'
	give DISK_COUNT=2 DISK_1_PATH="$swap" DISK_1_ACCESS=ro DISK_1_SIZE=64 DISK_1_UUID=2b7d93b7-0f8e-4a3e-8f0e-1f4b1c9b7a11 \
		DISK_1_BACKEND_TYPE=file:loop
	truncate -s 64M "$swap"
	admin_tree
	create
	outcome "second disk is $(kind "$swap")"
}

row import-empty 'import of an empty stream' \
	'A disk that gets nothing is as it was.'
row-import-empty() { import_of '' /dev/null; }

row import-qcow2 'import of a qcow2 image' \
	'It is called by its name.'
row-import-qcow2() {
	{ printf 'QFI\xfb\0\0\0\3'; head -c 1M /dev/zero; } >/srv/stream
	import_of qcow2 /srv/stream
}

row import-zip 'import of a zip archive' \
	'The same.'
row-import-zip() {
	{ printf 'PK\3\4\x14\0\0\0'; head -c 1M /dev/zero; } >/srv/stream
	import_of zip /srv/stream
}

# import_of WORD FILE: import a stream onto a disk that has something.
import_of() {
	new_disk "$disk" 600
	give IMPORT_DEVICE="$disk" IMPORT_INDEX=0
	script_of import "$2"
	outcome "$(names ${1:+"$1"} empty)" "$(disk_fate)"
}

row block-device 'a disk that is a block device'
row-block-device() {
	admin_tree
	new_disk "$disk" 600
	local device
	device=$(losetup --show -f "$disk")
	give DISK_0_PATH="$device" DISK_0_BACKEND_TYPE=block
	script create
	losetup -d "$device"
	outcome "$(guest cat "$root/etc/hostname")"
}

row disk-link 'a disk given as a link to a block device, as LVM does'
row-disk-link() {
	admin_tree
	new_disk "$disk" 600
	local device
	device=$(losetup --show -f "$disk")
	ln -s "$device" /srv/volume
	give DISK_0_PATH=/srv/volume DISK_0_BACKEND_TYPE=block
	script create
	losetup -d "$device"
	outcome "$(guest cat "$root/etc/hostname")"
}

row file-link 'a disk given as a link to a file'
row-file-link() {
	admin_tree
	new_disk "$disk" 600
	ln -s "$disk" /srv/volume
	give DISK_0_PATH=/srv/volume
	script create
	outcome "$(guest cat "$root/etc/hostname")"
}

row disk-missing 'a disk that does not exist'
row-disk-missing() {
	admin_tree
	script create
	outcome "$(names "$disk")" "$([ -e "$disk" ] && echo 'made it' || echo 'did not make it')"
}

row disk-mounted 'a disk that is mounted already'
row-disk-mounted() {
	admin_tree
	truncate -s 600M "$disk"
	mke2fs -qF -L precious "$disk"
	local device
	device=$(losetup --show -f "$disk")
	mkdir -p /srv/in-use
	mount "$device" /srv/in-use
	give DISK_0_PATH="$device" DISK_0_BACKEND_TYPE=block
	script create
	umount /srv/in-use
	losetup -d "$device"
	outcome "label $(blkid -p -o value -s LABEL "$disk" | grep . || echo gone)"
}

row disk-mounted-elsewhere 'a file disk that is mounted through a loop device of somebody else' \
	'Two who write to one disk destroy it.'
row-disk-mounted-elsewhere() {
	admin_tree
	truncate -s 600M "$disk"
	mke2fs -qF "$disk"
	mkdir -p /srv/in-use
	mount -o loop "$disk" /srv/in-use
	touch /srv/in-use/ledger
	script create
	umount /srv/in-use
	outcome "the other's files are $(e2fsck -fn "$disk" >/dev/null 2>&1 && guest test -e "$root/ledger" && echo intact || echo damaged)"
}

row filesystem-ext2 'filesystem=ext2' \
	'It is ext2, not ext3 by the journal that was asked for as well.'
row-filesystem-ext2() { filesystem_of ext2; }

row filesystem-ext3 'filesystem=ext3'
row-filesystem-ext3() { filesystem_of ext3; }

row filesystem-ext4 'filesystem=ext4'
row-filesystem-ext4() { filesystem_of ext4; }

row filesystem-default 'no filesystem asked for'
row-filesystem-default() { filesystem_of ''; }

filesystem_of() {
	admin_tree
	[ -z "$1" ] || give OSP_FILESYSTEM="$1"
	create
	outcome "$(blkid -p -o value -s TYPE "$disk")" "fstab says $(guest awk '$2 == "/" {print $3}' "$root/etc/fstab")"
}

row filesystem-xfs 'filesystem=xfs' \
	'Beyond ext: xfs and btrfs.'
row-filesystem-xfs() {
	admin_tree
	give OSP_FILESYSTEM=xfs
	create
	outcome "$(kind "$disk")"
}

row node-mke2fs-conf "the node's mke2fs.conf asks for a feature" \
	"The features are the guest suite's: an old guest must be able to read its own disk."
row-node-mke2fs-conf() {
	admin_tree
	sed -i 's/^\([[:space:]]*ext4 = {\)/\1\n features = has_journal,extent,large_dir/' /etc/mke2fs.conf
	create
	outcome "$(dumpe2fs -h "$disk" 2>/dev/null | grep -q large_dir && echo 'made with it' || echo 'made without it')"
}

row old-signatures 'a disk that had a GPT'
row-old-signatures() {
	admin_tree
	truncate -s 600M "$disk"
	echo 'type=linux' | sfdisk -q --label gpt "$disk"
	create
	outcome "signatures: $(wipefs -n -i -O TYPE "$disk" | sort -u | paste -sd+)"
}

row root-uuid 'fstab finds the root by UUID'
row-root-uuid() {
	admin_tree
	create
	outcome "$(guest grep -q "^UUID=$(blkid -p -o value -s UUID "$disk")[[:space:]]*/[[:space:]]" "$root/etc/fstab" && echo "the filesystem's own" || echo another)"
}
