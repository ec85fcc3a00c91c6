# Guests of libvirt's, whose QEMU AppArmor confines; sourced by inside.
# shellcheck shell=bash disable=SC2154

# install_libvirt: as an admin does it, with a pool of files and one of LVM, of which Debian's
# package makes none.
install_libvirt() {
	apt-get -q update
	DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install libvirt-daemon-system libvirt-clients qemu-system-x86 ovmf
	virsh capabilities | grep '<model>apparmor</model>'
	virsh pool-info default || virsh pool-define-as default dir --target /var/lib/libvirt/images
	virsh pool-info xenvg || virsh pool-define-as xenvg logical --source-name xenvg --target /dev/xenvg
	for pool in default xenvg; do
		virsh pool-info $pool | grep running || virsh pool-start $pool
		virsh pool-autostart $pool
	done
}

# confined_guests: of both kinds of pools and of firmware, from the tree in /root/vm-trees.
confined_guests() {
	local since
	since=$(date '+%F %T')
	install -m 600 /dev/null /root/token
	echo tell-nobody >/root/token
	printf '#!/bin/sh\ntrue\n' >/root/first-boot
	guest_life vm1 /var/lib/libvirt/images/vm1 --layout single --firmware uefi --graphics vnc --disk 64M,mount=/srv
	guest_life vm2 /dev/xenvg/vm2-root --vg xenvg --swap-size 64M --first-boot /root/first-boot
	journalctl -k --since "$since" | not grep 'apparmor="DENIED"'
	clean
}

# guest_life NAME ROOT OPTION...: made, started, stopped, mounted, grown, started with another
# credential, removed.
guest_life() {
	local name=$1 root=$2 uuid file; shift 2
	CACHE_DIR=/root/vm-trees $program vm create --user-net --root-size 3G --memory 256M --credential "site.token=/root/token" --start "$@" "$name"
	uuid=$(virsh domuuid "$name" | head -n 1)
	file=/var/lib/libvirt/instance-debootstrap/$uuid/site.token
	is_confined "$name" "$root" "$file"
	$program vm stop --force "$name"
	[ "$(stat -c '%U %a' "$file")" = 'root 600' ]
	$program vm mount "$name"
	grep "^$name" "/mnt/$name/etc/hostname"
	$program vm umount "$name"
	$program vm grow --root-size +100M "$name"
	echo another >"$file"
	systemctl restart libvirtd
	$program vm start "$name"
	is_confined "$name" "$root" "$file"
	$program vm remove --yes --stop --stop-time 0s "$name"
	[ ! -e "$file" ]
	not grep "libvirt-$uuid" /sys/kernel/security/apparmor/profiles
}

# is_confined NAME ROOT FILE: QEMU runs by a profile of the domain's own, has the root open, and
# the credential is its own.
is_confined() {
	local pid
	pid=$(cat "/run/libvirt/qemu/$1.pid")
	grep "^libvirt-$(virsh domuuid "$1" | head -n 1) (enforce)" "/proc/$pid/attr/current"
	find "/proc/$pid/fd" -lname "*/$(basename "$(realpath "$2")")" | grep . # /dev is of its own
	[ "$(stat -c '%U %a' "$3")" = 'libvirt-qemu 600' ]
}
