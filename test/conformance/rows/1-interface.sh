# Ganeti's OS interface. Sourced by run, for the texts, and by row.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # variables of provider.sh and of the hooks
section "Ganeti's OS interface"

says_usage() { grep -qi usage "$log"; }

row create-help 'create --help' \
	'A question must not cost a disk.'
row-create-help() {
	admin_tree
	create --help
	outcome "$(says_usage && echo 'prints usage' || echo 'no usage')" "$(disk_fate)"
}

row verify-help 'verify --help' \
	'Every script prints its usage, as the interface asks.'
row-verify-help() {
	script verify --help
	outcome "$(says_usage && echo 'prints usage' || echo 'no usage')"
}

row no-instance-name 'create without INSTANCE_NAME'
row-no-instance-name() {
	take INSTANCE_NAME
	create
	outcome "$(names INSTANCE_NAME)" "$(disk_fate)"
}

row several-missing 'create without INSTANCE_NAME and DISK_0_PATH' \
	'All that is missing is named in one message.'
row-several-missing() {
	take INSTANCE_NAME DISK_0_PATH
	create
	outcome "$(names INSTANCE_NAME DISK_0_PATH)" "$(disk_fate)"
}

row no-disk 'create with DISK_COUNT=0'
row-no-disk() {
	give DISK_COUNT=0
	take DISK_0_PATH
	create
	outcome "$(disk_fate)"
}

row disk-count-malformed 'create with DISK_COUNT=one' \
	'A malformed variable is an error, not a guess.'
row-disk-count-malformed() {
	give DISK_COUNT=one
	admin_tree
	create
	outcome "$(disk_fate)"
}

row userspace-disk 'a disk that has a DISK_0_URI only' \
	'This node lacks QEMU'"'"'s driver for it: the message names the disk and the package. Where it is, the disk is worked on.'
row-userspace-disk() {
	take DISK_0_PATH
	give DISK_0_URI=rbd:pool/volume
	create
	outcome "$(names rbd:pool/volume)"
}

row few-variables 'create with no more than INSTANCE_NAME, HYPERVISOR, DISK_COUNT and DISK_0_PATH'
row-few-variables() {
	given=([PATH]=/sbin:/bin:/usr/sbin:/usr/bin [OS_API_VERSION]=10 [INSTANCE_NAME]=$name [HYPERVISOR]=kvm
		[DISK_COUNT]=1 [DISK_0_PATH]=$disk)
	admin_tree
	create
	outcome "$(guest cat "$root/etc/hostname")"
}

row api-20 'create, API 20'
row-api-20() { admin_tree; create; outcome "$(guest cat "$root/etc/hostname")"; }

row api-15 'create, API 15'
row-api-15() { give OS_API_VERSION=15; row-api-20; }

row api-10 'create, API 10, which has no variants'
row-api-10() { give OS_API_VERSION=10; take OS_VARIANT; row-api-20; }

row api-5 'create, API 5: -i INSTANCE -b BLOCKDEV -s SWAPDEV'
row-api-5() {
	given=([PATH]=/sbin:/bin:/usr/sbin:/usr/bin)
	admin_tree
	truncate -s 64M "$swap"
	sed -i '/^PARTITION_STYLE/d' "$defaults"
	create -i "$name" -b "$disk" -s "$swap"
	outcome "$(guest cat "$root/etc/hostname")" "$(blkid -p -o value -s TYPE "$disk")" "swap is $(blkid -p -o value -s TYPE "$swap")"
}

row api-5-missing 'create, API 5, without -b'
row-api-5-missing() {
	given=([PATH]=/sbin:/bin:/usr/sbin:/usr/bin)
	create -i "$name" -s "$swap"
	outcome "$(names -b)" "$(disk_fate)"
}

row api-unknown 'create, API 25'
row-api-unknown() {
	give OS_API_VERSION=25
	create
	outcome "$(names 25)" "$(disk_fate)"
}

row variant-unpublished 'a variant that nobody published, without a conf (--force-variant)'
row-variant-unpublished() {
	give OS_VARIANT=nosuch
	create
	outcome "$(names "$conf/variants/nosuch.conf")" "$(disk_fate)"
}

row variant-without-conf 'a published variant without its conf'
row-variant-without-conf() {
	echo web >>"$conf/variants.list"
	give OS_VARIANT=web
	create
	outcome "$(names "$conf/variants/web.conf" variants.list)" "$(disk_fate)"
}

row variant-unofficial 'an unpublished variant that has a conf'
row-variant-unofficial() {
	echo SUITE=$suite >"$conf/variants/lab.conf"
	give OS_VARIANT=lab
	admin_tree
	create
	outcome
}

row verify-plain 'verify with no parameter set'
row-verify-plain() { script verify; outcome; }

row verify-filesystem 'verify with filesystem=ext3'
row-verify-filesystem() { give OSP_FILESYSTEM=ext3; script verify; outcome; }

row verify-bad-filesystem 'verify with filesystem=minix'
row-verify-bad-filesystem() { give OSP_FILESYSTEM=minix; script verify; outcome "$(names minix)"; }

row verify-all-faults 'verify with filesystem=minix and partition_style=bsd' \
	'Parameters of its own beside filesystem, all checked, all faults in one answer.'
row-verify-all-faults() {
	give OSP_FILESYSTEM=minix OSP_PARTITION_STYLE=bsd
	script verify
	outcome "$(names minix bsd)"
}

row verify-variant-without-conf 'verify with a variant that has no conf' \
	'Said before anything is created, not after.'
row-verify-variant-without-conf() { give OS_VARIANT=nosuch; script verify; outcome; }

row parameter-value "an OS parameter's value in the log (it may be a secret)"
row-parameter-value() {
	give OSP_TOKEN=gnusbl OSP_FILESYSTEM=ext3
	admin_tree
	create
	outcome "$(says gnusbl && echo 'it is there' || echo 'it is not there')"
}

row reinstall 'create with INSTANCE_REINSTALL=1 over an installed disk'
row-reinstall() {
	admin_tree
	create
	give INSTANCE_REINSTALL=1 INSTANCE_NAME=again.example.org
	create
	outcome "$(guest cat "$root/etc/hostname")" "$(left)"
}
