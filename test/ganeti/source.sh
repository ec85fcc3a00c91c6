# Where a test gets the OS definition and the mirror from; sourced, never run.
# shellcheck shell=bash

# install_tree SOURCE TREE: build the source with the default paths, whatever its
# own configuration is, and install it into TREE. TREE.build is the build folder.
install_tree() {
	if ! make -C "$1" --no-print-directory install "DESTDIR=$2" "builddir=$2.build" \
		prefix=/usr exec_prefix=/usr sbindir=/usr/sbin datarootdir=/usr/share datadir=/usr/share \
		mandir=/usr/share/man sysconfdir=/etc localstatedir=/var osdir=/usr/share/ganeti/os \
		>"$2.log" 2>&1; then
		tail -n 40 "$2.log" >&2
		echo "make install DESTDIR=$2 failed" >&2
		return 1
	fi
}

# archive_mirror: the Debian archive, as a URL without a slash at its end.
archive_mirror() {
	local url=${TEST_MIRROR:-}
	[ -n "$url" ] || url=$("$(dirname "${BASH_SOURCE[0]}")/../archive" | cut -d' ' -f1)
	[ -n "$url" ] || return 1
	echo "${url%/}"
}

# archive_suite: the suite that apt uses.
archive_suite() {
	[ -n "${TEST_SUITE:-}" ] || { "$(dirname "${BASH_SOURCE[0]}")/../archive" | cut -d' ' -f2; return; }
	echo "$TEST_SUITE"
}

# has_licences PROGRAM FILE: FILE has the licence of each Go module that is linked into the program.
has_licences() {
	local linked
	linked=$("$(tools/find-go)" version -m "$1" | awk '$1 == "dep" { print $2 }' | sort)
	grep -q golang.org/x/sys <<<"$linked"
	comm -23 - <(sed -n 's,^Files: vendor/\(.*\)/\*$,\1,p' "$2" | sort) <<<"$linked" | diff /dev/null -
	test "$(grep -c -e '^ Permission is hereby granted' -e '^ Redistribution and use' -e '^ The Apache License' "$2")" -ge "$(grep -c '^Files: vendor/' "$2")"
}
