package bash

import "testing"

// Each of these must leave the same variables and the same environment as in
// bash, and fail if and only if bash does.
var same = map[string][]string{
	"assignments": {
		`A=1`, `A=1 B=$A`, `A='a b' B="$A c"`, `A=`, `A=""`, `A=$UNSET`, `A=${UNSET}`, `A=x; A+=y`,
		"A=\"a\\\"b\\\\c\\$d\\`e\\f\"", `A='a\b'`, `A=$'a\tb\n\\\''`, `A=a"b"'c'$INSTANCE_NAME`, "A=\"x\ny\"", "A=a\\\nb", "A=\"a\\\nb\"",
		`A=#x`, `A=x#y # comment`, `A=*`, `A=/etc/host*`, `A={a,b}`, `A=[x]`, `A="~"`, `A=a~`, `A=a=b`, `A="a" B='b'; C="$A${B}c"`,
		`A=$INSTANCE_NAME.x`, `A=${INSTANCE_NAME}x`, `A="$DISK_1_PATH"x"$Y"`, `A=$((1)) B=$(echo 2)`, `A=%s; B=$(printf "$A" x)`, `swapdev=$DISK_1_PATH`,
		`A=é; B=${A}x`, `A="ü ö"; for x in $A; do B=$B,$x; done`, `A=-; B=--x`, `A=$EMPTY$EMPTY; B=x$EMPTY`, `A=http://user:pw@mirror.example/debian; B=${A#*@}`, `A="$A$A"`,
		`# only a comment`, ``, "\n\nA=1\n\n\n", `A=1;B=2`, `A=1 ; B=2 ;`, "if [ \"$OS_VARIANT\" = default ]\nthen\n  A=1\nfi",
		`A=1 true; B=$A`, `A=1 env | grep -q ^A=1 && B=1`, `A=0; A=1 B=$A sh -c 'exit $B' || C=$?`, `f() { B=$A; }; A=1; A=2 f`,
	},
	"defaults": {
		`A=${X:-y}`, `A=${X-y}`, `A=${EMPTY:-y}`, `A=${EMPTY-y}`, `A="${X:-a b}"`, `A=${X:+y}`, `A=${INSTANCE_NAME:+y}`, `A=${EMPTY+y}`, `A=${X:-$DISK_1_PATH}`,
		`A=${X:-${Y:-z}}`, `A="${X:-"a b"}"`, `A=${X:-'a b'}`, `: ${X:=y}`, `: "${X:=a b}"`, `: ${EMPTY:=y}`, `: ${EMPTY=y}`, `A=${X:=y}$X`, `: ${X:=$DISK_0_PATH}`,
		`A=${X:?no X}`, `A=${X?}`, `: ${INSTANCE_NAME:?}`, `A=${X:-$(echo d)}`, `A=1; B=${A:-$(echo no >&2; false)}`, `A=${X:-$(false)}`, `A=1; B=${A:+$(echo yes)}`, `A=; B=${A:+$(false)}ok`,
		`B=${A:-${C:-$(echo deep)}}`, `C=1; B=${A:-${C:-$(false)}}`, "A=${X:-`echo d`}", "A=1 B=${A:-`false`}", `A="${X:-$(echo a b)}"`, `A=; B=${A-$(false)}x`, `B=${A-$(echo x)}`, `A=1; B=${A-$(false)}`, `B=${A+$(false)}`,
		`: ${A:=$(echo c)}`, `A=1; : ${A:=$(false)}`, `A=${X:-a}${Y:-b}`, `A=${X:-a:b/c.d}`,
	},
	"patterns": {
		`A=${INSTANCE_NAME%%.*}`, `A=${INSTANCE_NAME#*.}`, `A=${INSTANCE_NAME##*.}`, `A=${INSTANCE_NAME%.*}`, `A=${INSTANCE_NAME%.com}`, `S=.com; A=${INSTANCE_NAME%$S}`, `A=${DISK_0_PATH##*/}`, `A=${INSTANCE_NAME%%[0-9]*}`, `A=${INSTANCE_NAME%".com"}`, `A=${INSTANCE_NAME%x}`, `A=${UNSET%x}`, `A=${INSTANCE_NAME%?}`, `A=${INSTANCE_NAME#[a-w]}`, `A=${INSTANCE_NAME%%[!a-z]*}`, `A="${INSTANCE_NAME%.*}"`, `A=a.b+c; B=${A%+*} C=${A#*.}`, `A='(x)'; B=${A%)} C=${A#(}`, `A='$x^'; B=${A#$}`,
		`A=${INSTANCE_NAME/web/db}`, `A=${INSTANCE_NAME//e/E}`, `A=${INSTANCE_NAME//./-}`, `A=${DISK_0_PATH//\//_}`, `A=${INSTANCE_NAME/web}`, `B=x; A=${INSTANCE_NAME//e/$B}`, `A="a b c"; B=${A// /,}`, `A="a,b"; B="${A//,/ }"`, `A=${INSTANCE_NAME//[0-9]/N}`, `A=${INSTANCE_NAME/*/x}`, `A=aXbX; B=${A/X*/-}`, `A=${EMPTY//x/y}`,
		`A=${INSTANCE_NAME^^}`, `A=${INSTANCE_NAME^}`, `A=ABC; B=${A,,}; C=${A,}`, `A=${#INSTANCE_NAME}`, `A=${INSTANCE_NAME:0:3}`, `A=${INSTANCE_NAME:3}`, `A=${INSTANCE_NAME: -3}`, `A=${INSTANCE_NAME:(-3)}`, `A=${INSTANCE_NAME:100}`, `A=${EMPTY:0:1}`, `A=${INSTANCE_NAME: -100}`, `A=${INSTANCE_NAME:2:100}`,
		`N=DISK_1_PATH; A=${!N}`, `N=X; A="${!N}"`,
	},
	"arithmetic": {
		`A=$((1+2*3))`, `A=$((DISK_0_SIZE/1024))`, `A=$(($DISK_0_SIZE % 1000))`, `N=7; A=$(( (N+1)*2 - -3 ))`, `A=$((2**10))`, `A=$((1<<4|1))`, `A=$((UNSET+1))`, `A=$((5>3 && 2<1 || 1))`, `A=$((!0))`, `A=$((DISK_COUNT==2))`, `N=$((N+1)); N=$((N+1))`, `A=$((-7/2))`, `A=$((-7%3))`, `A=$((~5))`, `A=$((${#INSTANCE_NAME}+1))`, `A=$((${X:-4}*2))`, `A="$((DISK_COUNT - 1))"`, `A=$((1 - 2 - 3)) B=$((2 - (3 - 4)))`, `A=$((5 & 3 ^ 1))`, `A=$((7 != 7))`,
		`(( DISK_COUNT > 1 )) && A=1`, `(( DISK_COUNT > 5 )) || A=1`, `if (( DISK_0_SIZE >= 10240 )); then A=big; fi`, `(( 0 ))`, `f() { A=$(($1*2)); }; f 21`, `A=$((DISK_0_SIZE - 512))M`,
	},
	"substitutions": {
		`A=$(echo x)`, `A=$(echo 'a   b')`, `A="$(echo 'a   b')"`, "A=`echo x`", "A=\"`echo a b`\"", `A=$(printf 'a\n\n\n')`, `A=$(printf '\n\na')`, `A=$(echo $(echo x))`, `A=$(false; echo x)`, `A=$(exit 3)`, `A=$(false)`, `A=$(false) B=$(true)`, `A=$(true) B=$(false)`, `A=x$(false)y`, `echo $(false)`, `: $(false)`, `export A=$(false)`, `A=$(false) || B=1`, `if A=$(false); then B=1; else B=2; fi`, `if A=$(false; echo x); then B=1; fi`, `A=$(echo x; false)`, `A=$(uname -s)`, `A=$(nonexistent-command)`, `A=$(nonexistent-command 2>/dev/null || echo fallback)`, `A=$(echo a | tr a b)`, `A=$(echo a | false)`, `A=$(false | echo a)`, `A=$(X=1; echo $X)`, `X=1; A=$(X=2; echo $X)`, `A=$(cd /; pwd)`, `A=$(if true; then echo y; fi)`, `A=$(for i in 1 2; do echo $i; done)`, `A=$(for i in b a; do echo $i; done | sort)`, `A=$(printf 'a b\nc d\n' | while read -r X Y; do echo $Y; done)`, `A=$( (echo x; false; echo y) )`, `A=$(cat /etc/hostname)`, `A=$(cat /nonexistent)`, `A=$(echo a
echo b)`, "A=$(echo x # comment\n)", `A=$(echo ")")`, `A=$(case a in (a) echo 1;; esac)`, `A=$(export X=1; env | grep ^X=)`, `A=$(echo a; exit 4; echo b) || B=$?`, `A=$(false || echo x)`, `A=$(true && false; echo $X)`, `$(false)`, `$(echo true)`, `$(echo false)`, `A=1; $EMPTY; B=2`, `A=$(f) || B=1`, `A="$(echo "$(echo "x  y")")"`,
	},
	"errexit": {
		`false`, `false || true`, `true && false`, `false && true`, `false; A=1`, `! true`, `! false`, `if false; then A=1; fi`, `false | true`, `true | false`, `A=1 | true`, `{ false; A=1; }`, `{ false; A=1; } || B=2`, `(exit 3)`, `(false && true)`, `(A=1)`, `(exit 3) || A=1`, `nonexistent-command`, `nonexistent-command || A=1`, `/etc`, `exit 0`, `exit 3`, `[ -f /nonexistent ] && A=1`, `[ -f /nonexistent ]`, `test -d /etc && A=1; B=2`, `(A=1; false); B=2`, `(false; true); B=2`, `if (false); then A=1; fi`, `false || false; A=1`, `false || { false; A=1; }; B=1`, `{ false; } && A=1; B=1`, `sh -c 'kill -9 $$'`, `sh -c 'exit 7' || A=$?`,
		`if true; then [ -f /nonexistent ] && A=1; fi; B=2`, `if true; then false && true; else A=1; fi; B=2`, `for i in a b; do [ $i = a ] && A=$i; done; B=2`, `case x in x) false && A=1;; esac; B=2`, "case x in\n x)\n   false && A=1\n   ;;\nesac; B=2", "case x in x) false && A=1\nesac; B=2", "case x in x) false && A=1 # why\n;; y) A=3; esac; B=2", `{ false && A=1; }; B=2`, `for i in a; do ! true; done; B=2`, `while true; do false && A=1; break; done; B=2`, `if true; then if true; then false && A=1; fi; fi; B=2`, `if true; then { [ x = y ] && A=1; }; fi; B=2`, `if false; then :; elif true; then false && A=1; fi; B=2`, `until true; do :; done; B=2`, `if true; then true; false || false; fi; B=2`, "if true; then\n  [ x = y ] && A=1 # a comment\nfi\nB=2", `if false; then A=1; else false && true; fi; B=1`, `for x in 1 2; do if [ $x = 1 ]; then A=1; fi; done; B=1`, `while false; do A=1; done; B=1`,
	},
	"functions": {
		`f() { A=1; }; f`, `f() { false; A=1; }; f`, `f() { false; A=1; }; f || B=2`, `f() { false; }; if f; then B=1; fi; C=3`, `f() { local A=5; B=$A; }; A=1; f`, `f() { return 3; }; f`, `f() { return 3; }; f || A=$?`, `f() { [ "$1" = x ] && A=1; }; f y; B=2`, `f() { [ "$1" = x ] && A=1; }; f x; B=2`, `f() { if true; then [ "$1" = x ] && A=1; fi; }; f y; B=2`, `f() { if true; then [ "$1" = x ] && A=1; fi; B=1; }; f y; C=2`, `f() { echo "$1-$2-$#"; }; A=$(f a "b c")`, `f() { A=$*; B="$@"; }; f a "b c"`, `f() { for i; do A=$A$i; done; }; f x y`, `f() { shift; A=$1; }; f a b`, `f() { false; echo x; }; A=$(f)`, `f() { false; echo x; }; if A=$(f); then B=1; fi`, `f() { A=$(false); B=1; }; if f; then C=1; fi`, `function f { A=1; }; f`, `f() { echo hi; return 1; }; if ! f; then A=1; fi`, `f() { local x; x=1; A=$x; }; f`, `f() { : ${A:=1}; }; f`, `f() { local A; : ${A:=1}; B=$A; }; f`, `f() { g; }; g() { A=1; }; f`, `f() { local A=x; g; }; g() { B=$A; A=y; }; A=1; f`, `f() { A=$1; }; f $(echo x)`, `f() { case $1 in a) return 0;; esac; A=1; }; f a; f b`, `f() { while :; do return 0; done; A=1; }; f`, "f() {\n  A=1\n}\nf", `f() { test -n "$1" || return 1; A=$1; }; f "" || B=1; f x`, `f() { local -r A=1; B=$A; }; f`, `f() { export A=1; }; f`, `f() { declare A=1; B=$A; }; f; C=$A`, `f() { declare -g A=1; }; f`,
	},
	"test": {
		`A=1; [ "$A" = 1 ] && B=1 || B=2`, `[ "$A" ] || B=1`, `[ ! "$A" ] && B=1`, `[ -n "$DISK_1_PATH" -a -n "$INSTANCE_NAME" ] && A=1`, `[ "$X" = a -a "$Y" = b -o "$DISK_COUNT" = 2 ] && A=1`, `[ 1 = 1 -o 1 = 2 -a 1 = 2 ] && A=1`, `[ ! 1 = 2 -a 1 = 1 ] && A=1`, `[ "(" = "(" ] && A=1`, `[ "-f" = "-f" ] && A=1`, `[ ! = ! ] && A=1`, `[ -n ] && A=1`, `[ ! -f /x ] && A=1`, `[ "(" 1 = 1 ")" ] && A=1`, `[ "$DISK_COUNT" -gt 1 ] && A=1`, `[ 08 -eq 8 ] && A=1`, `[ " 2" -eq 2 ] && A=1`, `[ -e /etc/passwd ] && A=1`, `[ -d /etc ] && [ -r /etc/passwd ] && A=1`, `[ -s /etc/passwd ] && A=1`, `[ -x /bin/sh ] && A=1`, `[ -L /bin ] && A=1`, `[ -b /dev/null ] || A=1`, `[ -c /dev/null ] && A=1`, `[ /etc/passwd -ef /etc/../etc/passwd ] && A=1`, `[ a "<" b ] && A=1`, `[ -z "" ] && A=1`, `[ "a b" = "a b" ] && A=1`, `[ -v INSTANCE_NAME ] && A=1`, `test ! -d /nonexistent && A=1`, `[ a ] && A=1`, `[ ] || A=1`, `[ /etc/passwd -nt /nonexistent ] && A=1`, `[ "$EMPTY" != "" ] || A=1`, `[ -n "$A" ] || [ -n "$INSTANCE_NAME" ] && B=1`, `[ $UNSET = x ] || A=1`, `[ -z $UNSET ] && A=1`, `[ -n "x" -a ! -e /x ] && A=1`, `[ ! "(" a = b -o c = c ")" ] || A=1`, `[ -a /etc ] && A=1`, `[ ! ! a ] || A=1`, `[ x = x ]; A=1`, `[ 1 -ne 2 ] && [ 1 -le 1 ] && [ 2 -ge 1 ] && [ 1 -lt 2 ] && A=1`,
	},
	"double brackets": {
		`[[ $INSTANCE_NAME == web* ]] && A=1`, `[[ $INSTANCE_NAME == "web*" ]] || A=1`, `[[ $INSTANCE_NAME != *.org ]] && A=1`, `[[ -n $A || -n $INSTANCE_NAME ]] && B=1`, `[[ -z $A && $DISK_COUNT -ge 2 ]] && B=1`, `[[ ! -f /nonexistent ]] && A=1`, `[[ $INSTANCE_NAME =~ ^web[0-9]+\. ]] && A=1`, `[[ $INSTANCE_NAME =~ ^([a-z]+)([0-9]+) ]] && A=${BASH_REMATCH[1]} B=${BASH_REMATCH[2]}`, `R='^web'; [[ $INSTANCE_NAME =~ $R ]] && A=1`, `[[ a < b ]] && A=1`, `[[ $UNSET ]] || A=1`, `[[ -v DISK_1_PATH ]] && A=1`, `[[ "$DISK_COUNT" -eq 2 ]] && A=1`, `[[ (a == a || b == c) && c == d ]] || A=1`, `P='w*1*'; [[ $INSTANCE_NAME == $P ]] && A=1`, `[[ a = a ]] && A=1`, `[[ $INSTANCE_NAME == [a-w]* ]] && A=1`, `[[ ! a == a ]] || A=1`, `if [[ $INSTANCE_HV_serial_console == True ]]; then A=ttyS0; fi`, `[[ $DISK_COUNT -gt $((1+1)) ]] || A=1`, `[[ a == b ]]; A=1`, `[[ $INSTANCE_NAME == *.example.* ]] && A=1`, `[[ web1 =~ ^(web|db)[0-9]$ ]] && A=1`, `[[ a.b =~ ^a\.b$ ]] && A=1`, `[[ $NIC_0_IP == 192.0.2.* ]] && A=1`, `[[ -d /etc && -r /etc/passwd ]] && A=1`,
	},
	"case": {
		`case $INSTANCE_NAME in web*) A=web;; db*|sql*) A=db;; *) A=other;; esac`, `case $INSTANCE_NAME in *.org) A=1;; esac`, `case "$OS_VARIANT" in default|"") A=1 ;; esac`, `case x in [a-c]) A=1;; [!a-c]) A=2;; esac`, `case "a b" in "a b") A=1;; esac`, `case a in (a) A=1;; esac`, `P=w*; case $INSTANCE_NAME in $P) A=1;; esac`, `case $DISK_0_SIZE in ????) A=s;; ?????) A=m;; esac`, `case '*' in \*) A=1;; esac`, `case $EMPTY in "") A=1;; esac`, `case a in a) ;; esac; A=1`, "case $INSTANCE_NAME in\n  web*) A=1\n    B=2 ;;\n  *)\n    A=3\n    ;;\nesac", `case a in b) A=1;; esac`, `case "$(uname -s)" in Linux) A=1;; esac`, `case $X in '') A=1;; esac`, `case aXb in a"X"*) A=1;; esac`,
	},
	"loops": {
		`for p in a b "c d"; do A="$A,$p"; done`, `L="a b"; for p in $L; do A=$A$p; done`, `for p in "$EMPTY" $EMPTY x; do A="$A[$p]"; done`, `for p in /etc/host*; do A=$A,$p; done`, `for p in /nonexistent*; do A=$p; done`, `for i in {1..3}; do A=$A$i; done`, `for i in {a,b}{1,2}; do A=$A$i; done`, `for i in 1 2 3; do [ $i = 2 ] && break; A=$i; done`, `for i in 1 2 3; do if [ $i = 2 ]; then continue; fi; A=$A$i; done`, `i=0; while [ $i -lt 3 ]; do i=$((i+1)); done`, `i=3; until [ $i -eq 0 ]; do i=$((i-1)); done`, `for p in $(echo a b); do A=$A.$p; done`, `for EMPTY in a; do :; done`, `for p in ; do A=1; done`, `while read -r A B; do C="$C<$A|$B>"; done < /etc/hosts`, "while read -r A; do C=\"$C<$A>\"; done <<EOF\n  a  b\nc\nEOF", "while read -r; do C=\"$C<$REPLY>\"; done <<EOF\n  a  b\nEOF", `for a in 1 2; do for b in x y; do [ $b = y ] && continue 2; A=$A$a$b; done; done`, `for p in /etc/ho[s]t?; do A=$p; done`, `for x in a b; do A=$x; done; B=$x`,
	},
	"declarations": {
		`export A=1`, `export A=1 B=2`, `A=1; export A`, `export A; A=1`, `export A="$INSTANCE_NAME x"`, `export EMPTY=x`, `EMPTY=y`, `: ${EMPTY:=z}`, `unset EMPTY`, `unset EMPTY; EMPTY=1`, `unset EMPTY; export EMPTY=2`, `set -a; A=1; set +a; B=2`, "set -a\nA=1; : ${B:=2}; for C in x; do :; done; read -r D <<<x\nset +a", `declare -x A=1`, `declare A=1`, `readonly A=1`, `declare -r A=1; B=2`, `declare -a A; A=(x)`, `export http_proxy=http://p.example:3128 https_proxy=x`, `export A; unset A`, `export A=$DISK_1_PATH`, `export A='*' B="x"x`, `export PATH=/opt/bin:$PATH; A=$PATH`, `PATH=$PATH:/x`, `readonly A=1; A=2`, `export A=1; A=2`, `export A=1; f() { A=2; }; f`, `export A=1; A=$(echo 3)`, `export A=1; for A in 2; do :; done`, `export A=1; read -r A <<<4`, `export A=$(echo x y)`, `local A=1`, `export A=a*b`, `export LC_ALL=C LANG=C`, `A=1; export A=2; unset A; A=3`, `export A B; A=1 B=2`,
	},
	"arrays": {
		`A=(a b "c d"); B=${A[1]}; C=${#A[@]}; D="${A[*]}"`, `A=(); A+=(x); A+=(y z); B="${A[@]}"`, `A=(a b); for x in "${A[@]}"; do B=$B-$x; done`, `A=(a b); B=$A`, `A=(a "b c"); for x in ${A[@]}; do B=$B-$x; done`, `A=($INSTANCE_NAME $DISK_COUNT)`, `A=($(echo a b c)); B=${A[2]}; C=${A[9]}`, `A=(a b); B=$(printf '%s,' "${A[@]}"); B=${B%,}`, `A=(a b c); B="${A[@]:1}"; C="${A[*]:0:2}"`, `A=(a); A=x`, `A=x; A+=(y)`, `P=(vim less); EXTRA_PKGS="${P[*]}"; EXTRA_PKGS=${EXTRA_PKGS// /,}`, `A=(a b); [ ${#A[@]} -gt 1 ] && B=1`, `A=(a b); f() { B="$#"; }; f "${A[@]}"`, `A=(x "" y); B=${#A[@]}; f() { C=$#; }; f "${A[@]}"`, `f() { C=$#; }; f "${NONE[@]}"`, `A=(/etc/host*)`, `A=(a); unset A; B=${A-none}`, "A=(\n  a # first\n  b\n)", `A=(a b); A+=(c); B=${A[*]}`, `f() { local A=(x y); B=${A[1]}; }; f`, `A=(a b); B=${A[0]}`,
	},
	"documents": {
		"A=$(cat <<EOF\nx $INSTANCE_NAME\nEOF\n)", "A=$(cat <<'EOF'\nx $INSTANCE_NAME \\a\nEOF\n)", "A=$(cat <<EOF\na \\$b \\\\ \"q\" 'r' $(echo s)\nEOF\n)", `read -r A B <<<"a b c"`, `read -r A <<<"  a b  "`, `read -r A B C <<< "x"`, `read -r A < /etc/hostname`, `read -r A B < /nonexistent || C=1`, `A=$(tr a b <<<"$INSTANCE_NAME")`, `read -r A || B=1`, "cat <<EOF >/dev/null\n x\nEOF\nA=1", "if true; then cat <<EOF >/dev/null\nx\nEOF\nfalse && true\nfi; A=1", "A=$(cat <<EOF\n${X:-d}\n$((1+1))\nEOF\n)", `X='a  b'; read -r A <<<$X`, "read -r A B <<EOF\n a\tb  c \nEOF",
	},
	"printing": {
		`echo hi`, `echo hi >&2`, `printf '%s\n' a b >/dev/null`, `A=$(printf '%s-%s\n' a b c d)`, `A=$(printf '%05d|%-5s|%5s|%x' 42 ab cd 255)`, `A=$(printf '%%\t%s' x)`, `A=$(echo -n x)y`, `A=$(echo -e 'a\tb')`, `A=$(echo -ne 'a\n')x`, `A=$(echo -nx)`, `A=$(echo 'a\tb')`, `A=$(echo -E 'a\tb')`, `A=$(echo -eE 'a\tb')`, `A=$(echo - x)`, `A=$(echo)`, `echo x > /dev/null 2>&1`, `true 2>/dev/null`, `ls /nonexistent 2>/dev/null || A=1`, `ls /nonexistent &>/dev/null || A=1`, `A=$(ls /nonexistent 2>&1 >/dev/null) || B=1`, `echo x >/nonexistent/y || A=1`, `printf -- '%s' x`, `A=$(printf 'x\ny')`, `A=$(printf '%s\n' "a  b")`, `A=$(printf %s x)`, `A=$(printf '%d%%' 5)`, `A=$(printf '%c' abc)`, `A=$(printf '%i %u %o' 1 2 8)`, `A=$(printf "%s" "$INSTANCE_NAME" | wc -c)`, `A=$(echo "a;b|c&d")`, `A=$(echo a"b c"'d  e')`,
	},
	"commands": {
		`command -v ls >/dev/null && A=1`, `A=$(command -v sh)`, `command -v nosuch >/dev/null || A=1`, `if command -v nosuch >/dev/null 2>&1; then A=1; else A=2; fi`, `type nosuch >/dev/null 2>&1 || A=1`, `command echo -ne x`, `cd /; A=$PWD`, `cd /nonexistent 2>/dev/null || A=1`, `cd /usr/bin && cd .. && A=$(pwd)`, `set -u; A=${X:-y}`, `set -u; A=$X`, `set -u; A=$INSTANCE_NAME`, `set -o pipefail; false | true`, `set -o pipefail; A=$(false | true)`, `set -euo pipefail; A=1`, `set -f; for p in /etc/host*; do A=$p; done`, `set -- a b c; A=$2 B=$#`, `shopt -s nullglob; for p in /nonexistent*; do A=$p; done; B=1`, `sed -n 1p /etc/passwd >/dev/null; A=1`, `A=$(sed s/web/db/ <<<"$INSTANCE_NAME")`, `A=$(env -i /bin/sh -c 'echo $A')`, `A=$(sh -c 'echo $INSTANCE_NAME')`, `A=1; B=$(sh -c 'echo "[$A]"')`, `command false || A=1`, `command -v cd echo >/dev/null && A=1`,
	},
	"eval and source": {
		`eval "A=1"`, `eval 'A="$INSTANCE_NAME x"'`, `V=A; eval "$V=5"`, `eval "$(echo A=1; echo 'B="x y"')"`, `eval false`, `eval "false; A=1" || B=1`, `eval 'A=${INSTANCE_NAME%%.*}'`, `eval`, `eval ""; A=1`, `eval "A=\$((DISK_COUNT+1))"`, `eval "$(printf 'A=%s\n' 1 2)"`,
		`. /etc/os-release; A=$ID`, `. /nonexistent`, `. /nonexistent || A=1`, `[ -r /etc/os-release ] && . /etc/os-release && A=$ID`, `if [ -f /etc/os-release ]; then . /etc/os-release; fi; A=$VERSION_CODENAME`, `source /etc/os-release; A=$PRETTY_NAME`, `A=$(. /etc/os-release; echo $VERSION_ID)`, `set -a; . /etc/os-release; set +a; A=$ID`,
	},
	"real life": {
		`EXTRA_PKGS="vim"; EXTRA_PKGS="${EXTRA_PKGS:+$EXTRA_PKGS,}less"`, `A=${A:+$A,}vim`, `[ $UNSET = x ] || A=1`, `if [ $UNSET = x ]; then A=1; else A=2; fi`, `[ x -eq 1 ] || A=$?`, `[ $UNSET ] || A=1`, `[ a b ]`, `[ "" -gt 1 ] || A=1`, `[ a = b c ] || A=$?`, `[ a -foo b ] || A=$?`, `[ $UNSET -gt 5 ] && A=1; B=2`,
		`IFS=. read -r A B C D <<<"$NIC_0_IP"`, `IFS=: read -r A B C < /etc/passwd`, `while IFS= read -r A; do B="$B<$A>"; done < /etc/hosts`, `IFS=, read -r A B <<<"a,b,c"`, `IFS=, read -r A B C <<<"a,,c"`, `IFS=, read -r A B <<<"a,b,"`, `IFS=, read -r A B <<<"a,b,,"`, `IFS=, read -r A <<<"a,"`, `IFS=, read -r A <<<"a,b"`, `IFS=", " read -r A B C <<<" a , b ,c "`, `IFS=" ," read -r A B C <<<"a  b,,c"`, `IFS=, read -r A B C <<<",x"`, `IFS=: read -r A B <<<":"`, `IFS=: read -r A B <<<"a::"`, `IFS=x read -r A B <<<"axb"; C="d e"; for i in $C; do D=$D.$i; done`, `IFS= read -r A <<<"  x  "`, `IFS=, read -r <<<" a,b "`, `IFS=" " read -r A B <<<"	a b	"`,
		`A=$(find /etc/passwd -exec echo {} \;)`, `[ \( a = a \) ] && A=1`, `A=$(echo a\ b \$x \"q\" \'r\' \#)`, `[ a \< b ] && A=1`, `HOME=/home/x; A=~/y; B=~`, `HOME=/home/x; for p in ~/y ~; do A=$A,$p; done`, `A=x${#EMPTY}`,
		`SUITE=bookworm
case "$SUITE" in
    bookworm|trixie)
        COMPONENTS="main,contrib,non-free-firmware"
        ;;
    *)  COMPONENTS=main ;;
esac`, `if grep -q nosuchuser /etc/passwd; then A=1; else A=2; fi`, `A=$(awk -F: '$1 == "root" { print $3 }' /etc/passwd)`, `A=$(date +%Y 2>/dev/null | grep -c 20)`, `A=$(dpkg --print-architecture)`, `A=$(hostname -f 2>/dev/null || hostname); A=${A:+set}`, `A=$(echo $INSTANCE_NAME | cut -d. -f1)`, `A=$(echo "$INSTANCE_NAME" | sed -e 's/[0-9]*\..*//')`, `echo "$INSTANCE_NAME" | grep -q ^web && A=web`, `if echo "$INSTANCE_NAME" | grep -q ^db; then A=db; fi`, `test -n "$DISK_1_PATH" && swapdev="$DISK_1_PATH"`, `if [ "${DISK_COUNT:-1}" -ge 2 ]; then swapdev=$DISK_1_PATH; fi`, `[ -z "$PROXY" ] || export http_proxy="$PROXY"`, `log() { echo "$*" >&2; }; log "instance $INSTANCE_NAME"`, `add() { EXTRA_PKGS="${EXTRA_PKGS:+$EXTRA_PKGS,}$1"; }; add vim; add less`, `for p in vim less; do EXTRA_PKGS="$EXTRA_PKGS,$p"; done; EXTRA_PKGS=${EXTRA_PKGS#,}`, `PKGS="vim less
  mc"; EXTRA_PKGS=$(echo $PKGS | tr ' ' ,)`, `A=$(basename $DISK_0_PATH)`, `A=$(readlink -f /bin)`, `A=${OSP_FILESYSTEM:-ext4}`, `n=0; while [ $n -lt $DISK_COUNT ]; do v=DISK_${n}_PATH; A="$A ${!v}"; n=$((n+1)); done`,
	},
	"special": {
		`A=$?`, `false || A=$?`, `A=$#`, `A=$$; [ "$A" -gt 0 ] && A=ok`, `A=$HOSTNAME; A=${A:+set}`, `A=$UID`, `A=${HOME-unset}`, `A=$1`, `A=$*`, `A="$@"`, `A=$LINENO`, `unset A B; C=${A-u}`, `unset -v EMPTY`, `f() { :; }; unset -f f; f || A=1`, "A=1\nB=$LINENO",
		`f() { A="[$1]"; }; f $EMPTY y; `, `f() { A="$#[$1]"; }; f "$EMPTY" ""`, `f() { A="$#"; }; f $EMPTY"" x`, `f() { A="$#$1$2"; }; X=" a b "; f x$X; `, `f() { A="$#$1$2$3"; }; X=" a b "; f x${X}y`, `f() { A="$1"; }; f "a"'b'$INSTANCE_NAME"c d"`, `f() { A="$#"; }; f "a b"$(echo c d)`, `f() { A="$1|$2"; }; f a{b,c}`, `f() { A=$1; }; f {a}`, `f() { A=$1; }; f {1..`, `f() { A=$1; }; f a{x`, `f() { A="$*"; }; f {3..1} {01..03} {a..c}`, `f() { A="$#$*"; }; f '*' "?" "[a]"`, `f() { A="$#$*"; }; X='a*b'; f $X "$X"`, `f() { A="$*"; }; f -n --x=y x=y`,
	},
}

func TestSnippetsAreEvaluatedAsByBash(t *testing.T) {
	for group, texts := range same {
		for _, text := range texts {
			if d := compare(t, text); d != "" {
				t.Errorf("%s: %s\n%s", group, text, d)
			}
		}
	}
}
