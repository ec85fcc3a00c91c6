# bash completion for instance-debootstrap(8)

_instance_debootstrap() {
	local -a found
	mapfile -t found < <("${COMP_WORDS[0]}" complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	COMPREPLY=("${found[@]%%$'\t'*}")
}

complete -o default -F _instance_debootstrap instance-debootstrap
