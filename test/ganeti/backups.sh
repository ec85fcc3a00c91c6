# Backups, rename and Ganeti's own acceptance tool; sourced by checks, never run.
# shellcheck shell=bash disable=SC2154 # checks' variables

exports=/var/lib/ganeti/export

# export_of NAME: back the instance up to this node; file disks have no snapshots.
export_of() { gnt-backup export --long-sleep --node=node1.test "$1"; }

# import_of EXPORT NAME [DISKS...]: a new instance from a backup. Ganeti itself takes
# a failed import or rename for a warning.
import_of() {
	local from=$1 name=$2 out; shift 2
	out=$(gnt-backup import --disk-template=file --no-ip-check --no-name-check --ignore-ipolicy --no-nics \
		--node=node1.test --src-node=node1.test --src-dir="$exports/$from" "$@" "$name" 2>&1) || { echo "$out"; return 1; }
	echo "$out"
	! grep -E 'WARNING|ERROR' <<<"$out"
}

# uuid_of DISK: what is on a whole disk.
uuid_of() { blkid -p -o value -s UUID "$1"; }

# on_data DISK COMMAND...: with the disk mounted on /srv/data.
on_data() {
	local disk=$1 status=0; shift
	mkdir -p /srv/data
	mount -o loop "$disk" /srv/data
	"$@" || status=$?
	umount /srv/data
	return "$status"
}

backup_has_every_disk() {
	settings PARTITION_STYLE=msdos
	add inst13.test --disk=0:size=1g --disk=1:size=64m,name=swap --disk=2:size=64m --disk=3:size=16m
	local data i sums
	data=$(disk_of inst13.test 2)
	mke2fs -q -F -t ext4 -L data "$data"
	on_data "$data" sh -c 'echo mine >/srv/data/file; setfattr -n user.a -v b /srv/data/file'
	for i in 0 1 2 3; do sums+=$(sha256sum "$(disk_of inst13.test $i)"); done
	export_of inst13.test
	# Not a byte of the disks has changed, and standard tools open each stream.
	for i in 0 1 2 3; do sums=${sums#"$(sha256sum "$(disk_of inst13.test $i)")"}; done
	[ -z "$sums" ]
	local files
	mapfile -t files < <(sed -n 's/^disk[0-9]*_dump = //p' "$exports/inst13.test/config.ini")
	[ "${#files[@]}" = 4 ]
	for i in "${files[@]}"; do tar -tf "$exports/inst13.test/$i" | grep -x .instance-debootstrap/manifest.json; done
}

import_has_every_disk() {
	import_of inst13.test inst14.test
	local i from to swap
	swap=$(uuid_of "$(disk_of inst14.test 1)")
	swaps() { grep -E "^UUID=${swap}[[:space:]]+(none|swap)[[:space:]]+swap[[:space:]]" "$1/etc/fstab"; }
	disk_holds msdos ext4 inst14.test "$(disk_of inst14.test)" swaps
	for i in 1 2; do
		from=$(disk_of inst13.test $i) to=$(disk_of inst14.test $i)
		[ "$(uuid_of "$to")" = "$(uuid_of "$from")" ]
		[ "$(blkid -p -o value -s TYPE "$to")" = "$(blkid -p -o value -s TYPE "$from")" ]
	done
	[ "$(sfdisk --disk-id "$(disk_of inst14.test)")" = "$(sfdisk --disk-id "$(disk_of inst13.test)")" ]
	# shellcheck disable=SC2016 # sh's own
	on_data "$(disk_of inst14.test 2)" sh -c '[ "$(cat /srv/data/file)" = mine ] && getfattr -d /srv/data/file | grep "user.a=\"b\""'
	[ -z "$(blkid -p "$(disk_of inst14.test 3)")" ]
}

# gnt_backup_fails: as it is known to. The instances are those that the backup's checks leave.
gnt_backup_fails() {
	settings PARTITION_STYLE=msdos
	add inst13.test
	add inst14.test
	refused 'failed to send data' export_of inst13.test
}

rename_reaches_the_guest() {
	rename_to inst14.test inst15.test
	disk_holds msdos ext4 inst15.test "$(disk_of inst15.test)"
	remove inst13.test inst15.test
}

# changed_os EXPORT OS: the backup says that it is of another OS definition.
changed_os() { sed -i "s/^os = .*/os = $2+default/" "$exports/$1/config.ini"; }

# The packaged shell provider, as the OS definition "shell", is what other nodes
# still have: both read what the other wrote.
dumps_go_both_ways() {
	settings PARTITION_STYLE=none EXPORT_FORMAT=dump
	gnt-os diagnose | grep -x 'OS: shell \[global status: valid\]'
	add inst16.test & local ours=$!
	add inst17.test & local theirs=$!
	wait "$ours"
	wait "$theirs"
	gnt-instance modify --ignore-ipolicy --os-type=shell+default inst17.test
	export_of inst16.test & ours=$!
	export_of inst17.test & theirs=$!
	wait "$ours"
	wait "$theirs"
	changed_os inst16.test shell
	changed_os inst17.test debootstrap
	import_of inst16.test inst18.test & theirs=$!
	import_of inst17.test inst19.test & ours=$!
	wait "$theirs"
	wait "$ours"
	gnt-instance info inst18.test | grep 'Operating system: shell'
	gnt-instance info inst19.test | grep 'Operating system: debootstrap'
	same_files inst16.test inst18.test
	same_files inst17.test inst19.test
	[ "$(uuid_of "$(disk_of inst19.test)")" = "$(uuid_of "$(disk_of inst17.test)")" ]
	remove inst{16..19}.test
}

# files_of NAME: type, mode, owner, size and name of every file of its root.
files_of() {
	on_data "$(disk_of "$1")" find /srv/data -mindepth 1 \
		! -path '*/lost+found' ! -name restoresymtable ! -path '*/etc/fstab' ! -type d -printf '%y %m %U:%G %s %n %P\n' | sort
}

# same_files ONE OTHER: the roots of two instances that have nothing but their names
# (of the same length) and their fstab for themselves.
same_files() {
	# One after the other: both are mounted in one place.
	files_of "$1" >/srv/files-of-one
	files_of "$2" >/srv/files-of-other
	diff /srv/files-of-one /srv/files-of-other
	[ "$(wc -l </srv/files-of-one)" -gt 1000 ]
	on_data "$(disk_of "$2")" grep -x "$2" /srv/data/etc/hostname
}

# Ganeti's acceptance tool: create, grow, reinstall, rename, export, import,
# start, stop and more, all instances at once.
burnin_passes() {
	settings PARTITION_STYLE=msdos
	gnt-cluster modify --ipolicy-bounds-specs 'min:cpu-count=1,disk-count=0,disk-size=1,memory-size=1,nic-count=0,spindle-use=1/max:cpu-count=64,disk-count=16,disk-size=1048576,memory-size=32768,nic-count=8,spindle-use=12'
	local left_out=()
	backups_work || left_out=(--no-importexport)
	/usr/lib/ganeti/tools/burnin "${left_out[@]}" "${unchecked[@]}" -o debootstrap+default -t file --disk-size=1100m,64m --disk-growth=128m,0 \
		--mem-size=128m --minmem-size=128m --maxmem-size=128m -H fake --no-nics --no-confd \
		--no-failover --no-migrate --no-move --no-replace1 --no-replace2 --no-add-disks --no-add-nics \
		-n node1.test -p --rename=inst33.test inst30.test inst31.test inst32.test
}
