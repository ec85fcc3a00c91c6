# What Ganeti does with instances; sourced by inside.
# shellcheck shell=bash disable=SC2154

cluster() {
	lvm_filter
	$program doctor >/root/doctor
	not grep -v '^ok' /root/doctor
	(verb verify /dev/null)
	keys
	[ -s /var/lib/ganeti/config.data ] || gnt-cluster init --enabled-disk-templates=plain,drbd,file,sharedfile --vg-name=xenvg --drbd-usermode-helper=/bin/true \
		--enabled-hypervisors=fake --nic-parameters=mode=routed,link=main --file-storage-dir=/srv/file-storage \
		--shared-file-storage-dir=/srv/shared-file-storage --no-ssh-init --no-etc-hosts --master-netmask=24 \
		--master-netdev="$(ip -o addr show to 10.77.0.1 | cut -d' ' -f2)" cluster.test
	gnt-cluster modify --ipolicy-bounds-specs 'min:cpu-count=1,disk-count=0,disk-size=1,memory-size=1,nic-count=0,spindle-use=1/max:cpu-count=64,disk-count=16,disk-size=1048576,memory-size=32768,nic-count=8,spindle-use=12'
	/usr/lib/ganeti/daemon-util stop ganeti-mond # it only watches, and takes a tenth of the processor
	gnt-os diagnose | grep -x 'OS: debootstrap \[global status: valid\]'
	gnt-cluster verify
	clean
}

# lvm_filter: the one that Ganeti's installation guide recommends; doctor misses it, and only it.
lvm_filter() {
	local file=/etc/lvm/lvmlocal.conf
	not grep -q '^devices.*drbd' $file || return 0
	modprobe drbd
	$program doctor >/root/doctor
	[ "$(grep -vc '^ok' /root/doctor)" = 1 ]
	grep '^warning.*LVM.*global_filter' /root/doctor
	echo 'devices { global_filter = ["r|^/dev/drbd[0-9]+$|"] }' >>$file
}

# again COMMAND...: Ganeti gives a job a minute to start, which is in its program; on a busy
# machine it needs more, and fails before it has done anything.
again() {
	local out=/root/again.$BASHPID status
	for _ in {1..8}; do
		status=0
		command "$@" >"$out" 2>&1 || status=$?
		cat "$out"
		grep -q 'failed to start: ' "$out" || break
		sleep $((RANDOM % 20)) # not all at once again
	done
	rm -f "$out"
	return "$status"
}
gnt-cluster() { again gnt-cluster "$@"; }
gnt-instance() { again gnt-instance "$@"; }
gnt-backup() { again gnt-backup "$@"; }

# import_of NAME NEW [OPTIONS...]: Ganeti itself takes a failed import for a warning.
import_of() {
	local name=$1 new=$2 out; shift 2
	out=$(gnt-backup import --no-ip-check --no-name-check --ignore-ipolicy --no-nics --node=node1.test --src-node=node1.test \
		--src-dir="/var/lib/ganeti/export/$name" "$@" "$new" 2>&1) || { echo "$out"; return 1; }
	not grep -E 'WARNING|ERROR' <<<"$out"
}

# rename_to NAME NEW: the same. Ganeti 3.1 neither asks nor checks.
rename_to() {
	local out unasked=(-f --no-ip-check --no-name-check)
	old_ganeti || unasked=()
	out=$(gnt-instance rename "${unasked[@]}" "$1" "$2" 2>&1) || { echo "$out"; return 1; }
	not grep -E 'WARNING|ERROR' <<<"$out"
}

# on_disk NAME: the path of its disk, by Ganeti's own file, since each of its programs takes
# half a minute to start here.
on_disk() {
	jq -er --arg name "$1" '. as $all | ($all.nodes[] | select(.name == "node1.test").uuid) as $here
		| $all.disks[$all.instances[] | select(.name == $name).disks[0]]
		| if .dev_type == "plain" then "/dev/" + (.logical_id | join("/"))
			elif .dev_type == "drbd" then "/dev/drbd\(if .logical_id[0] == $here then .logical_id[3] else .logical_id[4] end)"
			else .logical_id[1] end' /var/lib/ganeti/config.data
}

# no_instances: those that a failed check has left would be in the way.
no_instances() {
	local name
	for name in $(gnt-instance list --no-headers -o name); do gnt-instance remove -f "$name"; done
}

# life STYLE TYPE [TEMPLATE]: all that Ganeti does with an instance's disk. The guest is a
# tiny one: Ganeti's encrypted streams are slow here, not what is at their ends.
life() {
	local style=$1 type=$2 template=${3:-plain} disk
	no_instances
	add inst1.test --disk-template="$template" -O "suite=$tiny_suite,partition_style=$style,filesystem=$type"
	holds "$style" "$type" inst1.test "$(on_disk inst1.test)"
	gnt-instance reinstall -f inst1.test
	holds "$style" "$type" inst1.test "$(on_disk inst1.test)"
	rename_to inst1.test inst2.test
	holds "$style" "$type" inst2.test "$(on_disk inst2.test)"
	if backups_work; then
		gnt-backup export --node=node1.test inst2.test
		lvs --noheadings -o lv_name xenvg | not grep snap
		import_of inst2.test inst3.test --disk-template="$template"
		rm -r /var/lib/ganeti/export/inst2.test
	else
		copy_by_scripts inst2.test inst3.test --disk-template="$template" -O "suite=$tiny_suite,partition_style=$style,filesystem=$type"
	fi
	holds "$style" "$type" inst3.test "$(on_disk inst3.test)"
	disk=$(on_disk inst3.test)
	gnt-instance grow-disk inst3.test 0 200m
	$program grow "$disk"
	holds "$style" "$type" inst3.test "$disk" 1224
	clean
	gnt-instance remove -f inst2.test
	gnt-instance remove -f inst3.test
	lvs --noheadings -o lv_name xenvg | not grep disk
}

# old_ganeti: before 3.1.
old_ganeti() { dpkg --compare-versions "$(dpkg-query -W -f '${Version}' ganeti)" lt 3.1; }

# backups_work: those of Debian 13's Ganeti, 3.1.0~rc, fail before they start a script: it
# and socat 1.8 want other names in its certificates.
backups_work() { old_ganeti; }

# back_up NAME NODE: to a node; by the script alone where backups don't work, on the disk of an
# instance that is down.
back_up() {
	if backups_work; then
		gnt-backup export --node="$2" "$1"
		lvs --noheadings -o lv_name xenvg | not grep snap
	else
		gnt-instance activate-disks "$1"
		ssh "root@$2" /root/node/inside export_by_script "$1" "$(on_disk "$1")"
	fi
}

export_by_script() {
	(verb export "$2" INSTANCE_NAME="$1" >"/root/export.$1")
	[ -s "/root/export.$1" ]
	rm "/root/export.$1"
}

# backups_fail: as they are known to.
backups_fail() {
	local out status=0
	no_instances
	add inst1.test --disk-template=plain -O "suite=$tiny_suite"
	out=$(gnt-backup export --node=node1.test inst1.test 2>&1) || status=$?
	gnt-instance remove -f inst1.test
	echo "$out"
	[ "$status" != 0 ]
	echo "NOTE $(grep -iE 'certificate|commonname' <<<"$out" | head -n 1 | cut -c1-200)"
	free_of_disks
}

# copy_by_scripts NAME NEW [OPTIONS...]: what a backup and its import have the scripts do.
copy_by_scripts() {
	local name=$1 new=$2 disk; shift 2
	disk=$(on_disk "$name")
	(verb export "$disk" INSTANCE_NAME="$name" >/root/copy)
	add "$new" --no-install "$@"
	disk=$(on_disk "$new")
	(verb import "$disk" INSTANCE_NAME="$new" </root/copy)
	(verb rename "$disk" OLD_INSTANCE_NAME="$name" INSTANCE_NAME="$new")
	rm /root/copy
}

# keys: Ganeti wants one set of host keys on all nodes, and root's own.
keys() {
	[ -f /root/.ssh/id_rsa ] || ssh-keygen -q -t rsa -N '' -f /root/.ssh/id_rsa
	grep -qFf /root/.ssh/id_rsa.pub /root/.ssh/authorized_keys || cat /root/.ssh/id_rsa.pub >>/root/.ssh/authorized_keys
	ssh-keygen -A
}

drbd_life() {
	no_instances
	add inst4.test --disk=0:size=512m --disk-template=drbd --node=node1.test:node2.test --no-wait-for-sync -O "suite=$tiny_suite"
	rename_to inst4.test inst5.test
	gnt-instance reinstall -f inst5.test
	back_up inst5.test node1.test
	gnt-instance activate-disks --wait-for-sync inst5.test
	gnt-instance grow-disk inst5.test 0 100m
	$program grow "$(on_disk inst5.test)"
	holds msdos ext4 inst5.test "$(on_disk inst5.test)" 612
	gnt-instance deactivate-disks inst5.test
	gnt-instance failover -f inst5.test
	gnt-instance list -o name,pnode,snodes | grep 'inst5.test *node2.test'
	gnt-instance reinstall -f -O "suite=$tiny_suite" inst5.test # on the other node; Ganeti has forgotten it
	gnt-instance failover -f inst5.test
	gnt-instance replace-disks -s inst5.test
	gnt-instance replace-disks -p inst5.test
	gnt-instance activate-disks inst5.test
	holds msdos ext4 inst5.test "$(on_disk inst5.test)"
	gnt-instance deactivate-disks inst5.test
	gnt-instance remove -f inst5.test
	clean
}

# other COMMAND...: on the other node.
other() { ssh root@node2.test "$@"; }

# add_tiny NAME [OPTIONS...]: a plain one of a small disk.
add_tiny() { add "$@" --disk=0:size=512m --disk-template=plain -O "suite=$tiny_suite"; }

# move: a guest moves to the other node, is used there, and comes back.
move() {
	no_instances
	add_tiny inst6.test
	if not backups_work; then move_fails; return; fi
	gnt-instance move -f --node=node2.test inst6.test
	rename_to inst6.test inst7.test
	other "/root/node/inside holds msdos ext4 inst7.test \$(ls /dev/xenvg/*disk0)"
	gnt-instance move -f --node=node1.test inst7.test
	holds msdos ext4 inst7.test "$(on_disk inst7.test)"
	gnt-instance remove -f inst7.test
	clean
	other /root/node/inside clean
}

# move_fails: as backups do, and the guest is whole where it was.
move_fails() {
	local out status=0
	out=$(gnt-instance move -f --node=node2.test inst6.test 2>&1) || status=$?
	echo "$out"
	[ "$status" != 0 ]
	echo "NOTE this Ganeti's move fails as its backups do, and the guest is whole where it was: $(grep -iEo "certificate [^\\]*commonname[^\\)]*" <<<"$out" | head -n 1 | cut -c1-200)"
	gnt-instance activate-disks inst6.test
	holds msdos ext4 inst6.test "$(on_disk inst6.test)"
	gnt-instance remove -f inst6.test
	free_of_disks
	other /root/node/inside free_of_disks
}

# at_once COMMAND...: it, with the arguments in each line of its input, all at the same time; they
# end well.
at_once() {
	local line job all=()
	while read -ra line; do
		"$@" "${line[@]}" & all+=($!)
	done
	for job in "${all[@]}"; do wait "$job"; done
}

# install_guest MIRROR: a guest with a kernel, of a tree that is made here.
install_guest() {
	rm -rf /root/trees # of a try that failed
	CACHE_DIR=/root/trees MIRROR=$1 SECURITY_MIRROR=none BOOTLOADER=grub \
		"$program" install --size 3G --hostname guest.test --partition-style gpt /root/guest.img
	rm -rf /root/trees
	clean
}

# parallel: three instances on each of two nodes, at the same time.
parallel() {
	local i node
	no_instances
	for i in {11..16}; do
		echo "inst$i.test --node=node$((i % 2 + 1)).test"
	done | at_once add_tiny
	for i in {11..16}; do echo "inst$i.test"; done | at_once gnt-instance reinstall -f
	for i in {11..16}; do echo "inst$i.test node$((i % 2 + 1)).test"; done | at_once back_up
	for node in 1 2; do ssh node$node.test /root/node/inside clean; done
	for i in 11 13 15; do other "/root/node/inside holds msdos ext4 inst$i.test $(on_disk inst$i.test)"; done
	for i in 12 14 16; do holds msdos ext4 inst$i.test "$(on_disk inst$i.test)"; done
	for i in {11..16}; do echo "inst$i.test"; done | at_once gnt-instance remove -f
	for node in 1 2; do ssh node$node.test /root/node/inside free_of_disks; done
}

# free_of_disks: nothing is left of any instance.
free_of_disks() {
	lvs --noheadings -o lv_name xenvg | not grep -E 'disk|snap'
	clean
}

# burnin TEMPLATE: Ganeti's own acceptance tool. A second disk, another secondary and a live
# migration aren't for tiny guests, two nodes and guests that don't run.
burnin() {
	local of=(--no-ip-check --no-name-check)
	no_instances
	if not old_ganeti; then
		of=(--no-importexport) # names and addresses it only checks if asked to
		echo "NOTE without its backups, which this Ganeti can't do"
	fi
	/usr/lib/ganeti/tools/burnin -o debootstrap+tiny -t "$1" --disk-size=512m --disk-growth=128m --mem-size=128m \
		--minmem-size=128m --maxmem-size=128m -H fake --no-nics --no-confd --no-migrate --no-move \
		--no-replace2 --no-add-disks --no-add-nics "${of[@]}" -n node1.test,node2.test --rename=inst9.test inst7.test inst8.test
	free_of_disks
	other /root/node/inside free_of_disks
}
