# Guests of libvirt's, whose QEMU AppArmor confines; sourced by inside. They are emulated by an
# emulated node: that QEMU has started, and the first lines of a console, is what most checks wait for.
# shellcheck shell=bash disable=SC2154

# install_libvirt: as an admin does it, with a pool of files and one of LVM, of which Debian's
# package makes none.
install_libvirt() {
	one_processor
	apt-get -q update
	DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install libvirt-daemon-system libvirt-clients qemu-system-x86 ovmf
	virsh capabilities | grep '<model>apparmor</model>'
	virsh pool-info default || virsh pool-define-as default dir --target /var/lib/libvirt/images
	virsh pool-info xenvg || virsh pool-define-as xenvg logical --source-name xenvg --target /dev/xenvg
	for pool in default xenvg; do
		virsh pool-info $pool | grep running || virsh pool-start $pool
		virsh pool-autostart $pool
	done
	printf '#!/bin/sh\necho first-boot was here\n' >/root/first-boot
	echo "NOTE libvirt $(dpkg-query -W -f '${Version}' libvirt-daemon-system), QEMU $(dpkg-query -W -f '${Version}' qemu-system-x86)"
	$program doctor | tee /root/doctor
	not grep '^fault' /root/doctor
}

# one_processor: from now on, and when the node starts again. Guests have the node's KVM, which QEMU
# emulates (SVM): with two, both were seen stuck in the node's kernel (soft lockup) at a guest's start.
one_processor() {
	echo 'w /sys/devices/system/cpu/cpu1/online - - - - 0' >/etc/tmpfiles.d/one-processor.conf
	systemd-tmpfiles --create /etc/tmpfiles.d/one-processor.conf
	[ "$(nproc)" = 1 ]
}

# create NAME OPTION...: a guest of the tree in /root/vm-trees, with a credential, that is started.
create() {
	local name=$1; shift
	! virsh domuuid "$name" || $program vm remove --yes --stop --stop-time 0s "$name" # of a check that failed
	install -m 600 /dev/null /root/token
	echo tell-nobody >/root/token
	CACHE_DIR=/root/vm-trees $program vm create --user-net --root-size 3G --memory 256M --credential site.token=/root/token --start "$@" "$name"
}

# credential NAME: the file of it.
credential() { echo "/var/lib/libvirt/instance-debootstrap/$(virsh domuuid "$1")/site.token"; }

# guest_life NAME DISKS OPTION...: made, started, stopped, mounted, grown, its boot record made anew,
# started with another credential after libvirtd's own restart, removed. DISKS are its volumes, with commas.
guest_life() {
	local name=$1 disks=$2 since uuid file disk; shift 2
	since=$(date '+%F %T')
	create "$name" "$@"
	uuid=$(virsh domuuid "$name")
	file=$(credential "$name")
	is_confined "$name" "$disks"
	begins "$name"
	$program vm stop --force "$name"
	[ "$(stat -c '%U %a' "$file")" = 'root 600' ]
	$program vm mount "$name"
	grep "^$name" "/mnt/$name/etc/hostname"
	[[ "$*" != *--first-boot* ]] || cmp /root/first-boot "/mnt/$name/var/lib/instance-debootstrap/first-boot"
	not grep -r tell-nobody "/mnt/$name/etc" "/mnt/$name/var/lib/instance-debootstrap"
	$program vm umount "$name"
	$program vm grow --root-size +100M "$name"
	$program vm grub "$name"
	echo another >"$file"
	systemctl restart libvirtd
	$program vm start "$name"
	is_confined "$name" "$disks"
	begins "$name"
	not $program vm remove --yes "$name"
	$program vm remove --yes --stop --stop-time 0s "$name"
	for disk in ${disks//,/ }; do [ ! -e "$disk" ]; done
	is_gone "$uuid"
	nothing_denied "$since"
	clean
}

# is_confined NAME DISKS: QEMU runs by a profile of the domain's own, which has its disks and its
# credential, it has the disks open, and the credential is its own.
is_confined() {
	local pid disk uuid
	pid=$(cat "/run/libvirt/qemu/$1.pid")
	uuid=$(virsh domuuid "$1")
	grep "^libvirt-$uuid (enforce)" "/proc/$pid/attr/current"
	for disk in ${2//,/ }; do
		grep -F "\"$(realpath "$disk")\" rwk," "/etc/apparmor.d/libvirt/libvirt-$uuid.files" ||
			grep -F "\"$disk\" rwk," "/etc/apparmor.d/libvirt/libvirt-$uuid.files"
		find "/proc/$pid/fd" -lname "*/$(basename "$(realpath "$disk")")" | grep . # /dev is of its own
	done
	grep -F "\"$(credential "$1")\" r," "/etc/apparmor.d/libvirt/libvirt-$uuid.files"
	[ "$(stat -c '%U %a' "$(credential "$1")")" = 'libvirt-qemu 600' ]
}

# begins NAME: its GRUB has come from its disk.
begins() {
	local since=$SECONDS
	for _ in $(seq 90); do
		! grep -a -q 'GNU GRUB' "/var/log/libvirt/qemu/$1.console" || { echo "NOTE $1's GRUB after $((SECONDS - since)) s"; return 0; }
		sleep 10
	done
	tail -c 2000 "/var/log/libvirt/qemu/$1.console"
	return 1
}

# is_gone UUID: of its domain, nothing is left that says anything.
is_gone() {
	[ ! -e "/var/lib/libvirt/instance-debootstrap/$1" ]
	not grep "libvirt-$1" /sys/kernel/security/apparmor/profiles
}

# nothing_denied SINCE: to no QEMU, nor to the helper that makes its profile.
nothing_denied() { journalctl -k --since "$1" | not grep 'apparmor="DENIED"'; }

# to_restart: guests that start with the node, and one that doesn't.
to_restart() {
	create vm4 --vg xenvg --swap-size 64M
	create vm5 --layout single --firmware uefi
	create vm6 --layout single --no-autostart
	virsh list --name --autostart
}

# restarted: they are there again, as confined as before.
restarted() {
	for _ in $(seq 60); do
		! virsh list --name | grep vm4 || ! virsh list --name | grep vm5 || break
		sleep 5
	done
	is_confined vm4 /dev/xenvg/vm4-boot,/dev/xenvg/vm4-root,/dev/xenvg/vm4-swap
	is_confined vm5 /var/lib/libvirt/images/vm5
	[ "$(virsh domstate vm6)" = 'shut off' ]
	clean
	$program doctor | tee /root/doctor
	not grep '^fault' /root/doctor
}

# removed_after_restart: each, with what it had.
removed_after_restart() {
	local name uuid
	$program vm start vm6
	is_confined vm6 /var/lib/libvirt/images/vm6
	for name in vm4 vm5 vm6; do
		uuid=$(virsh domuuid "$name")
		$program vm remove --yes --stop --stop-time 0s "$name"
		is_gone "$uuid"
	done
	[ ! -e /var/lib/libvirt/instance-debootstrap ]
	virsh vol-list xenvg | not grep vm4
	clean
}

# guest_boots: to its end, which takes long.
guest_boots() {
	local since file
	since=$(date '+%F %T')
	[ -s /root/.ssh/id_check ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_check
	create vm7 --vg xenvg --swap-size 64M --first-boot /root/first-boot --ssh-key /root/.ssh/id_check.pub --wait --wait-time 60m
	file=$(credential vm7)
	[ "$($program vm ssh -i /root/.ssh/id_check vm7 systemd-creds --system cat site.token)" = tell-nobody ]
	$program vm ssh -i /root/.ssh/id_check vm7 'until grep here /var/log/instance-debootstrap-first-boot.log; do sleep 5; done'
	$program vm stop --stop-time 10m vm7
	[ "$(stat -c %U "$file")" = root ]
	$program vm remove --yes vm7
	nothing_denied "$since"
	clean
}
