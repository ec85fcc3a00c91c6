# Each verb's ends: well, by an error, by a signal, by the node's reset; sourced by inside.
# shellcheck shell=bash disable=SC2154

# What a run's end is waited for, and what it took when it ended well.
declare -A took
missed=0 runs=0

# on_lvm, on_drbd: set disk to one of which is_free tells whether it can be let go at once.
on_lvm() {
	disk=/dev/xenvg/ends
	drbdsetup down ends || true
	lvremove -q -f xenvg/ends || true
	volume ends
	is_free() { [ "$(dmsetup info -c --noheadings -o open xenvg-ends)" = 0 ]; }
}

# One side of a DRBD device; the other isn't needed to be demoted.
on_drbd() {
	disk=/dev/drbd90
	drbdsetup down ends || true
	lvremove -q -f xenvg/ends xenvg/meta || true
	volume ends
	volume meta 128m
	drbdmeta --force 90 v08 /dev/xenvg/meta 0 create-md
	drbdsetup new-resource ends
	drbdsetup new-minor ends 90 0
	drbdsetup attach 90 /dev/xenvg/ends /dev/xenvg/meta 0
	drbdsetup primary 90 --force
	is_free() { drbdsetup secondary 90 && drbdsetup primary 90; }
}

# larger: the disk grows, by little.
larger() {
	lvextend -q -L +8m xenvg/ends
	[ "$disk" != /dev/drbd90 ] || drbdsetup resize 90 --assume-peer-has-space
}

# started VERB [NAME=VALUE...]: start it; pid, and log in /root/end.log.
started() {
	local verb=$1 input=/dev/null output=/root/end.out; shift
	[ "$verb" != import ] || input=${from:-/root/tiny.export}
	if [ "${reader:-}" = leaves ]; then
		verb "$verb" "$disk" "OSP_SUITE=$tiny_suite" "$@" 2>/root/end.log > >(head -c 100000 >/dev/null) & pid=$!
	elif [ "$verb" = grow ]; then
		$program grow "${strange:-$disk}" >/root/end.log 2>&1 & pid=$!
	else
		verb "$verb" "$disk" "OSP_SUITE=$tiny_suite" "$@" <$input >$output 2>/root/end.log & pid=$!
	fi
}

# part_of MICROSECONDS: wait for a random part of it.
part_of() { sleep "$(awk "BEGIN { srand($RANDOM); print rand() * $1 / 1e6 }")"; }

# ended HOW VERB [NAME=VALUE...]: one run that ends like that; the disk must be free at once.
ended() {
	local how=$1 verb=$2 status=0 begin=${EPOCHREALTIME/./}; shift 2
	set +x
	started "$verb" "$@"
	[ "$how" != TERM ] || { part_of "${took[$verb]}"; kill -TERM "$pid" || true; }
	wait "$pid" || status=$?
	is_free || { missed=$((missed + 1)); echo "NOT FREE after $verb, $how, status $status"; cat /root/end.log; }
	set -x
	runs=$((runs + 1))
	case $how in
	well) took[$verb]=$((${EPOCHREALTIME/./} - begin)); [ "$status" = 0 ] || { cat /root/end.log; return 1; } ;;
	error) [ "$status" = 1 ] || { cat /root/end.log; return 1; } ;;
	TERM) case $status in 0 | 1 | 143) ;; *) cat /root/end.log; return 1 ;; esac ;;
	esac
	not grep 'is still open' /root/end.log
}

# guest: the disk has one, tiny, and /root/tiny.export is its backup.
guest() {
	ended well create
	[ -s /root/tiny.export ] || { ended well export; mv /root/end.out /root/tiny.export; }
	head -c 5M /root/tiny.export >/root/half.export
}

# each_end VERB: well, by an error, by SIGTERM.
each_end() {
	local strange from reader
	case $1 in
	create) ended well create; ended error create OS_VARIANT=fails ;;
	rename)
		ended well rename INSTANCE_NAME=inst2.test
		ended error rename OLD_INSTANCE_NAME=inst8.test INSTANCE_NAME=inst9.test
		ended well rename OLD_INSTANCE_NAME=inst2.test INSTANCE_NAME=inst1.test
		ended TERM rename INSTANCE_NAME=inst2.test # it may have either name now
		ended well rename OLD_INSTANCE_NAME=inst2.test INSTANCE_NAME=inst1.test
		return
		;;
	export) ended well export; reader=leaves ended error export ;;
	import) ended well import; from=/root/half.export ended error import ;;
	grow) larger; ended well grow; not grep 'nothing to do' /root/end.log; strange=/dev/xenvg/strange ended error grow; larger ;;
	esac
	ended TERM "$1"
}

# ends VERB lvm|drbd COUNT
ends() {
	local verb=$1 where=$2 count=$3
	"on_$where"
	guest
	missed=0 runs=0
	if [ "$verb" = grow ]; then # two partitions: not one of ours
		lvs xenvg/strange || volume strange 64m
		printf 'label: dos\n,16M\n,16M\n' | sfdisk -q --no-reread --no-tell-kernel /dev/xenvg/strange
	fi
	for _ in $(seq "$count"); do each_end "$verb"; done
	echo "NOTE $missed of $runs not free"
	clean
	[ "$missed" = 0 ]
}

# udev_costs COUNT: what a create's waiting for udev takes, and what it is for: creates by turns
# with udev's socket in its place, which is asked, and without.
udev_costs() {
	local count=$1 how control=/run/udev/control before without=0
	on_lvm
	guest
	# shellcheck disable=SC2064 # the variable is gone when the trap runs
	trap "mv $control.away $control || true" EXIT
	missed=0
	for _ in $(seq "$count"); do
		ended well create
		before=$missed
		echo "${took[create]}" >>/root/costs.with
		mv $control $control.away
		ended well create
		mv $control.away $control
		echo "${took[create]}" >>/root/costs.without
		without=$((without + missed - before)) missed=$before
	done
	for how in with without; do
		echo "NOTE $(sort -n /root/costs.$how | awk '{ t[NR] = $1 } END { printf "%.2f", (t[int((NR + 1) / 2)] + t[int(NR / 2) + 1]) / 2e6 }') s $how it, median of $count"
	done
	rm /root/costs.*
	echo "NOTE with it, $missed not free; without, $without"
	[ "$missed" = 0 ]
	clean
}

# kills VERB COUNT: on LVM. A killed rename leaves either name, and the next takes both.
kills() {
	local verb=$1 count=$2 name=inst1.test
	on_lvm
	guest
	case $verb in
	grow) larger ;;
	rename) name=inst2.test ;;
	esac
	ended well "$verb" "INSTANCE_NAME=$name"
	for _ in $(seq "$count"); do
		case $verb in
		grow) larger ;;
		rename) ended well rename OLD_INSTANCE_NAME=inst2.test INSTANCE_NAME=inst1.test ;;
		esac
		started "$verb" "INSTANCE_NAME=$name"
		part_of "${took[$verb]}"
		kill -KILL "$pid" || true
		wait "$pid" || true
		for _ in 1 2 3 4; do sleep 0.5; ! clean || break; done
		clean
		is_free
	done
	ended well "$verb" "INSTANCE_NAME=$name"
	holds msdos ext4 "$name" "$disk"
}

# whole VERB: on a guest of real size.
whole() {
	case $1 in
	grow) $program grow /dev/xenvg/reset ;;
	rename) (verb rename /dev/xenvg/reset INSTANCE_NAME=inst2.test) ;;
	export) (verb export /dev/xenvg/reset >/root/reset.out) ;;
	*) (verb "$1" /dev/xenvg/reset </root/reset.export) ;;
	esac
}

# begin VERB: start it, and let it come into its middle.
begin() {
	local verb=$1
	touch /root/reset.export
	if ! lvs xenvg/reset; then
		volume reset 1g
		whole create
		whole export
		mv /root/reset.out /root/reset.export
	fi
	[ "$verb" != grow ] || lvextend -q -L +500m xenvg/reset
	sync
	(whole "$verb" >/root/begin.log 2>&1 &)
	for _ in $(seq 300); do
		[ -z "$(losetup -n -O NAME)" ] || break
		sleep 0.2
	done
	sleep 0.$((RANDOM % 10)) # QEMU's reset takes some more
	not clean
}

# after_reset VERB
after_reset() {
	local verb=$1 name=inst1.test size=''
	cat /root/begin.log || true
	clean
	[ "$(dmsetup info -c --noheadings -o open xenvg-reset)" = 0 ]
	whole "$verb"
	[ "$verb" != rename ] || name=inst2.test
	[ "$verb" != grow ] || size=1524
	holds msdos ext4 "$name" /dev/xenvg/reset "$size"
	[ "$verb" != rename ] || whole create
	$program doctor
	clean
}
