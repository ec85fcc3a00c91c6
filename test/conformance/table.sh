# The conformance table: its rows, how one is run under both providers, and the
# document made of them. Sourced by run, which has set scratch, here and tree.
# shellcheck shell=bash disable=SC2154 # run's variables

row_names=()
declare -A row_text row_why section_at
section=''

# section TITLE: the rows that follow are under it.
section() { section=$1; }

# row NAME TEXT [WHY]: a row of the table, as rows/ declare them. WHY says why we
# do not do as the shell provider does; rows without it do the same.
row() {
	row_names+=("$1")
	section_at[$1]=$section
	section=''
	row_text[$1]=$2
	row_why[$1]=${3:-}
}

# outcome_of PROVIDER NAME: run the row; its outcome goes to $scratch/PROVIDER.NAME.
outcome_of() {
	local provider=$1 name=$2 work=$scratch/work.$1.$2 options=()
	[ "$provider" = packaged ] || options=(-t "$tree")
	mkdir -p "$work/srv"
	cp -r "$here" "$work/srv/conformance"
	cp -r "$here/fakes" "$scratch/pattern" "$work/srv/"
	cp --reflink=auto "$scratch/tree.tar" "$work/srv/"
	test/ganeti/node "${options[@]}" "$work" /srv/conformance/row "$name" >"$scratch/$provider.$name" || true
	{
		echo "== $provider, the row's last steps:"
		grep -v '^+* \(local\|environment\|for variable\|words\|\[\)' "$work/srv/trace" | tail -n 15
		echo "== $provider, what the script said:"
		tail -n 20 "$work/srv/log"
	} >"$scratch/$provider.$name.log" 2>&1
	rm -rf --one-file-system "$work"
}

# line NAME: the row as a line of the document.
line() {
	printf '| %s | %s | %s | %s |\n' "${row_text[$1]//|/\\|}" "$(cat "$scratch/packaged.$1")" "$(cat "$scratch/ours.$1")" "${row_why[$1]}"
}

# row_holds NAME: run the row under both providers. Unless a new document is
# being written, they must do what the present one says; and they must do the
# same, or the row says why not.
row_holds() {
	local name=$1
	outcome_of packaged "$name" &
	outcome_of ours "$name"
	wait
	set +x
	# The shell provider cleans up by chance where several things race: when the
	# row is not as written, it, and it only, is asked a second time.
	if [ -z "$table" ] && ! grep -qxF -- "$(line "$name")" docs/conformance.md; then
		outcome_of packaged "$name"
	fi
	cat "$scratch/packaged.$name.log" "$scratch/ours.$name.log"
	line "$name"
	[ -s "$scratch/packaged.$name" ]
	[ -s "$scratch/ours.$name" ]
	if cmp -s "$scratch/packaged.$name" "$scratch/ours.$name"; then
		[ -z "${row_why[$name]}" ] || { echo 'both do the same: the row must not say why they differ'; return 1; }
	else
		[ -n "${row_why[$name]}" ] || { echo 'they differ, and the row does not say why'; return 1; }
	fi
	if [ -z "$table" ] && ! grep -qxF -- "$(line "$name")" docs/conformance.md; then
		echo 'docs/conformance.md says otherwise (test/conformance/run --table writes it anew):'
		grep -F -- "| ${row_text[$name]//|/\\|} |" docs/conformance.md
		return 1
	fi
}

# write_table: the document.
write_table() {
	local name same=0
	for name in "${row_names[@]}"; do
		if [ -z "${row_why[$name]}" ]; then same=$((same + 1)); fi
	done
	cat <<END
# What ours does where the shell provider did something

Made by \`test/conformance/run --table\`, which runs each row on both: the Debian
package ganeti-instance-debootstrap $(dpkg-query -W -f '${Version}' ganeti-instance-debootstrap) and this source. \`make check\` runs the
rows again and fails when either does otherwise. Don't edit it: the rows' texts are in
\`test/conformance/rows\`.

${#row_names[@]} rows; in $same of them both do the same, in the others the last column says why
ours does not. PARTITION_STYLE is none unless the row says otherwise, since the shell
provider needs device-mapper for partitions, which the test does without. "Leaves" is
what is left 2 seconds later of loop devices, mounts, temporary folders and processes.

That hooks of all kinds make the same tree under both is shown by the same command, from
\`test/conformance/hooks\`; \`test/conformance/allowed-differences\` lists what may differ.
END
	for name in "${row_names[@]}"; do
		if [ -n "${section_at[$name]}" ]; then
			printf '\n## %s\n\n' "${section_at[$name]}"
			echo '| what | the shell provider | ours | why it differs |'
			echo '|---|---|---|---|'
		fi
		line "$name"
	done
}
