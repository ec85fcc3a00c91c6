# Hooks. Sourced by run, for the texts, and by row.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # variables of provider.sh and of the hooks
section "Hooks, and what is left of a run"

# tell NAME [TEXT]: a hook that writes the text, or its own name, to /srv/told.
tell() { printf '#!/bin/sh\necho "%s" >>/srv/told\n' "${2:-$1}" | hook "$1"; }

# told: what the hooks wrote.
told() { if [ -e /srv/told ]; then paste -sd' ' /srv/told; else echo nothing; fi; }

row hook-order 'in which order hooks run: 20-b, 10-a, Z, a, 9'
row-hook-order() {
	admin_tree
	local name
	for name in 20-b 10-a Z a 9; do tell "$name"; done
	create
	outcome "$(told)"
}

row hook-names 'which hooks run: run.sh, run~, run_it, .hidden, a folder, a file without x, a link, mode 0555'
row-hook-names() {
	admin_tree
	local name
	for name in run.sh run~ run_it .hidden plain readonly; do tell "$name"; done
	chmod -x "$conf/hooks/plain"
	chmod 555 "$conf/hooks/readonly"
	mkdir "$conf/hooks/folder"
	printf '#!/bin/sh\necho link >>/srv/told\n' >/srv/elsewhere
	chmod 755 /srv/elsewhere
	ln -s /srv/elsewhere "$conf/hooks/link"
	create
	outcome "$(told)"
}

row hook-fails 'the first of three hooks fails'
row-hook-fails() {
	admin_tree
	hook 1-first <<<'#!/bin/sh
exit 3'
	tell 2-second
	tell 3-third
	create
	outcome "$(told)" "$(left)"
}

row hook-failure-named 'what is said last when 1-first failed of three hooks' \
	'Ganeti shows the last 20 lines: the failing hooks are named there.'
row-hook-failure-named() {
	admin_tree
	hook 1-first <<<'#!/bin/sh
exit 3'
	tell 2-second 'x'
	hook 3-noisy <<<'#!/bin/sh
seq 1000 1030'
	create
	outcome "$(tail -n 20 "$log" | grep -q 1-first && echo 'names the hook' || echo 'does not name it')"
}

row hook-traced 'the last line, when a bash -x hook fails that cleans up with common.sh' \
	'It has the reason, and not what the shell traced while it cleaned up.'
row-hook-traced() {
	admin_tree
	hook traced <<<'#!/bin/bash -x
set -e
. common.sh
CLEANUP=("true one" "true two")
trap cleanup EXIT
cat /no/such/licence'
	create
	outcome "$(tail -n 1 "$log" | grep -q 'licence: No such file' && echo 'says why' || echo 'does not say why')"
}

row hook-surroundings "a hook's folder, \$0, standard input and umask"
row-hook-surroundings() {
	admin_tree
	hook look <<<'#!/bin/sh
echo "$PWD" "$0" "$(wc -c)" "$(umask)" >/srv/told'
	create
	outcome "$(told)"
}

row hook-variables 'TARGET BLOCKDEV FSYSDEV SUITE PARTITION_STYLE EXTRA_PKGS and ARCH (set, empty)'
row-hook-variables() {
	settings EXTRA_PKGS=acl,less
	admin_tree
	hook look <<<'#!/bin/sh
mountpoint -q "$TARGET" && echo mounted >>/srv/told
[ "$BLOCKDEV" = "$FSYSDEV" ] && [ -b "$BLOCKDEV" ] && echo whole disk >>/srv/told
echo "$SUITE" "$PARTITION_STYLE" "$EXTRA_PKGS" "${ARCH-unset}." >>/srv/told'
	create
	outcome "$(told)"
}

row hook-ganeti-variables "Ganeti's own variables reach hooks"
row-hook-ganeti-variables() {
	admin_tree
	give OSP_COLOUR=green
	hook look <<<'#!/bin/sh
echo "$INSTANCE_NAME $NIC_0_IP $INSTANCE_HV_serial_console $OSP_COLOUR $OS_API_VERSION" >>/srv/told'
	create
	outcome "$(told)"
}

row hook-exported 'export SITE=lab in the defaults file; DESK=4 without export'
row-hook-exported() {
	settings 'export SITE=lab' DESK=4
	admin_tree
	hook look <<<'#!/bin/sh
echo "${SITE-unset} ${DESK-unset}" >>/srv/told'
	create
	outcome "$(told)"
}

row hook-mirror 'MIRROR and COMPONENTS in hooks' \
	'Hooks that install packages need them.'
row-hook-mirror() {
	settings COMPONENTS=main
	admin_tree
	hook look <<<'#!/bin/sh
echo "${MIRROR-unset} ${COMPONENTS-unset}" >>/srv/told'
	create
	outcome "$(told)"
}

row hook-proxy-miss 'PROXY, as http_proxy, in hooks, nothing cached'
row-hook-proxy-miss() {
	settings PROXY=http://proxy.example:3128/
	fake_bootstrap
	hook look <<<'#!/bin/sh
echo "${http_proxy-unset} ${https_proxy-unset}" >>/srv/told'
	create
	outcome "$(told)"
}

row hook-proxy-hit 'PROXY, as http_proxy, in hooks, the tree is cached' \
	'Whether a hook reaches the archive must not depend on the cache.'
row-hook-proxy-hit() {
	settings PROXY=http://proxy.example:3128/
	admin_tree
	hook look <<<'#!/bin/sh
echo "${http_proxy-unset} ${https_proxy-unset}" >>/srv/told'
	create
	outcome "$(told)"
}

row hook-common '. common.sh in a hook, with set -e'
row-hook-common() {
	settings DESK=4
	admin_tree
	hook look <<<'#!/bin/bash
set -e
. common.sh
CLEANUP=( )
trap cleanup EXIT
CLEANUP+=("echo second")
CLEANUP+=("echo first")
log_error "said"
for name in map_disk0 unmap_disk0 format_disk0 cleanup; do type -t $name; done >>/srv/told
echo "${#VOL_ID} $DESK $SUITE" | sed "s/^[1-9][0-9]*/VOL_ID/" >>/srv/told'
	create
	outcome "$(told)" "$(grep -c '' "$log" >/dev/null; grep -oE 'said|first|second' "$log" | paste -sd' ')"
}

row hook-disk-path "DISK_0_PATH in a hook, when the disk is a file" \
	'A hook that writes to it would destroy the disk under its loop device.'
row-hook-disk-path() {
	admin_tree
	hook look <<<'#!/bin/sh
[ "$DISK_0_PATH" = "$BLOCKDEV" ] && echo BLOCKDEV >>/srv/told || echo "$DISK_0_PATH" >>/srv/told'
	create
	outcome "$(told)"
}

row hook-writes-disk 'a hook writes boot code with cat >"$DISK_0_PATH", when the disk is a file' \
	'The code is written where it should be, and the rest of the disk stays.'
row-hook-writes-disk() {
	admin_tree
	hook boot <<<'#!/bin/sh
echo "boot code" | cat >"$DISK_0_PATH"'
	create
	outcome "the code is $(head -c 9 "$disk" | grep -qa 'boot code' && echo there || echo lost)" \
		"$(e2fsck -fn "$disk" >/dev/null 2>&1 && guest test -s "$root/etc/fstab" && echo 'the guest is whole' || echo 'the guest is gone')"
}

row hook-writes-block-disk 'a hook that has read BLOCKDEV writes boot code to $DISK_0_PATH, when the disk is a block device'
row-hook-writes-block-disk() {
	admin_tree
	new_disk "$disk" 600
	local device
	device=$(losetup --show -f "$disk")
	give DISK_0_PATH="$device" DISK_0_BACKEND_TYPE=block
	hook boot <<<'#!/bin/sh
head -c 1M "$BLOCKDEV" >/dev/null
echo "boot code" | dd of="$DISK_0_PATH" conv=notrunc status=none
head -c 9 "$BLOCKDEV" | grep -a "boot code" >>/srv/told'
	script create
	losetup -d "$device"
	outcome "through BLOCKDEV $(told)" "on the disk $(head -c 9 "$disk" | grep -a 'boot code')"
}

row hook-target-size 'what a hook sees on TARGET'
row-hook-target-size() {
	admin_tree
	hook look <<<'#!/bin/sh
[ "$(stat -c %d "$TARGET")" = "$(stat -L -c "%Hr:%Lr" "$FSYSDEV" | awk -F: "{print \$1 * 256 + \$2}")" ] && echo FSYSDEV >>/srv/told
cat "$TARGET/etc/hostname" >>/srv/told'
	create
	outcome "$(told)"
}

row hook-grub-settings "what update-grub reads of a hook's /etc/default/grub, xen-pvm with pygrub"
row-hook-grub-settings() {
	admin_tree
	give HYPERVISOR=xen-pvm INSTANCE_HV_use_bootloader=True
	hook grub <<<'#!/bin/sh
mkdir -p "$TARGET/etc/default"
printf "GRUB_TIMEOUT=7\nGRUB_TERMINAL=console\nGRUB_CMDLINE_LINUX=\"console=hvc0 quiet\"\n" >>"$TARGET/etc/default/grub"'
	create
	outcome "$(guest sh -e -c 'for file in "$0"/etc/default/grub "$0"/etc/default/grub.d/*.cfg; do [ ! -e "$file" ] || . "$file"; done
echo "$GRUB_TIMEOUT, $GRUB_TERMINAL, $GRUB_CMDLINE_LINUX"' "$root")"
}

row hook-legacy-menu "a hook's grub.cfg in GRUB legacy's syntax, linked as menu.lst, xen-pvm with pygrub"
row-hook-legacy-menu() {
	tree_with boot/vmlinuz-6 kernel
	cp "/srv/more/boot/vmlinuz-6" /srv/more/boot/initrd.img-6
	tar -rf "$admin_tar" -C /srv/more ./boot/initrd.img-6
	give HYPERVISOR=xen-pvm INSTANCE_HV_use_bootloader=True
	hook menu <<<'#!/bin/sh
mkdir -p "$TARGET/boot/grub"
printf "default 0\ntitle mine\nkernel /boot/vmlinuz-6 root=/dev/xvda ro\n" >"$TARGET/boot/grub/grub.cfg"
ln -s grub.cfg "$TARGET/boot/grub/menu.lst"'
	create
	outcome "$(guest grep -h '^title' "$root/boot/grub/menu.lst" || echo 'the menu is gone')"
}

row hook-sys '/sys in TARGET, and a sysfs that a hook mounts there' \
	'Where a partition of a loop device begins is told by sysfs alone: grub-install in the guest asks there.'
row-hook-sys() {
	admin_tree
	hook look <<<'#!/bin/sh
[ -e "$TARGET/sys/class/block/${BLOCKDEV##*/}" ] && echo has BLOCKDEV, >>/srv/told || echo empty, >>/srv/told
mkdir -p "$TARGET/sys" && mount -t sysfs sysfs "$TARGET/sys" && umount "$TARGET/sys" && echo mounts its own >>/srv/told'
	create
	outcome "$(told)" "$(left)"
}

row hook-no-run-parts 'a node without run-parts' \
	'It is not needed.'
row-hook-no-run-parts() {
	mount --bind /dev/null /usr/bin/run-parts
	admin_tree
	tell only
	create
	outcome "$(told)"
}

row hook-daemon 'a hook leaves a daemon in TARGET' \
	'It is named, ended, and the disk let go.'
row-hook-daemon() {
	admin_tree
	hook daemon <<<'#!/bin/sh
cd "$TARGET"
setsid sleep 4321 >/dev/null 2>&1 &
sleep 0.5'
	create
	outcome "$(names sleep)" "$(left)"
}

row hook-daemon-output 'a hook leaves a daemon that still writes to the log' \
	'It is ended: nothing may go on after the script.'
row-hook-daemon-output() {
	admin_tree
	hook daemon <<<'#!/bin/sh
sleep 4321 &'
	local began=$SECONDS
	create
	outcome "$([ $((SECONDS - began)) -lt 20 ] && echo 'ends at once' || echo 'hangs')" "$(left)"
}

row hook-talks-much 'a hook that prints 10 MB in one line'
row-hook-talks-much() {
	admin_tree
	hook talker <<<'#!/bin/sh
head -c 10000000 /dev/zero | tr "\\0" x'
	create
	outcome "$(left)"
}

row hook-kills-users 'a hook ends whoever has something open on TARGET: fuser -k -TERM -m, kill $(lsof -t)'
row-hook-kills-users() {
	admin_tree
	hook kills <<<'#!/bin/sh
fuser -s -k -TERM -m "$TARGET"
for process in /proc/[0-9]*; do
	for file in "$process/root" "$process/cwd" "$process"/fd/*; do
		case $(readlink "$file") in "$TARGET" | "$TARGET"/*) kill "${process#/proc/}" ;; esac
	done
done
true'
	tell later
	create
	outcome "$(told)" "$(left)"
}

row hook-sees-node "a process of the node's, by its number, in a hook" \
	"A run has process numbers of its own, so that nothing of it is left behind. With NAMESPACE=host it is as with the scripts."
row-hook-sees-node() {
	admin_tree
	sleep 4321 &
	echo $! >/run/site.pid
	hook signals <<<'#!/bin/sh
[ "$(cat "/proc/$(cat /run/site.pid)/comm")" = sleep ] && kill "$(cat /run/site.pid)"
true'
	create
	sleep 0.2
	outcome "the process $(kill -0 "$(cat /run/site.pid)" 2>/dev/null && echo is there still || echo has got it)"
}

row hook-sees-node-host 'the same with NAMESPACE=host in the defaults file'
row-hook-sees-node-host() {
	settings NAMESPACE=host
	row-hook-sees-node
}

row hook-goes-on 'a process that a hook starts in the background for later: nohup sh -c "sleep 2; …" &' \
	'It is named in the log and ended: nothing may go on after the script.'
row-hook-goes-on() {
	admin_tree
	hook later <<<'#!/bin/sh
nohup sh -c "sleep 2; echo later >>/srv/told" >/dev/null 2>&1 </dev/null &'
	create
	sleep 3
	outcome "$(told)"
}

row hook-goes-on-host 'the same with NAMESPACE=host'
row-hook-goes-on-host() {
	settings NAMESPACE=host
	row-hook-goes-on
}

row hook-packs-target 'a hook packs TARGET: tar -C "$TARGET" -cf FILE .' \
	"TARGET/sys has a sysfs, whose files tar can't pack: with --one-file-system it packs the guest's."
row-hook-packs-target() {
	admin_tree
	hook packs <<<'#!/bin/sh
tar -C "$TARGET" -cf /srv/packed.tar .'
	create
	outcome "$([ -s /srv/packed.tar ] && echo 'there is a tar')"
}

row hook-packs-one-filesystem 'the same with --one-file-system'
row-hook-packs-one-filesystem() {
	admin_tree
	hook packs <<<'#!/bin/sh
tar -C "$TARGET" --one-file-system -cf /srv/packed.tar .'
	create
	outcome "it has $(tar -tf /srv/packed.tar ./etc/hostname)"
}

row hook-mount 'a hook leaves a mount in TARGET' \
	'It is undone, and the disk let go.'
row-hook-mount() {
	admin_tree
	hook mounts <<<'#!/bin/sh
mount -t tmpfs tmpfs "$TARGET/mnt"'
	create
	outcome "$(left)"
}

row success-leaves 'what is left after a good run'
row-success-leaves() { admin_tree; create; outcome "$(left)"; }

# while_hanging SIGNAL: send it to create while a hook hangs.
while_hanging() {
	admin_tree
	hook hang <<<'#!/bin/sh
touch /srv/hanging
sleep 4321'
	create &
	kill_when_hanging "$1"
	outcome "$(left)"
}

row killed 'SIGKILL while a hook runs' \
	'Private namespaces and self-clearing loop devices end with the process.'
row-killed() { while_hanging KILL; }

row terminated 'SIGTERM while a hook runs' \
	'An orderly end: everything is undone.'
row-terminated() { while_hanging TERM; }

# zone_hook: a hook that sets the time zone through the guest's own link, which leads to
# the node's file outside a chroot.
zone_hook() {
	echo 'the node has this' >/srv/zone
	tree_with etc/localtime-is ''
	hook zone <<<'#!/bin/sh
ln -sf /srv/zone "$TARGET/etc/localtime"
echo "the guest has that" >"$TARGET/etc/localtime"'
}

row hook-time-zone "a hook writes through the guest's absolute link /etc/localtime"
row-hook-time-zone() {
	zone_hook
	create
	outcome "$(cat /srv/zone)"
}

row hook-time-zone-protected 'the same with PROTECT_NODE=yes' \
	'The node is read-only to hooks then; the shell provider has no such setting.'
row-hook-time-zone-protected() {
	zone_hook
	settings PROTECT_NODE=yes
	create
	outcome "$(cat /srv/zone)"
}
