# The trees that two providers make with the same hooks, compared. Sourced by
# run, which has set scratch, here and tree.
# shellcheck shell=bash disable=SC2154 # run's variables

# real_tree OUT: a root tree as the shell provider would have cached it, that is
# packed with its options; with an ssh server, extended attributes, an ACL,
# a hard link and a machine-id in it.
real_tree() {
	local out=$1 root=$scratch/root
	mmdebstrap --quiet --variant=minbase --include=ifupdown,openssh-server,iputils-ping \
		--customize-hook='setfattr -n user.origin -v lab "$1/etc/issue"' \
		--customize-hook='setfacl -m u:1:r "$1/etc/issue.net"' \
		--customize-hook='ln "$1/etc/issue" "$1/etc/issue.linked"' \
		trixie "$root" "$(archive_mirror)"
	echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
	tar --acls --selinux --xattrs '--xattrs-include=*' -cf "$out" -C "$root" .
	rm -rf --one-file-system "$root"
}

# tree_of PROVIDER HOOKS TAR: install with these hooks; leaves PROVIDER.properties,
# PROVIDER.status and PROVIDER.log in scratch.
tree_of() {
	local provider=$1 hooks=$2 work=$scratch/work.$1 options=()
	[ "$provider" = packaged ] || options=(-t "$tree")
	mkdir -p "$work/srv" "$work/cache"
	cp -r "$here" "$work/srv/conformance"
	cp "$scratch/pattern" "$work/srv/"
	ln "$3" "$work/cache/cache-trixie-$(dpkg --print-architecture).tar"
	test/ganeti/node "${options[@]}" "$work" /srv/conformance/install "$hooks" >"$scratch/$provider.properties" || true
	mv "$work/srv/log" "$scratch/$provider.log"
	mv "$work/srv/status" "$scratch/$provider.status"
	rm -rf --one-file-system "$work"
}

# allowed PATH PROPERTY: whether allowed-differences lists it; the line is noted
# as used.
allowed() {
	local pattern property _
	while read -r pattern property _; do
		# shellcheck disable=SC2053 # a pattern
		if [[ $1 == $pattern && $2 == "$property" ]]; then
			echo "$pattern $property" >>"$scratch/allowances"
			return 0
		fi
	done < <(grep -v '^#' "$here/allowed-differences")
	return 1
}

# differences: PATH <tab> PROPERTY of all in which the two trees differ. A file that
# is in one of them only has one property: only-theirs or only-ours.
differences() {
	LC_ALL=C comm -3 "$scratch/packaged.properties" "$scratch/ours.properties" | awk -F '\t' '
		{ ours = $1 == ""; path = $(1 + ours); property = $(2 + ours); sub(/ .*/, "", property) }
		property == "type" { count[path]++; side[path] = ours ? "only-ours" : "only-theirs" }
		!seen[path, property]++ { all[++n] = path FS property; of[n] = path }
		END {
			for (i = 1; i <= n; i++)
				if (count[of[i]] != 1) print all[i]
			for (path in count)
				if (count[path] == 1) print path FS side[path]
		}' | sort
}

# trees_are_alike HOOKS TAR STATUS: both providers end with this exit status, and
# their trees differ in nothing but what is allowed.
trees_are_alike() {
	tree_of packaged "$1" "$2"
	tree_of ours "$1" "$2"
	set +x
	tail -n 30 "$scratch/packaged.log" "$scratch/ours.log"
	echo "exit status: shell provider $(cat "$scratch/packaged.status"), ours $(cat "$scratch/ours.status"), expected $3"
	[ "$(cat "$scratch/packaged.status")" = "$3" ]
	[ "$(cat "$scratch/ours.status")" = "$3" ]
	echo "lines: $(wc -l <"$scratch/packaged.properties") and $(wc -l <"$scratch/ours.properties")"
	[ "$(wc -l <"$scratch/packaged.properties")" -gt 50 ]
	local path property wrong=0 provider
	while IFS=$'\t' read -r path property; do
		allowed "$path" "$property" && continue
		wrong=$((wrong + 1))
		echo "/$path: $property"
		for provider in packaged ours; do
			awk -F '\t' -v path="$path" -v property="$property" -v provider="$provider" '
				$1 == path && index($2, property) == 1 { print "  " provider ": " $2 " " $3 }' "$scratch/$provider.properties" | head -n 5
		done
	done < <(differences)
	[ "$wrong" = 0 ]
}

# no_allowance_is_idle: every line of allowed-differences was needed.
no_allowance_is_idle() {
	diff <(grep -v '^#' "$here/allowed-differences" | awk 'NF {print $1, $2}' | sort -u) <(sort -u "$scratch/allowances")
}

# compare_trees: the checks of this file.
compare_trees() {
	local real=$scratch/real.tar
	touch "$scratch/allowances"
	check a-real-tree real_tree "$real"
	check hooks-make-the-same-tree trees_are_alike /srv/conformance/hooks "$real" 0
	check a-failing-hook-leaves-the-same-tree trees_are_alike /srv/conformance/hooks-broken "$scratch/tree.tar" 1
	check no-allowance-is-idle no_allowance_is_idle
}
