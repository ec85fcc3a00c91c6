# What the rows are written with: one OS definition (the packaged shell provider
# or ours) on a node of its own, called as Ganeti calls it. Sourced by row.
# shellcheck shell=bash disable=SC2034 # the variables are the rows'

osdir=/usr/share/ganeti/os/debootstrap
defaults=/etc/default/ganeti-instance-debootstrap
conf=/etc/ganeti/instance-debootstrap
cache=/var/cache/ganeti-instance-debootstrap
suite=trixie
arch=$(dpkg --print-architecture)
admin_tar=$cache/cache-$suite-$arch.tar
name=web.example.org
disk=/srv/disk
swap=/srv/swap
log=/srv/log
mounts() { awk '{print $5}' /proc/self/mountinfo | sort; }
node_mounts=$(mounts)

# Ganeti's environment for create, API 20.
declare -A given=(
	[PATH]=/sbin:/bin:/usr/sbin:/usr/bin
	[OS_API_VERSION]=20 [OS_NAME]=debootstrap [OS_VARIANT]=default [DEBUG_LEVEL]=0
	[INSTANCE_NAME]=$name [INSTANCE_OS]=debootstrap+default
	[INSTANCE_UUID]=6dca3f1b-7d0a-4d63-8d5c-8b4f2f9f5f10
	[INSTANCE_CTIME]=1700000000.5 [INSTANCE_MTIME]=1700000000.5
	[INSTANCE_PRIMARY_NODE]=node1.example.org [INSTANCE_SECONDARY_NODES]=""
	[INSTANCE_BE_memory]=128 [INSTANCE_BE_vcpus]=1
	[INSTANCE_HV_kernel_path]="" [INSTANCE_HV_serial_console]=False
	[HYPERVISOR]=kvm
	[DISK_COUNT]=1 [DISK_0_PATH]=$disk [DISK_0_ACCESS]=rw [DISK_0_SIZE]=600
	[DISK_0_UUID]=0c1a6c56-4f2c-4d5a-9a53-0f3c2f5f2b11 [DISK_0_BACKEND_TYPE]=file:loop
	[NIC_COUNT]=1 [NIC_0_MAC]=aa:00:00:12:34:56 [NIC_0_IP]=192.0.2.10 [NIC_0_MODE]=routed
	[NIC_0_LINK]=main [NIC_0_UUID]=5a1f6f24-b1f3-4f84-b9b0-6b0b8f3b2c01
)

# give NAME=VALUE...: variables added or changed; take NAME...: left out.
give() { local pair; for pair; do given[${pair%%=*}]=${pair#*=}; done; }
take() { local variable; for variable; do unset "given[$variable]"; done; }

# settings LINE...: the defaults file. The shell provider can work here with
# style none only: partitions need the kernel's device-mapper.
settings() {
	printf '%s\n' "SUITE=$suite" PARTITION_STYLE=none 'MIRROR=http://mirror.example/debian' "$@" >"$defaults"
}

# hook NAME: a hook, its text on standard input.
hook() {
	mkdir -p "$conf/hooks"
	cat >"$conf/hooks/$1"
	chmod 755 "$conf/hooks/$1"
}

# new_disk FILE MIB: a sparse file with a pattern at both ends.
new_disk() {
	truncate -s 0 "$1"
	truncate -s "$2M" "$1"
	head -c 65536 /srv/pattern | dd of="$1" conv=notrunc status=none
	head -c 65536 /srv/pattern | dd of="$1" conv=notrunc status=none bs=65536 seek=$(($2 * 16 - 1))
}

# disk_fate [FILE]: untouched, or reformatted.
disk_fate() {
	local file=${1:-$disk}
	if cmp -s -n 65536 "$file" /srv/pattern && tail -c 65536 "$file" | cmp -s - <(head -c 65536 /srv/pattern); then
		echo 'disk untouched'
	else
		echo 'disk written to'
	fi
}

# script VERB [ARGUMENTS...]: run a script as the node daemon does: reset
# environment, umask 077, its folder as cwd, standard input at its end.
# Sets status; its output is in $log.
script() { script_of "$1" /dev/null "${@:2}"; }

# script_of VERB FILE [ARGUMENTS...]: the same with a file on standard input.
script_of() {
	local environment=() variable verb=$1 stdin=$2; shift 2
	for variable in "${!given[@]}"; do
		# verify is given no instance.
		if [ "$verb" != verify ] || [[ $variable == @(PATH|DEBUG_LEVEL|OS_API_VERSION|OS_NAME|OS_VARIANT|OSP_*) ]]; then
			environment+=("$variable=${given[$variable]}")
		fi
	done
	[ "$verb" != verify ] || [ $# -gt 0 ] || set -- parameters
	status=0
	(
		set +x # the trace has the words that rows look for
		cd "$osdir" || exit 99
		umask 077
		exec env -i "${environment[@]}" "$osdir/$verb" "$@" <"$stdin" >"$log" 2>&1
	) || status=$?
}

# create [ARGUMENTS...]: create on a new disk, unless the row made one.
create() {
	[ -e "$disk" ] || new_disk "$disk" 600
	script create "$@"
}

# kind FILE: what is on it.
kind() { blkid -p -o value -s TYPE "$1" | grep . || echo blank; }

# caches: how many cache files there are.
caches() { find "$cache" -name 'cache-*.tar' -type f | wc -l; }

# says TEXT: succeeds when the script's output has this text.
says() { grep -qF -- "$1" "$log"; }

# names TEXT...: which of the words the script's output has.
names() {
	local word found=''
	for word; do
		if says "$word"; then found+="${found:+ and }$word"; fi
	done
	echo "names ${found:-none of them}"
}

# guest COMMAND...: run a command with the root filesystem of the disk mounted on
# $root, read only.
root=/srv/root
guest() {
	local answer=0
	mkdir -p "$root"
	mount -o ro,loop "$disk" "$root" || return 1
	"$@" || answer=$?
	umount "$root"
	return "$answer"
}

# outcome WORDS...: what this row saw, after the exit code.
outcome() {
	local words='' word
	for word; do words+="${words:+; }$word"; done
	if [[ $status == [0-9]* ]]; then words="exit $status${words:+: $words}"; fi
	echo "$words"
}

# admin_tree: use a small ready-made tree as the admin's own cache.
admin_tree() { cp /srv/tree.tar "$admin_tar"; }

# fake_bootstrap: a debootstrap that unpacks the small tree, and writes its
# arguments to /srv/bootstraps; no archive is asked.
fake_bootstrap() {
	mount --bind /srv/fakes /usr/local/sbin
	node_mounts=$(mounts)
	give PATH=/usr/local/sbin:/sbin:/bin:/usr/sbin:/usr/bin
	echo BOOTSTRAP=debootstrap >>"$defaults"
}
bootstraps() { if [ -e /srv/bootstraps ]; then wc -l </srv/bootstraps; else echo 0; fi; }

# kill_when_hanging SIGNAL: once something it runs hangs, send the signal to the
# create that this shell has in the background, and wait for its end.
kill_when_hanging() {
	for _ in $(seq 200); do
		[ ! -e /srv/hanging ] || break
		sleep 0.1
	done
	pkill "-$1" -o -f "$osdir/create"
	wait
	status=$1
}

# left: what the script left behind, polled for at most 2 s.
left() {
	local what added
	for _ in $(seq 10); do
		what=''
		[ -z "$(losetup -j "$disk")" ] || what+=', a loop device'
		added=$(comm -13 <(echo "$node_mounts") <(mounts)) # which one, for the trace
		[ -z "$added" ] || what+=', a mount'
		[ -z "$(find /tmp /run/instance-debootstrap/work -mindepth 1 -print -quit 2>/dev/null)" ] || what+=', a folder'
		[ -z "$(pgrep -f "^/bin/sh $conf/hooks|$osdir/create|sleep 4321")" ] || what+=', a process'
		[ -n "$what" ] || break
		sleep 0.2
	done
	what=${what#, }
	echo "leaves ${what:-nothing}"
}

# clean_up: what the shell provider leaves is taken away with the node, but for
# its loop devices.
clean_up() {
	local device file
	set +x
	pkill -KILL -f 'sleep 4321' || true
	awk '$5 ~ "^/tmp/tmp[.]" {print $5}' /proc/self/mountinfo | while read -r mounted; do umount -l "$mounted"; done
	for file in "$disk" "$swap"; do
		[ -e "$file" ] || continue
		losetup -n -O NAME -j "$file" | while read -r device; do losetup -d "$device"; done
	done
}
