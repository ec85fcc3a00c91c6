# Named checks and their summary; sourced by the tests, never run. The caller has
# set scratch, a folder for the log of the check that runs.
# shellcheck shell=bash
passed=0 failed=0
check_log=$(mktemp -p "${scratch:?}")

# check NAME COMMAND...: run the command in a subshell that ends at the first
# failing line; its trace is shown when it fails. ADD_LOG, when set, is a command
# that prints more about a failure.
check() {
	local name=$1 began=$SECONDS status errexit=$-; shift
	set +e # the caller's: a failing check is counted, and a subshell behind || would have no -e
	(
		exec >"$check_log" 2>&1 </dev/null
		set -eux
		"$@"
	)
	status=$?
	[[ $errexit != *e* ]] || set -e
	if [ $status -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok $name ($((SECONDS - began)))"
		return 0
	fi
	failed=$((failed + 1))
	echo "FAIL $name"
	{
		echo "exit status $status; its last lines:"
		tail -n 60 "$check_log"
    ${ADD_LOG:+$ADD_LOG}
	} | sed 's/^/    /'
	return 0
}

# known NAME WHY: a check that isn't made here, which is told and not counted.
known() { echo "known $1: $2"; }

# summary: the last line; fails when a check failed.
summary() {
	rm -f "$check_log"
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
}
