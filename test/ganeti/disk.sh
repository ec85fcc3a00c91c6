# What is on a disk, read with tools that did not write it; sourced, never run.
# The caller has set scratch, a folder for copies of partitions.
# shellcheck shell=bash

# partition_of STYLE DISK OUT: check the partition table of a disk file, and copy
# its one partition (or, for none, the disk itself) to OUT.
partition_of() {
	local style=$1 disk=$2 out=$3 start sectors
	if [ "$style" = none ]; then
		[ -z "$(blkid -p -o value -s PTTYPE "$disk")" ]
		cp --sparse=always "$disk" "$out"
		return
	fi
	sfdisk --verify "$disk"
	# Exactly one signature of a table: no other table or filesystem shines through.
	case $style in
		msdos)
			[ "$(wipefs -n -i -O TYPE "$disk" | sort -u)" = dos ]
			sfdisk --json "$disk" | jq -e '.partitiontable | .label == "dos" and .id != "0x00000000"
				and (.partitions | length == 1 and .[0].start == 2048 and .[0].type == "83" and .[0].bootable)'
			;;
		gpt)
			sgdisk -v "$disk" | grep 'No problems found'
			[ "$(wipefs -n -i -O TYPE "$disk" | sort -u | paste -sd,)" = PMBR,gpt ]
			sfdisk --json "$disk" | jq -e '.partitiontable | .label == "gpt"
				and (.partitions | length == 1 and .[0].start == 2048)'
			;;
	esac
	start=$(sfdisk --json "$disk" | jq '.partitiontable.partitions[0].start')
	sectors=$(sfdisk --json "$disk" | jq '.partitiontable.partitions[0].size')
	# The partition goes to the end: less than 2 MiB of the disk is unused.
	[ $(($(stat -c %s "$disk") / 512 - start - sectors)) -lt 4096 ]
	dd if="$disk" of="$out" bs=1M iflag=skip_bytes,count_bytes conv=sparse status=none \
		skip=$((start * 512)) count=$((sectors * 512))
}

# filesystem_is TYPE PARTITION: one filesystem of this type, with nothing wrong.
filesystem_is() {
	[ "$(blkid -p -o value -s TYPE "$2")" = "$1" ]
	[ "$(wipefs -n -i -O TYPE "$2" | sort -u)" = "$1" ]
	case $1 in
		ext?) e2fsck -fn "$2" ;;
		xfs) xfs_repair -n -f "$2" ;;
		btrfs) btrfs check --readonly "$2" ;;
	esac
}

# guest_is NAME TYPE PARTITION FOLDER: mount the partition on FOLDER and check the
# files that tell who the guest is. It stays mounted: the caller looks further.
guest_is() {
	local name=$1 type=$2 partition=$3 root=$4 file
	mount -o ro,loop "$partition" "$root"
	[ "$(cat "$root/etc/hostname")" = "$name" ]
	[ "$(cat "$root/etc/mailname")" = "$name" ]
	[ "$(awk '$2 == "/" {print $1, $3}' "$root/etc/fstab")" = "UUID=$(blkid -p -o value -s UUID "$partition") $type" ]
	[ "$(awk '$1 == "iface" && $2 == "lo" {print $4}' "$root/etc/network/interfaces")" = loopback ]
	for file in hostname mailname hosts fstab network/interfaces resolv.conf; do
		[ "$(stat -c '%a %U %G' "$root/etc/$file")" = '644 root root' ]
	done
	# The first boot fills it; a copied one would be every guest's.
	[ -e "$root/etc/machine-id" ]
	[ ! -s "$root/etc/machine-id" ]
	# Documented: root has no password until the admin sets one.
	grep -q '^root::' "$root/etc/shadow"
	[ "$(stat -c %a "$root")" = 755 ]
}

# disk_holds STYLE TYPE NAME DISK [COMMAND]: all of the above; COMMAND is run with
# the mounted guest's folder.
disk_holds() {
	local style=$1 type=$2 name=$3 disk=$4 work; shift 4
	work=$(mktemp -d -p "${scratch:?}")
	mkdir "$work/root"
	partition_of "$style" "$disk" "$work/partition"
	filesystem_is "$type" "$work/partition"
	# shellcheck disable=SC2064 # the folder as it is now
	trap "umount $work/root; rm -rf --one-file-system $work" EXIT
	guest_is "$name" "$type" "$work/partition" "$work/root"
	[ $# -eq 0 ] || "$@" "$work/root"
	trap - EXIT
	umount "$work/root"
	rm -rf --one-file-system "$work"
}
