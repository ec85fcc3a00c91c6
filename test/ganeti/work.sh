# A work folder with a node in it (see node), for run and life; sourced, never run.
# shellcheck shell=bash

work='' node=''
# take_down: with the node everything in it is gone, but for loop devices that an
# OS definition forgot.
# shellcheck disable=SC2317 # run by the trap
take_down() {
	local file device
	if [ -n "$node" ]; then
		kill "$node" 2>/dev/null || true
		wait "$node" || true
	fi
	for file in "$work"/srv/file-storage/*/*; do
		for device in $(losetup -n -O NAME -j "$file"); do losetup -d "$device"; done
	done
	rm -rf --one-file-system "$work"
}

# work_folder: makes it, and has it taken down in the end.
work_folder() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/instance-debootstrap-ganeti.XXXXXX")
	trap take_down EXIT
	trap 'exit 143' TERM
	trap 'exit 130' INT
}

# on_a_node TREE|-p COMMAND...: the command, in this folder's copy at /srv/test, on a
# node with the network; its status. -p is node's, instead of a tree.
on_a_node() {
	local here status=0 how=(-t "$1")
	[ "$1" != -p ] || how=(-p)
	shift
	here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
	# Trees of the archive that are there already.
	mkdir -p "$work/srv/trees"
	cp -a --sparse=always "${TEST_CACHE:-/nonexistent}"/cache-* "$work/srv/trees" 2>/dev/null || true
	# The work folder hides behind the node's own /tmp: the checks go to /srv.
	cp -r "$here" "$work/srv/test"
	setpriv --pdeathsig KILL "$here/node" -n "${how[@]}" "$work" "$@" &
	node=$!
	wait "$node" || status=$?
	node=''
	return "$status"
}
