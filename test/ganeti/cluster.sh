# A one-node Ganeti cluster on the node that this shell is on; sourced, never run.
# shellcheck shell=bash

# cluster_up [OPTIONS...]: a cluster for file disks and Ganeti's fake hypervisor, unless
# the options of gnt-cluster init say otherwise; its addresses are on the node's own
# loopback.
cluster_up() {
	local i
	hostname node1.test
	ip addr add 10.77.0.1/32 dev lo
	ip route add unreachable 10.77.0.0/24
	{
		echo "127.0.0.1 localhost"
		echo "10.77.0.1 node1.test node1"
		echo "10.77.0.2 cluster.test cluster"
		for i in $(seq 40); do echo "10.77.0.$((100 + i)) inst$i.test inst$i"; done
	} >/etc/hosts
	mkdir -p /srv/file-storage
	echo /srv/file-storage >/etc/ganeti/file-storage-paths
	# A cluster of the machine's own, if there is one, is not this node's.
	rm -rf /var/lib/ganeti/* /var/log/ganeti/*
	gnt-cluster init --enabled-disk-templates=file --enabled-hypervisors=fake \
		--nic-parameters=mode=routed,link=main --file-storage-dir=/srv/file-storage \
		--no-ssh-init --no-etc-hosts --master-netdev=lo --master-netmask=32 "$@" cluster.test
}

# old_ganeti: before 3.1.
old_ganeti() { dpkg --compare-versions "$(dpkg-query -W -f '${Version}' ganeti)" lt 3.1; }

# backups_work: gnt-backup of Debian 13's Ganeti, 3.1.0~rc, is known to fail: its certificates don't
# have the names that its socat wants.
backups_work() { old_ganeti; }

# What keeps Ganeti from checking names of instances; from 3.1 on it doesn't check.
unchecked=(--no-ip-check --no-name-check)
old_ganeti || unchecked=()

# rename_to NAME NEW: without a question, which 3.1 has none of.
rename_to() { gnt-instance rename ${unchecked:+-f} "${unchecked[@]}" "$1" "$2"; }

# add NAME [OPTIONS...]: a new instance. Unless the options say otherwise it has one
# disk of 1 GiB, no network card, and the OS definition's variant default.
add() {
	local name=$1 usual=(--os-type=debootstrap+default); shift
	[[ " $* " == *" --disk="* ]] || usual+=(--disk=0:size=1g)
	[[ " $* " == *" --net="* ]] || usual+=(--no-nics)
	gnt-instance add --disk-template=file --no-ip-check --no-name-check --ignore-ipolicy \
		--node=node1.test --hypervisor=fake --backend-parameters=memory=128M,vcpus=1 \
		--no-start "${usual[@]}" "$@" "$name"
}

# disk_names: of all disks that are there or were removed; they are unique.
disk_names() {
	find /srv/file-storage -type f -printf '%f\n'
	[ ! -e /srv/removed-disks ] || cat /srv/removed-disks
}

# remove NAME...: the instances and their disks.
remove() {
	local name job jobs=()
	find /srv/file-storage -type f -printf "%f\n" >>/srv/removed-disks
	for name; do
		gnt-instance remove -f --shutdown-timeout=0 "$name" & jobs+=($!)
	done
	for job in "${jobs[@]}"; do wait "$job"; done
}

# disk_of NAME [N]: the file of the instance's Nth disk, the first is 0.
disk_of() {
	gnt-instance info "$1" | sed -n "s/^ *on primary: \([^ ]*disk${2:-0}\) .*/\1/p"
}

# refused TEXT COMMAND...: the command fails, and what it prints tells why.
refused() {
	local text=$1 status=0 out; shift
	# Without the shell's trace, which has the command's own words.
	out=$(set +x; "$@" 2>&1) || status=$?
	echo "$out"
	[ "$status" -ne 0 ]
	grep -qE -- "$text" <<<"$out"
}
