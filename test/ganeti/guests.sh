# Guests that Ganeti's kvm hypervisor starts, the processor emulated, and that are
# reached by ssh; sourced, never run. The caller has sourced cluster.sh.
# shellcheck shell=bash

key=/srv/admins-key
known=/srv/known-hosts
kvm=${kvm:-/usr/bin/qemu-system-x86_64}
look_every=${look_every:-0.5} # seconds, of within
boot_patience=${boot_patience:-360} # seconds

# guests_up: what Ganeti's kvm needs of this node, and its network "lan", in which
# the node is the gateway.
guests_up() {
	# The bridges of this network namespace.
	mount -t sysfs sysfs /sys
	# A KVM that doesn't work here ends QEMU.
	[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm
	ip link add br0 type bridge
	ip addr add 192.0.2.1/24 dev br0
	ip link set br0 up
	mkdir -p "$known"
	ssh-keygen -q -t ed25519 -N '' -C admin -f "$key"
	# Ganeti's kvm wants a PCI bus of the name that pc has; /usr/bin/kvm would ask for KVM.
	gnt-cluster modify --enabled-hypervisors=fake,kvm --hypervisor-parameters="kvm:$(paste -sd, <<-END
	kvm_path=$kvm
	kvm_flag=disabled
	cpu_type=max
	machine_version=pc
	kernel_path=
	serial_console=true
	vnc_bind_address=
	vhost_net=false
	END
	)"
	gnt-network add --network=192.0.2.0/24 --gateway=192.0.2.1 lan
	gnt-network connect --nic-parameters=mode=bridged,link=br0 lan
}

# add_guest NAME IP [OPTIONS...]: a new instance that boots by itself, not started yet.
add_guest() {
	local name=$1 ip=$2; shift 2
	gnt-instance add --disk-template=file --no-ip-check --no-name-check --ignore-ipolicy --node=node1.test \
		--hypervisor=kvm --backend-parameters=memory=768M,vcpus=2 --no-start --os-type=debootstrap+default \
		--disk=0:size=3g -O "ssh_authorized_keys=$key.pub" --net="0:network=lan,ip=$ip" "$@" "$name"
}

# on IP COMMAND...: as root by ssh. The guest's host keys stay those that were seen
# first, until forget.
on() {
	local ip=$1; shift
	ssh -n -q -i "$key" -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15 -o ServerAliveCountMax=8 \
		-o StrictHostKeyChecking=accept-new -o "UserKnownHostsFile=$known/$ip" "root@$ip" "$@"
}

forget() { rm -f "$known/$1"; }

# within SECONDS COMMAND...: until it succeeds.
within() {
	local - seconds=$1 until=$((SECONDS + $1)); shift
	set +x # a line for each look says nothing
	while [ "$SECONDS" -lt "$until" ]; do
		! "$@" || return 0
		sleep "$look_every"
	done
	echo "not within $seconds s: $*"
	return 1
}

# reached IP: sshd takes the admin's key, and the system has started without a failure.
reached() {
	within "$boot_patience" on "$1" true
	on "$1" 'systemctl is-system-running --wait || { systemctl --failed --no-legend --plain; journalctl -b -p err --no-pager; false; }'
}

# boot_id IP: which of its boots this is, as journalctl names it.
boot_id() { on "$1" sed s/-//g /proc/sys/kernel/random/boot_id; }

state_of() { gnt-instance list --no-headers -o status "$1"; }

# root_at DISK: where its last partition, the root, begins, in bytes.
root_at() { sfdisk --json "$1" | jq '.partitiontable.partitions[-1].start * 512'; }

# root_is_clean NAME: what e2fsprogs say of the root of an instance that is down:
# unmounted, no journal to replay, and no fault.
root_is_clean() {
	local disk root head
	disk=$(disk_of "$1")
	root="$disk?offset=$(root_at "$disk")"
	head=$(debugfs -R 'show_super_stats -h' "$root") # dumpe2fs of 1.47.2 takes no offset
	grep -E '^Filesystem state: +clean$' <<<"$head"
	[[ $head != *needs_recovery* ]]
	e2fsck -fn "$root"
}

# on_root NAME COMMAND...: with the root of an instance that is down mounted
# on /srv/roots/NAME, read-only.
on_root() {
	local disk status=0 folder=/srv/roots/$1
	disk=$(disk_of "$1"); shift
	mkdir -p "$folder"
	mount -o "ro,loop,offset=$(root_at "$disk")" "$disk" "$folder"
	"$@" || status=$?
	umount "$folder"
	return "$status"
}

# journal_of NAME: what the last boot of an instance that is down has written,
# read by the node.
journal_of() { on_root "$1" journalctl -D "/srv/roots/$1/var/log/journal" -b --no-pager -o cat; }

# ended_in_order TARGET: the journal of a boot, on standard input, tells that systemd
# has stopped everything, for poweroff or reboot, and then journald.
ended_in_order() {
	local messages
	messages=$(cat)
	tail -n 40 <<<"$messages"
	grep -E "^Reached target (shutdown.target - )?System Shutdown\.$" <<<"$messages"
	grep -E "^Reached target ($1.target - )?System (Power Off|Reboot)\.$" <<<"$messages"
	[ "$(tail -n 1 <<<"$messages")" = 'Journal stopped' ]
}

# shut_down NAME: by Ganeti, which presses the power button; in order, and long
# before Ganeti's patience, 120 s, has ended.
shut_down() {
	local began=$SECONDS messages
	gnt-instance shutdown "$1"
	[ $((SECONDS - began)) -lt 60 ]
	[ "$(state_of "$1")" = ADMIN_down ]
	was_shut_down "$1"
}

# was_shut_down NAME: what an instance that is down tells of its end.
was_shut_down() {
	local messages
	root_is_clean "$1"
	messages=$(journal_of "$1")
	grep -E '^Power key pressed' <<<"$messages"
	ended_in_order poweroff <<<"$messages"
}
