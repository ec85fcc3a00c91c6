# The page of the checks on nodes: a table for each kind of node, whose rows each run replaces
# by its own, and leaves the others as they are. Sourced by run, never run. The caller has set
# page, its file, /dev/null for none, and kind, of the nodes.
# shellcheck shell=bash disable=SC2154

# has_row WHAT: the page says of this kind of node that it holds.
has_row() { section | grep -qF "| $1 | " && section | grep -F "| $1 | " | grep -q '| holds'; }

# section: what the page has of this kind of node.
section() { [ ! -s "$page" ] || awk -v title="## $kind" '/^## / { inside = $0 == title } inside' "$page"; }

# new_page: what is the same in all.
new_page() {
	cat >"$page" <<-'END'
	# Nodes as admins have them

	Written by `make check-node`, row by row, each with the day on which it was last seen and the
	version that was tested. The nodes are installed by the program itself: Debian's own kernel with
	systemd, udev, device-mapper, LVM, DRBD and Ganeti, emulated by QEMU. "Free" means that what
	Ganeti does next, to deactivate a volume, remove a snapshot or demote a DRBD device, isn't refused
	because somebody has the disk open; it is asked as soon as the run has ended. What was not free is
	counted. The seconds are of an emulated machine beside others, and mean little.
	END
}

# put_row WHAT HOW RESULT SEEN: in the place of the one that the page has, or as the last of
# this kind's.
put_row() {
	local new
	[ "$page" != /dev/null ] || return 0
	[ -s "$page" ] || new_page
	[ -n "$(section)" ] || printf '\n## %s\n\n| what | how | result | seen |\n|---|---|---|---|\n' "$kind" >>"$page"
	new=$(mktemp "$page.XXXXXX")
	row="| $1 | $2 | $3 | $4 |" awk -v title="## $kind" -v key="| $1 | " '
		function put() { if (inside && !done) print ENVIRON["row"]; done = done || inside }
		inside && index($0, key) == 1 { put(); next }
		inside && table && !/^\|/ { put() }
		/^## / { inside = $0 == title; table = 0 }
		/^\|/ { table = 1 }
		{ print }
		END { if (table) put() }' "$page" >"$new"
	chmod 644 "$new"
	mv "$new" "$page"
}
