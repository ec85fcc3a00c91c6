# The settings files. Sourced by run, for the texts, and by row.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # variables of provider.sh and of the hooks
section "Settings"

# suite_used: what the bootstrap tool was asked for.
suite_used() { sed -n '1s/.*\(jessie\|trixie\|bookworm\|sid\).*/\1/p' /srv/bootstraps; }

row default-suite 'SUITE when nothing sets it' \
	"Today's Debian stable."
row-default-suite() {
	settings
	sed -i '/^SUITE/d' "$defaults"
	fake_bootstrap
	create
	outcome "bootstraps $(suite_used)"
}

row file-over-environment 'SUITE in the environment and in the defaults file'
row-file-over-environment() {
	settings SUITE=bookworm
	give SUITE=sid
	fake_bootstrap
	create
	outcome "bootstraps $(suite_used)"
}

row environment-over-default 'SUITE in the environment only'
row-environment-over-default() {
	settings
	sed -i '/^SUITE/d' "$defaults"
	give SUITE=sid
	fake_bootstrap
	create
	outcome "bootstraps $(suite_used)"
}

row variant-over-file 'SUITE in the defaults file and in the variant'
row-variant-over-file() {
	settings
	echo SUITE=sid >"$conf/variants/default.conf"
	fake_bootstrap
	create
	outcome "bootstraps $(suite_used)"
}

row shell-code 'shell code in the settings: ${X:-y}, if, $(command)'
row-shell-code() {
	settings 'release=${release:-bookworm}' 'if [ "$OS_VARIANT" = default ]; then SUITE=$(echo "$release"); fi'
	fake_bootstrap
	create
	outcome "bootstraps $(suite_used)"
}

row included-file 'the defaults file reads another: . /etc/site.conf'
row-included-file() {
	settings '. /etc/site.conf'
	echo SUITE=bookworm >/etc/site.conf
	fake_bootstrap
	create
	outcome "bootstraps $(suite_used)"
}

row bash-array 'a bash array in the defaults file'
row-bash-array() {
	settings 'pkgs=(acl less)' 'for pkg in "${pkgs[@]}"; do EXTRA_PKGS+=${EXTRA_PKGS:+,}$pkg; done'
	fake_bootstrap
	create
	outcome "$(grep -q 'acl,less' /srv/bootstraps && echo 'both included' || echo 'not included')"
}

row bash-ifs 'a change of IFS in the defaults file'
row-bash-ifs() {
	settings 'pkgs=(acl less)' 'EXTRA_PKGS=$(IFS=,; echo "${pkgs[*]}")'
	fake_bootstrap
	create
	outcome "$(grep -q 'acl,less' /srv/bootstraps && echo 'both included' || echo 'not included')"
}

row variants-dir 'VARIANTS_DIR=/etc/site-variants'
row-variants-dir() {
	settings VARIANTS_DIR=/etc/site-variants
	mkdir /etc/site-variants
	echo SUITE=bookworm >/etc/site-variants/default.conf
	fake_bootstrap
	create
	outcome "bootstraps $(suite_used)"
}

row filesystem-of-variant "OSP_FILESYSTEM=ext3 in the variant's conf, no parameter given"
row-filesystem-of-variant() {
	echo OSP_FILESYSTEM=ext3 >"$conf/variants/default.conf"
	admin_tree
	create
	outcome "$(kind "$disk")"
}

row filesystem-twice "OSP_FILESYSTEM=ext3 in the defaults file, and the parameter filesystem=ext2" \
	'What is asked for of this instance wins over what is set for all.'
row-filesystem-twice() {
	settings OSP_FILESYSTEM=ext3
	give OSP_FILESYSTEM=ext2
	admin_tree
	create
	outcome "fstab says $(guest awk '$2 == "/" {print $3}' "$root/etc/fstab")"
}

row exported-function 'a function that the defaults file exports (export -f), called in a hook'
row-exported-function() {
	settings 'site() { echo "$1 of $INSTANCE_NAME"; }' 'export -f site'
	admin_tree
	hook look <<<'#!/bin/bash
site told >>/srv/told'
	create
	outcome "$(cat /srv/told)"
}

row scripts-names "log_error and \$0 in the defaults file, SCRIPT_NAME and VARIANT_CONFIG in the variant's conf"
row-scripts-names() {
	settings 'log_error "read by ${0##*/}"'
	echo 'export SEEN="$SCRIPT_NAME ${VARIANT_CONFIG##*/}"' >"$conf/variants/default.conf"
	admin_tree
	hook look <<<'#!/bin/bash
echo "$SEEN" >>/srv/told'
	create
	outcome "$(names 'read by create')" "$(cat /srv/told)"
}

row instance-of-variant "instance=short in the variant's conf" \
	'The scripts took their own variable for the host name; here a warning says to do it in a hook.'
row-instance-of-variant() {
	echo instance=short >"$conf/variants/default.conf"
	admin_tree
	create
	outcome "$(guest cat "$root/etc/hostname")"
}

row failing-command 'a failing command substitution in the defaults file'
row-failing-command() {
	settings 'SUITE=$(cat /nonexistent)'
	fake_bootstrap
	create
	outcome "$(names /nonexistent)" "$(disk_fate)"
}

row byte-order-mark 'a defaults file that begins with a byte-order mark' \
	'bash takes it for a part of the first name, and SUITE would be the default.'
row-byte-order-mark() {
	sed -i '1s/^/\xef\xbb\xbf/' "$defaults"
	admin_tree
	create
	outcome "$(names 'byte-order mark')" "$(disk_fate)"
}

row syntax-error 'an unclosed quote in the defaults file' \
	'Every refusal ends with 1.'
row-syntax-error() {
	settings 'EXTRA_PKGS="ssh'
	admin_tree
	create
	outcome "$(names "$defaults")" "$(disk_fate)"
}

row writable-defaults 'a defaults file that everybody can write' \
	'It is run as root: anybody could become root through it.'
row-writable-defaults() {
	settings
	chmod 666 "$defaults"
	admin_tree
	create
	outcome "$(disk_fate)"
}

row no-defaults 'no defaults file at all'
row-no-defaults() {
	rm -f "$defaults"
	admin_tree
	give SUITE=$suite PARTITION_STYLE=none
	create
	outcome "$(guest cat "$root/etc/hostname")"
}

row unknown-style 'PARTITION_STYLE=bsd'
row-unknown-style() {
	settings PARTITION_STYLE=bsd
	create
	outcome "$(names bsd)" "$(disk_fate)"
}

row style-gpt 'PARTITION_STYLE=gpt' \
	'A style of its own, for disks beyond 2 TiB and for UEFI.'
row-style-gpt() {
	settings PARTITION_STYLE=gpt
	admin_tree
	create
	outcome "table $(blkid -p -o value -s PTTYPE "$disk")"
}

row bad-alignment 'PARTITION_ALIGNMENT=1MiB, style none' \
	'Every setting is checked, whether this run uses it or not.'
row-bad-alignment() {
	settings PARTITION_ALIGNMENT=1MiB
	admin_tree
	create
	outcome "$(names PARTITION_ALIGNMENT)" "$(disk_fate)"
}

row extrapkgs "EXTRAPKGS, the README's spelling of EXTRA_PKGS" \
	'Admins copied it from there.'
row-extrapkgs() {
	settings EXTRAPKGS=acl
	fake_bootstrap
	create
	outcome "$(grep -q 'include=.*acl' /srv/bootstraps && echo 'acl is included' || echo 'acl is not included')"
}

row arguments 'EXTRA_PKGS, COMPONENTS and ARCH reach the bootstrap tool'
row-arguments() {
	settings EXTRA_PKGS=acl,less COMPONENTS=main,contrib "ARCH=$arch"
	fake_bootstrap
	create
	local word found=()
	for word in acl less main,contrib "$arch"; do
		! grep -qF -- "$word" /srv/bootstraps || found+=("$word")
	done
	outcome "it gets ${#found[@]} of 4"
}

row mirror-slash 'MIRROR with a slash at its end' \
	'Some mirrors answer 400 to the double slash that would follow.'
row-mirror-slash() {
	settings 'MIRROR=http://mirror.example/debian/'
	fake_bootstrap
	create
	outcome "asks $(grep -o 'http://[^ ]*' /srv/bootstraps)"
}

row mirror-empty 'MIRROR="", the bootstrap tool has a default'
row-mirror-empty() {
	settings MIRROR=
	fake_bootstrap
	create
	outcome "asks $(grep -o 'http://[^ ]*' /srv/bootstraps || echo its own default)"
}

row suite-alias 'SUITE=stable'
row-suite-alias() {
	settings SUITE=stable
	fake_bootstrap
	create
	outcome "$(grep -o 'stable' /srv/bootstraps)"
}

row arch-i386 "ARCH=i386, the admin's own cache file for it, and what hooks see"
row-arch-i386() {
	settings ARCH=i386
	cp /srv/tree.tar "$cache/cache-$suite-i386.tar"
	hook look <<<'#!/bin/sh
echo "$ARCH" >>/srv/told'
	create
	outcome "hooks see $(cat /srv/told)"
}

row proxy-bootstrap 'PROXY reaches the bootstrap tool'
row-proxy-bootstrap() {
	# With KEEP_PACKAGES the tool has the run's own proxy, which goes by this one.
	settings PROXY=http://proxy.example:3128/ KEEP_PACKAGES=no
	fake_bootstrap
	create
	outcome "$(cat /srv/proxies)"
}

row generate-other 'GENERATE_CACHE=true, which is not yes'
row-generate-other() {
	settings GENERATE_CACHE=true
	fake_bootstrap
	create
	outcome "$(caches) cached"
}

row no-generate 'GENERATE_CACHE=no'
row-no-generate() {
	settings GENERATE_CACHE=no
	fake_bootstrap
	create
	outcome "$(caches) cached" "$(guest cat "$root/etc/hostname")"
}

row customize-dir-missing 'CUSTOMIZE_DIR that does not exist'
row-customize-dir-missing() {
	settings CUSTOMIZE_DIR=/etc/nonexistent
	admin_tree
	create
	outcome
}

row customize-dir-of-variant "a variant's own CUSTOMIZE_DIR"
row-customize-dir-of-variant() {
	mkdir -p /etc/site-hooks
	printf '#!/bin/sh\ntouch "$TARGET/etc/site"\n' >/etc/site-hooks/site
	chmod 755 /etc/site-hooks/site
	echo CUSTOMIZE_DIR=/etc/site-hooks >"$conf/variants/default.conf"
	hook usual <<<'#!/bin/sh
touch "$TARGET/etc/usual"'
	admin_tree
	create
	outcome "ran $(guest find "$root/etc/site" "$root/etc/usual" -printf '%f' 2>/dev/null)"
}

row swapdev 'swapdev=$DISK_1_PATH in the defaults file'
row-swapdev() {
	settings 'swapdev=$DISK_1_PATH'
	give DISK_COUNT=2 DISK_1_PATH="$swap" DISK_1_ACCESS=rw DISK_1_SIZE=64 DISK_1_UUID=2b7d93b7-0f8e-4a3e-8f0e-1f4b1c9b7a11 \
		DISK_1_BACKEND_TYPE=file:loop
	truncate -s 64M "$swap"
	admin_tree
	create
	outcome "second disk is $(kind "$swap")" "$(guest grep -c '[[:space:]]swap[[:space:]]' "$root/etc/fstab") swap in fstab"
}

row swap-by-name 'a second disk named swap' \
	'From API 10 on the scripts never make swap by themselves.'
row-swap-by-name() {
	give DISK_COUNT=2 DISK_1_PATH="$swap" DISK_1_ACCESS=rw DISK_1_SIZE=64 DISK_1_UUID=2b7d93b7-0f8e-4a3e-8f0e-1f4b1c9b7a11 \
		DISK_1_BACKEND_TYPE=file:loop DISK_1_NAME=swap
	truncate -s 64M "$swap"
	admin_tree
	create
	outcome "second disk is $(kind "$swap")"
}

row swap-over-data 'swapdev= names a disk that holds a filesystem' \
	'No disk but the root is formatted over other data.'
row-swap-over-data() {
	settings "swapdev=$swap"
	truncate -s 64M "$swap"
	mke2fs -qF "$swap"
	admin_tree
	create
	outcome "that disk is $(kind "$swap")"
}
