# The cache of root trees. Sourced by run, for the texts, and by row.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # variables of provider.sh and of the hooks
section "The cache of root trees"

row cache-used "the admin's own cache-SUITE-ARCH.tar, no archive to be reached"
row-cache-used() {
	admin_tree
	create
	outcome "$(guest cat "$root/etc/hostname")" "$(caches) cached"
}

row cache-compressed "the admin's own file is compressed, though its name is .tar" \
	'Refused with the remedy: what it would unpack to is checked before the disk is written to.'
row-cache-compressed() {
	gzip -1 <"/srv/tree.tar" >"$admin_tar"
	create
	outcome "$(guest cat "$root/etc/hostname")"
}

row cache-read-only-folder 'a cached tree in a folder on a read-only filesystem'
row-cache-read-only-folder() {
	admin_tree
	mount --bind "$cache" "$cache"
	mount -o remount,bind,ro "$cache"
	node_mounts=$(mounts)
	create
	outcome "$(guest cat "$root/etc/hostname")" "$(left)"
}

row cache-made 'nothing cached, GENERATE_CACHE=yes, two instances'
row-cache-made() {
	settings
	fake_bootstrap
	create
	create
	outcome "$(bootstraps) bootstrap" "$(caches) cached"
}

row cache-per-settings 'two variants with other EXTRA_PKGS, one after the other' \
	'The second guest would silently get the packages of the first.'
row-cache-per-settings() {
	settings
	echo EXTRA_PKGS=acl >"$conf/variants/default.conf"
	echo EXTRA_PKGS=less >"$conf/variants/other.conf"
	fake_bootstrap
	create
	give OS_VARIANT=other
	create
	outcome "$(bootstraps) bootstraps" "$(caches) cached"
}

row cache-mode 'who can read a new cache file'
row-cache-mode() {
	settings
	fake_bootstrap
	create
	outcome "$(find "$cache" -name 'cache-*.tar' -printf '%m')"
}

row cache-expires 'CLEAN_CACHE=14 and a cache file of 20 days'
row-cache-expires() {
	settings CLEAN_CACHE=14
	admin_tree
	touch -d '20 days ago' "$admin_tar"
	fake_bootstrap
	create
	outcome "$(bootstraps) bootstrap"
}

row cache-never-expires 'CLEAN_CACHE="" and a cache file of 20 days' \
	'The documented way to keep it for good.'
row-cache-never-expires() {
	settings 'CLEAN_CACHE=""'
	admin_tree
	touch -d '20 days ago' "$admin_tar"
	fake_bootstrap
	create
	outcome "$(bootstraps) bootstrap"
}

row cache-protected 'a read-only cache file (chmod u-w) of 20 days' \
	'Protection that was promised and lost.'
row-cache-protected() {
	settings CLEAN_CACHE=14
	admin_tree
	chmod u-w "$admin_tar"
	touch -d '20 days ago' "$admin_tar"
	fake_bootstrap
	create
	outcome "$(bootstraps) bootstrap"
}

row cache-damaged 'a cache file cut in half' \
	'It is found out before the disk is written to.'
row-cache-damaged() {
	admin_tree
	truncate -s 1M "$admin_tar"
	create
	outcome "$(disk_fate)" "$(left)"
}

row bootstrap-fails 'the bootstrap tool fails' \
	'A tree is built beside the cache, before the disk is written to.'
row-bootstrap-fails() {
	settings
	fake_bootstrap
	touch /srv/bootstrap-fails
	create
	outcome "$(names 'no such mirror')" "$(disk_fate)" "$(find "$cache" -mindepth 1 -size +64k | wc -l) files in the cache" "$(left)"
}

row killed-in-bootstrap 'SIGKILL while the bootstrap tool runs' \
	'The tool must not go on writing to a disk that nobody watches.'
row-killed-in-bootstrap() {
	settings
	fake_bootstrap
	touch /srv/bootstrap-hangs
	create &
	kill_when_hanging KILL
	outcome "$(find "$cache" -mindepth 1 -size +64k | wc -l) files in the cache" "$(left)"
}

row cache-dir 'CACHE_DIR=/srv/elsewhere in the defaults file' \
	'The scripts set it again after the file: it could not be moved.'
row-cache-dir() {
	mkdir /srv/elsewhere
	settings CACHE_DIR=/srv/elsewhere
	fake_bootstrap
	create
	outcome "$(find /srv/elsewhere -name 'cache-*.tar' | wc -l) cached there"
}

row cache-kept-apart 'what is in the cache after a hook changed the guest'
row-cache-kept-apart() {
	settings
	fake_bootstrap
	hook mark <<<'#!/bin/sh
touch "$TARGET/marked"'
	create
	outcome "$(tar -tf "$(find "$cache" -name 'cache-*.tar')" | grep -c marked) mark of the hook"
}

row cache-deb 'downloaded packages in the guest'
row-cache-deb() {
	settings
	fake_bootstrap
	create
	outcome "$(guest find "$root/var/cache/apt/archives" -name '*.deb' | wc -l) deb files"
}
