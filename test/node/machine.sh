# Nodes as admins have them: Debian's own kernel, with systemd, udev, device-mapper, LVM,
# DRBD and Ganeti, emulated by QEMU. Sourced by run, never run. The caller has set work, the
# folder of images and logs, program, the one that makes the nodes, suite, and arch, of the nodes.
# shellcheck shell=bash disable=SC2154

packages=ganeti,lvm2,mdadm,drbd-utils,dbus,apparmor,debootstrap,mmdebstrap,qemu-utils,dmsetup,kpartx,dump,fdisk,gdisk,xfsprogs
packages+=,btrfs-progs,iproute2,procps,psmisc,python3,jq,attr,acl,zstd,socat,openssh-server

# make_image: the node's image, node.img, and in it the tree of its guests, so that nothing
# is bootstrapped under emulation.
make_image() {
	mkdir -p "$work/hooks" "$work/guests"
	rm -f "$work/key" # of a try that failed
	ssh-keygen -q -t ed25519 -N '' -f "$work/key"
	export CUSTOMIZE_DIR='' SUITE=$suite MIRROR=$mirror ARCH=$arch
	CACHE_DIR=$work/guests BOOTLOADER=none "$program" cache warm
	cat >"$work/hooks/50-node" <<-END
		#!/bin/bash
		set -eu
		install -D -m 444 $work/guests/cache-$suite-*.tar "\$TARGET/var/cache/ganeti-instance-debootstrap/cache-$suite-$arch.tar"
		cp -r $here/image/. "\$TARGET/"
		{
			echo "127.0.0.1 localhost"
			echo "10.77.0.1 node1.test node1"
			echo "10.77.0.2 node2.test node2"
			echo "10.77.0.9 cluster.test cluster"
			for i in \$(seq 30); do echo "10.77.0.\$((100 + i)) inst\$i.test inst\$i"; done
		} >"\$TARGET/etc/hosts"
		chroot "\$TARGET" systemctl enable systemd-networkd
		# What runs by the clock would only take time.
		chroot "\$TARGET" systemctl mask apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service man-db.timer systemd-timesyncd.service
		rm "\$TARGET/etc/cron.d/ganeti"
	END
	chmod 755 "$work/hooks/50-node"
	CUSTOMIZE_DIR=$work/hooks CACHE_DIR=$work/cache "$program" install --size 14G --hostname node1.test --network none \
		--partition-style gpt --ssh-key "$work/key.pub" --extra-pkgs "$packages" "$work/new.img"
	mv "$work/new.img" "$work/node.img"
}

# on N COMMAND...: a command on a node.
on() {
	local n=$1; shift
	ssh -q -i "$work/key" -p "$((port + n))" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=20 \
		-o ServerAliveInterval=60 -o ServerAliveCountMax=15 -o ControlMaster=auto -o ControlPersist=yes -o "ControlPath=$work/ssh$n" root@127.0.0.1 "$@"
}

# start N [QEMU OPTION...]: a node with new disks: two of its own, of which the second has
# sectors of 4096 bytes, and a wire to the other node; node 1 is to be started first.
start() {
	local n=$1 wire=connect=127.0.0.1:$port machine code; shift
	[ "$n" != 1 ] || wire=listen=127.0.0.1:$port
	qemu-img create -q -f qcow2 -b node.img -F raw "$work/root$n.qcow2"
	rm -f "$work"/data"$n"*
	truncate -s 24G "$work/data$n" "$work/data$n.4k"
	machine=(qemu-system-x86_64 -M q35)
	case $arch-${NODE_FIRMWARE:-bios} in
	amd64-uefi) cp /usr/share/OVMF/OVMF_VARS_4M.fd "$work/vars$n"; code=/usr/share/OVMF/OVMF_CODE_4M.fd ;;
	arm64-*)
		machine=(qemu-system-aarch64 -M virt)
		cp /usr/share/AAVMF/AAVMF_VARS.fd "$work/vars$n"; code=/usr/share/AAVMF/AAVMF_CODE.fd ;;
	esac
	[ -z "${code:-}" ] || machine+=(-drive "if=pflash,format=raw,readonly=on,file=$code" -drive "if=pflash,format=raw,file=$work/vars$n")
	"${machine[@]}" -accel "${NODE_ACCEL:-tcg,thread=multi}" -cpu max -smp 2 -m 3G \
		-drive "file=$work/root$n.qcow2,format=qcow2,if=none,id=root,cache=unsafe" \
		-drive "file=$work/data$n,format=raw,if=none,id=data,cache=unsafe,discard=unmap" \
		-drive "file=$work/data$n.4k,format=raw,if=none,id=sectors,cache=unsafe,discard=unmap" \
		-device virtio-blk-pci,drive=root,bootindex=1 -device virtio-blk-pci,drive=data,serial=data \
		-device virtio-blk-pci,drive=sectors,serial=sectors,logical_block_size=4096,physical_block_size=4096 \
		-nic "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:$((port + n))-:22,mac=52:54:00:77:00:0$n" \
		-nic "socket,model=virtio-net-pci,$wire,mac=52:54:00:77:01:0$n" \
		-display none -serial "file:$work/console$n" -monitor "unix:$work/monitor$n,server,nowait" \
		-pidfile "$work/pid$n" -daemonize "$@"
	is_up "$n"
	on "$n" hostnamectl set-hostname "node$n.test"
	hand_over "$n"
	on "$n" /root/node/inside set_up
}

# hand_over N: the checks, and the package.
hand_over() {
	on "$1" mkdir -p /root/node
	tar -c -C "$here" inside ganeti.sh ends.sh traps.sh libvirt.sh -C ../ganeti cluster.sh -C "$work" package.deb | on "$1" tar -x -C /root/node
}

# is_up N: ssh answers, and the node has started all that it starts.
is_up() {
	local n=$1
	for _ in $(seq 60); do
		! timeout 60 ssh -q -o "ControlPath=$work/ssh$n" -O exit root@127.0.0.1 2>/dev/null
		! on "$n" true || break
		sleep 5
	done
	on "$n" systemctl is-system-running --wait || { on "$n" systemctl --failed; return 1; }
}

# power_cut N: as if the node's reset button were pressed.
power_cut() {
	echo system_reset | socat - "UNIX-CONNECT:$work/monitor$1" >/dev/null
	ssh -q -o "ControlPath=$work/ssh$1" -O exit root@127.0.0.1 2>/dev/null || true
	is_up "$1"
}

# runs N: a node does already.
runs() { [ -s "$work/pid$1" ] && [[ $(readlink "/proc/$(cat "$work/pid$1")/exe") == *qemu-system* ]]; }

# take_down: the nodes, and their disks.
# shellcheck disable=SC2317 # run by the trap
take_down() {
	local file
	[ -z "${NODE_IMAGE:-}" ] || return 0
	for file in "$work"/pid*; do
		[ ! -s "$file" ] || kill "$(cat "$file")" 2>/dev/null || true
	done
	rm -rf --one-file-system "$work"
}
