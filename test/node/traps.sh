# What else an admin's node has, or has been left with; sourced by inside.
# shellcheck shell=bash disable=SC2154

# leftovers: as the shell provider's scripts leave them when they are killed.
leftovers() {
	local loop
	volume left 128m
	printf '2048,,L,*\n' | sfdisk -q --no-reread --no-tell-kernel --label dos /dev/xenvg/left
	loop=$(losetup --show -f /dev/xenvg/left)
	kpartx -a -s -p- "$loop"
	dmsetup ls
	$program doctor >/root/doctor || true
	cat /root/doctor
	grep "^warning.*/dev/mapper/$(basename "$loop")-1 keeps $loop .*kpartx -d" /root/doctor
	grep "^warning.*$loop keeps /dev/.*losetup -d" /root/doctor
	remedies
	kpartx -a -s -p- /dev/xenvg/left # as older ones did
	$program doctor >/root/doctor || true
	cat /root/doctor
	remedies
	lvremove -q -f xenvg/left
	clean
}

# remedies: do what doctor says, in its order; then it has nothing to say.
remedies() {
	grep -oE '`[^`]+`' <(grep -E 'xenvg|loop' /root/doctor) | tr -d '`' >/root/remedies
	[ -s /root/remedies ]
	bash -eux /root/remedies
	$program doctor | not grep -E '^(warning|fault).*(xenvg|loop)'
}

# guests_own LVM|md|btrfs: a guest that has that on its first partition, where ours will be.
guests_own() {
	local what=$1 loop second status
	lvremove -q -f xenvg/own xenvg/other || true
	volume own
	volume other
	echo 2048 | sfdisk -q --no-reread --no-tell-kernel --label dos /dev/xenvg/own
	# As the guest does it, which the node's udev and LVM don't see.
	truncate -s 500M /root/own
	case $what in
	LVM)
		loop=$(losetup --show -f /root/own)
		pvcreate -q "$loop" && vgcreate -q guestsvg "$loop" && lvcreate -q -y -n guestslv -L 100m guestsvg && vgchange -q -an guestsvg
		;;
	md)
		loop=$(losetup --show -f /root/own)
		mdadm --create /dev/md77 --run --metadata=1.2 --level=1 --raid-devices=2 "$loop" missing && mdadm --stop /dev/md77
		;;
	btrfs)
		truncate -s 500M /root/second
		second=$(losetup --show -f /root/second)
		loop=$(losetup --show -f /root/own)
		mkfs.btrfs -q -f -L guests -d raid1 -m raid1 "$loop" "$second"
		losetup -d "$second"
		rm /root/second
		;;
	esac
	sync
	udevadm settle
	losetup -d "$loop"
	dd if=/root/own of=/dev/xenvg/own bs=1M oflag=seek_bytes seek=1M conv=fsync status=none
	rm /root/own
	udevadm settle
	[ "$what" != btrfs ] || btrfs device scan --forget
	untouched
	(verb export /dev/xenvg/own >/root/own.export)
	untouched
	(verb import /dev/xenvg/other </root/own.export)
	untouched
	status=0
	(verb rename /dev/xenvg/own INSTANCE_NAME=inst2.test) || status=$?
	[ "$status" = 1 ]
	untouched
	$program inspect /dev/xenvg/own
	not $program grow /dev/xenvg/own
	untouched
	(verb create /dev/xenvg/own "OSP_SUITE=$tiny_suite")
	untouched
	holds msdos ext4 inst1.test /dev/xenvg/own
	lvremove -q -f xenvg/own xenvg/other
	rm /root/own.export
	clean
}

# untouched: nothing of the guest's is active, and the disks are free.
untouched() {
	udevadm settle
	dmsetup ls | not grep guestsvg
	not grep '^md' /proc/mdstat
	not vgs guestsvg
	[ "$(dmsetup info -c --noheadings -o open xenvg-own xenvg-other | sort -u)" = 0 ]
}

# multipath: the disk is a map over a volume, as over a path; nobody may use the path.
multipath() {
	local status=0
	on_lvm
	guest
	modprobe dm-multipath
	dmsetup create look --table "0 $(blockdev --getsz "$disk") multipath 2 queue_mode bio 0 1 1 round-robin 0 1 1 $disk 100"
	(verb rename "$disk" 2>/root/log) || status=$?
	cat /root/log
	[ "$status" = 1 ]
	tail -n 1 /root/log | grep -E "look|dm-"
	disk=/dev/mapper/look
	is_free() { [ "$(dmsetup info -c --noheadings -o open look)" = 0 ]; }
	all_verbs
	dmsetup remove look
	clean
}

# all_verbs [may-fail]: on a tiny guest; each works, or says why, and leaves nothing.
all_verbs() {
	local name status
	for name in create export import rename; do
		status=0
		from=/dev/shm/tiny.export
		[ -s "$from" ] || cp /root/tiny.export "$from"
		(verb "$name" "$disk" "OSP_SUITE=$tiny_suite" <"$from" >/dev/shm/out 2>/dev/shm/log) || status=$?
		cat /dev/shm/log
		clean
		is_free
		echo "NOTE $name: exit status $status"
		if [ "$status" != 0 ]; then
			[ "${1:-}" = may-fail ]
			tail -n 1 /dev/shm/log | grep -iE 'no space|read-only'
		fi
	done
	[ "${1:-}" = may-fail ] || holds msdos ext4 inst1.test "$disk"
}

full_root() {
	on_lvm
	guest
	trap 'rm -f /root/full' EXIT
	fallocate -l "$(($(df --output=avail -B1 / | tail -n 1) - (4 << 20)))" /root/full || true
	cat /dev/zero >>/root/full || true
	all_verbs may-fail
}

# read_only_root: as after an I/O error.
read_only_root() {
	on_lvm
	guest
	echo u >/proc/sysrq-trigger
	sleep 5
	not touch /root/written
	all_verbs may-fail
}

wrong_clock() {
	local year boot
	boot=$(($(date +%s) - $(cut -d. -f1 /proc/uptime)))
	# shellcheck disable=SC2064 # boot as it is now
	trap "date -s @\$(($boot + \$(cut -d. -f1 /proc/uptime)))" EXIT
	on_lvm
	guest
	for year in 1971 2037; do
		date -s "$year-06-01"
		all_verbs
	done
}

apparmor() {
	[ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ]
	grep enforce /sys/kernel/security/apparmor/profiles
	echo "NOTE $(grep -c enforce /sys/kernel/security/apparmor/profiles) profiles enforced"
	on_lvm
	guest
	all_verbs
	journalctl -k | not grep 'apparmor="DENIED"'
}
