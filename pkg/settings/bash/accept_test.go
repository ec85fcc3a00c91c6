package bash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Texts that one interpreter of shell files or another takes otherwise than bash.
var subtle = []string{
	`A=$(</etc/hostname)`, `trap 'A=1' EXIT`, `sleep 0 &`, `A=a\ b`, `A=\*`, `IFS=,`, `IFS=, A=1`, `declare -A M`, `A[1]=x`, `A=([2]=x)`, `declare -i N=1`, `declare -u N=a`, `export -n A`, `export -f f`, `export -p`, `declare -p A`, `typeset A=1`, `readonly`,
	`select A in x; do break; done`, `for ((i=0;i<2;i++)); do :; done`, `let A=1`, `time true`, `cat <(echo)`, `A=$"x"`, `A=${B@Q}`, `A=(a); B=${!A[@]}`, `case a in a) ;;& b) ;; esac`, `case a in a) ;& b) ;; esac`, `echo a | read -r X`, `echo a | while read -r X; do :; done`, `exec 2>/dev/null`,
	`((A++))`, `A=$((A++))`, `A=$((A=1))`, `A=$((1?2:3))`, `A=$((010))`, `A=$((0x10))`, `A=$((1,2))`, `A=$[1+1]`, `N=08; A=$((N+1))`, `N=0x1; (( N > 0 ))`, `N=1k; A=$((N))`, `N=M; M=2; A=$((N))`, `A=$((1/0))`, `N=0; A=$((1/N))`, `N=0; A=$((1%$N))`, `A=$((1/(1-1)))`, `A=$((2**N))`, `A=$(( $(echo 1) ))`, `N=99999999999999999999; A=$((N))`, `N="1 + 1"; A=$((N))`,
	`printf '%q' x`, `printf -v A x`, `printf '%.2f' 1`, `printf '%d' x`, `printf '%d' 010`, `printf '%s %s\n' a`, `printf '%*d' 1 2`, `echo -e '\x41'`, `echo -e 'a\c'`, `read A`, `read -r -d x A`, `read -ra A`, `read -r -p x A`, `read -r A[0]`, `mapfile -t A </etc/hosts`, `getopts a A`,
	`A=$!`, `A=$_`, `A=${10}`, `A=$SECONDS`, `A=$BASH_VERSION`, `A=$PIPESTATUS`, `A=$GID`, `A=$OSTYPE`, `A=$FUNCNAME`, `UID=5`, `RANDOM=1`,
	`A=${B/#a/b}`, `A=${B/%a/b}`, `A=${B%"*"}`, `B='*'; A=${C%"$B"}`, `A=${B//x/&}`, `X='a&b'; A=${B/x/$X}`, `A=${B%%@(a|b)}`, `P='@(a)'; A=${B#$P}`, `A=${B:$C}`, `A=${B:1:-1}`, `A=${B^a}`, `A=("x"); B=${A[@]#x}`, `A=(x); B=${A[i]}`, `A=(x); B=${A[-1]}`, `B=$'a\nb'; A=${B%x*}`, `A=${B:+"$B"}; echo ${B:+"$B"}`, `echo ${B:-'a b'}`, `A="${B:-'a'}"`, `A="${B:-~}"`, `A=${B:-${C:=x}}`, `A=${B:-${C:?}}`, `A=${B:-$(</etc/hosts)}`, "A=`echo \\`echo x\\``", `A=ä; B=${#A}`, `A=ä; B=${A^^}`, `A=ä; B=${A:0:1}`, `N=; A=${!N}`, `N="a b"; A=${!N}`, `A=$'\u00e4'`, `A=$'\cx'`,
	`case a in @(a|b)) ;; esac`, `case a in [[:alpha:]1]) ;; esac`, `case - in [-a]) ;; esac`, `P='?(x)'; case a in $P) ;; esac`, `echo [` + "`" + `]x`, `echo \*`, `echo a\~`, `echo \\`, `A=x:~/y`, `cat x=~/y`, `A=~root/x`,
	`set -x`, `set`, `set x`, `set -o posix`, `shopt -s extglob`, `shopt nullglob`, `ulimit -c 0`, `umask 022`, `hash x`, `alias a=b`, `wait`, `jobs`, `kill $$`, `pushd /`, `type -t ls`, `command -V ls`, `cd`, `cd -`, `cd -P /`, `enable x`, `newgrp x`, `unset A[0]`, `unset -n A`, `builtin`, `times`, `suspend`, `command umask 022`, `C=umask; $C 022`,
	`[ -t 1 ]`, `[ -o errexit ]`, `[[ a -nt b ]]`, `[[ -t 1 ]]`, `[[ -N x ]]`, `[[ a =~ "a" ]]`, `[[ a =~ \ba ]]`, `[[ a =~ a*? ]]`, `[[ a =~ (?i)A ]]`, `[[ ab =~ (a|ab)(c|b)? ]] && A=${BASH_REMATCH[0]}`, `R='\w'; [[ a =~ $R ]]`, `R='['; [[ a =~ $R ]]`, `[[ a =~ [a\]] ]]`, `[[ X -gt 1 ]]`, `[[ 010 -eq 8 ]]`, `N=010; [[ $N -eq 8 ]]`, `[[ -n x && $(echo y) == y ]]`, `[[ a == b || c == d && e == e ]]`, `[[ ! a == b && c == d ]]`, `[[ a == @(a|b) ]]`, `[[ -v A[0] ]]`,
	"A=caf\xe9",
	`f() { local A=1 B=$A; }`, `export A=1 B=$A`, `export A=1 B=$(echo $A)`, `export "$A=1"`, `export A$B=1`, `declare $A`, `f() ( A=1 )`, `f() { g() { :; }; }`, `f() { typeset A=1; }`, `f() { declare -x A=1; }`, `f() { local A; export A; }`,
	`echo x >&3`, `echo x 3>/dev/null`, `exec 3>&1`, `cat <&0`, `echo x >|/dev/null`, `echo x >&-`, "cat <<-EOF\n\tx\nEOF", `cat <>/dev/null`, `{ A=1; } {fd}>/dev/null`,
	`! { false; true; }`, `f() { :; }; ! f`, `if (false; true); then :; fi`, `f() { (false; true); }`, `f() { { false; true; } | cat; }`, `A=$(echo $?)`, `if true; then false && true; fi; A=$?`, `A=$(set -e; false; true)`, `A=$(echo x)$((DISK_COUNT))`, `eval 'trap x EXIT'`, `eval 'f() { :; }'`, `eval "A=("`, `A=(x y) true`, `A+=x true`,
}

func TestAllThatBashTakesIsTaken(t *testing.T) {
	for _, text := range subtle {
		if d := compare(t, "# a comment\n: ${OK:=1}\n"+text+"\n"); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
}

// What bash says of itself differs from that of another run, or can't be compared.
func TestWhatBashSaysOfItselfIsTaken(t *testing.T) {
	for text, want := range map[string]string{
		"A=${!B*}; A=1": "1", "A=$0": "instance-debootstrap", "A=$-; A=${A//[!eh]/}": "eh", "A=$RANDOM; A=${A:+some}": "some", "A=${BASH_SOURCE##*/}": "settings",
		"A=1\nreturn\nA=2": "1", "A=1\nif true; then return 0; fi\nA=2": "1", "A=1; coproc cat": "1", "A=1; sleep 600 &": "1", "A=$$; [ $A -gt 1 ]; A=1": "1",
		"A=1\nset +e\nfalse\nset -e": "1", "trap 'A=2' EXIT; A=1": "1", "trap 'A=2' RETURN; A=1": "2", "set -x; A=1; set +x": "1", "A=1; exec 2>/dev/null": "1",
	} {
		s := newShell(t, "PATH=/usr/bin:/bin")
		if err := source(t, s, "settings", text); err != nil {
			t.Errorf("%q: %v", text, err)
		} else if a, _ := s.Get("A"); a != want {
			t.Errorf("%q: A is %q, want %q", text, a, want)
		}
		s.Close()
	}
}

// Values count only when bash has said all of them, with errexit on to the end.
func TestAFileThatGetsRoundTheEndIsAFaultWithItsLine(t *testing.T) {
	for _, c := range []struct {
		text string
		line int
		want string
	}{
		{"A=1\nexit 0\n", 2, "the file ends the program (exit 0)"},
		{"A=1\nexec true\n", 2, "replaces the shell"},
		{"A=1\nexec /bin/echo x\n", 2, "replaces the shell"},
		{"A=1\nset +e\nfalse\nB=1\n", 2, "errexit is off"},
		{"A=1\nset +o errexit\n", 2, "errexit is off"},
		{"A=1\nreturn 3\n", 2, "return 3"},
		{"A=1\nexec 251>&-\nB=2\n", 2, "closes its descriptors"},
		{"A=1\necho x >&251\nB=2\n", 2, "248 to 252"},
		{"A=1\nexec 250<&- 251>&- 252>&-\n", 2, "closes its descriptors"},
		{"A=1\nyes >&251\n", 2, "248 to 252"},
		{"A=1\nkill -9 $$\n", 2, "kill: bash, which reads the file, was ended by SIGKILL: if the file doesn't do that itself"},
		{"trap 'A=2' EXIT\nfalse\n", 2, "false: failed with exit status 1"},
		{"trap exit DEBUG\nA=1\n", 2, "exit"},
		{"printf() { :; }\nbuiltin() { :; }\nA=1\n", 0, ""},
	} {
		s := New(Config{Environ: []string{"PATH=/usr/bin:/bin"}, Limit: 5 * time.Second})
		err := source(t, s, "settings", c.text)
		var e *Error
		if !errors.As(err, &e) || c.line > 0 && e.Line != c.line || !strings.Contains(e.Msg, c.want) {
			t.Errorf("%q: got %v, want line %d: %s", c.text, err, c.line, c.want)
		}
		s.Close()
	}
}

func TestAFileThatTakesTooLongIsEndedAndTheLimitNamed(t *testing.T) {
	for _, text := range []string{"A=1\nsleep 60\n", "A=1\n(sleep 60)\n", "A=1\nset -n\nB=2\n"} {
		s := New(Config{Environ: []string{"PATH=/usr/bin:/bin"}, Limit: 300 * time.Millisecond})
		err := source(t, s, "settings", text)
		var e *Error
		if !errors.As(err, &e) || e.Line != 2 || !strings.Contains(e.Msg, "300ms, the time that settings have") {
			t.Errorf("%q: %v", text, err)
		}
		s.Close()
	}
}

func TestWhatAnEarlierFilePrintedIsNoReason(t *testing.T) {
	s := newShell(t, "PATH=/usr/bin:/bin")
	if err := source(t, s, "first", "echo 'not of the second' >&2; sleep 0.2\n"); err != nil {
		t.Fatal(err)
	}
	if err := source(t, s, "second", "A=1\nfalse\n"); err == nil || strings.Contains(err.Error(), "not of the second") {
		t.Error(err)
	}
}

func TestNothingOfAFileIsLeftRunning(t *testing.T) {
	s := newShell(t, "PATH=/usr/bin:/bin")
	if err := source(t, s, "settings", "sleep 601 & A=$!\n(sleep 602 &)\nB=$BASHPID\n"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, name := range []string{"A", "B"} {
		pid, _ := s.Get(name)
		isLeft := func() (stat []byte, yes bool) {
			stat, err := os.ReadFile("/proc/" + pid + "/stat")
			return stat, err == nil && !strings.Contains(string(stat), ") Z ")
		}
		for end := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) { // it was killed, and may be dying
			stat, yes := isLeft()
			if !yes {
				break
			}
			if time.Now().After(end) {
				t.Errorf("%s: process %s is left: %s", name, pid, stat)
				break
			}
		}
	}
}

func TestFailuresNameFileLineAndCommand(t *testing.T) {
	for _, c := range []struct {
		text string
		line int
		want string
	}{
		{"A=1\nfalse\nB=1", 2, "false: failed with exit status 1"},
		{"A=1\n\nA=$(false)", 3, "false: failed"},
		{"A=$(\n  cat /nonexistent\n)", 3, "cat: failed with exit status 1: cat: /nonexistent: No such file"},
		{"if true; then\n  :\n  sh -c 'echo no luck >&2; exit 7'\nfi", 3, "sh: failed with exit status 7: no luck"},
		{"f() {\n  false\n}\nA=1\nf\n", 2, "false: failed"},
		{"A=1\nno-such-command x", 2, "no-such-command: command not found"},
		{"A=1\nexit 0", 2, "the file ends the program (exit 0)"},
		{"A=1\n[ -n \"$X\" ] || { echo need X >&2; exit 4; }", 2, "the file ends the program (exit 4): need X"},
		{": ${A:?set A first}", 1, "A: set A first"},
		{"A=1\nset -u\nB=$NOPE", 3, "NOPE: unbound variable"},
		{"readonly A=1\nA=2", 2, "readonly variable"},
		{"{ echo http://user:secret@mirror.example/ >&2; false; }", 1, "false: failed with exit status 1: http://***@mirror.example/"},
		{"echo earlier\nfalse", 2, "false: failed with exit status 1"},
		{"echo need X >&2\nexit 1", 2, "(exit 1): need X"},
		{"A=1\neval 'B=1\nfalse'\n", 0, "false: failed"},
		{"true && false", 1, "false: failed"},
	} {
		_, err := ours(t, "settings", c.text)
		var e *Error
		if !errors.As(err, &e) || !e.AtRunTime || c.line > 0 && e.Line != c.line || !strings.Contains(e.Error(), c.want) {
			t.Errorf("%q: got %v, want line %d: %s", c.text, err, c.line, c.want)
		}
	}
}

func TestSyntaxErrorsNameFileAndLine(t *testing.T) {
	for text, line := range map[string]int{"A=1\nB='x\n": 2, "if true; then\n": 2, "A=1\nfi\n": 2, "A=(\n": 1, "A=1\n)": 2, "f() {\n": 2, "A=${x": 1, "A=1\nB=$((1+\n": 2, "\x00": 1} {
		_, err := ours(t, "settings", text)
		var e *Error
		if !errors.As(err, &e) || e.Line != line || e.AtRunTime {
			t.Errorf("%q: got %v, want line %d", text, err, line)
		}
	}
}

func newShell(t *testing.T, env ...string) *Shell {
	t.Helper()
	s := New(Config{Environ: env})
	t.Cleanup(s.Close)
	return s
}

func source(t *testing.T, s *Shell, name, text string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.Source(context.Background(), file)
}

func TestExportedAreTheVariablesThatFilesAddOrChange(t *testing.T) {
	s := newShell(t, "PATH=/usr/bin:/bin", "SAME=1", "CHANGED=1", "GONE=1", "PWD=/", "HOME=/root")
	err := source(t, s, "a", "export NEW=1 SAME=1\nCHANGED=2\nLOCAL=3\nunset GONE\nexport EMPTY=\nexport LATER\nARRAY=(x)\nexport ARRAY\n: ${FOO:=1}\ncd /tmp")
	if err != nil {
		t.Fatal(err)
	}
	if err := source(t, s, "b", "LATER=5; for NEW in 2; do :; done"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"CHANGED=2", "EMPTY=", "LATER=5", "NEW=2"}, s.Exported()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"GONE"}, s.Unexported()); d != "" {
		t.Error(d)
	}
}

func TestExportedFunctionsAreHandedOnAsBashDoes(t *testing.T) {
	s := newShell(t, "PATH=/usr/bin:/bin")
	if err := source(t, s, "a", "inner() { printf '%s|' \"$@\"; }\nouter-1() { inner \"$A b\" $'c\\nd'; cat <<E\n$1\nE\n}\nprivate() { :; }\nexport A=1\nexport -f inner outer-1"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/bash", "-c", "outer-1 e; ! declare -F private")
	cmd.Env = append(s.Exported(), "PATH=/usr/bin:/bin")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "1 b|c\nd|e\n" {
		t.Errorf("%v: %q, of %q", err, out, s.Exported())
	}
	if err := source(t, s, "b", "unset -f inner"); err != nil {
		t.Fatal(err)
	}
	if list := s.Exported(); len(list) != 2 || list[0] != "A=1" {
		t.Errorf("%q", list)
	}
}

func TestCommandsSeeTheVariablesThatBashWouldGiveThem(t *testing.T) {
	s := newShell(t, "PATH=/usr/bin:/bin", "X=1", "Y=1", "EMPTY=")
	if err := source(t, s, "a", "unset Y; Y=2; : ${EMPTY:=3}; Z=4; export Q; Q=5\nA=$(X=9; env | grep -vE '^(PWD|SHLVL|_|OLDPWD)=' | LC_ALL=C sort)\nB=$(export Z; env | grep -c '^Z=')\nC=$(env | grep -c '^Z=' || true)"); err != nil {
		t.Fatal(err)
	}
	if a, _ := s.Get("A"); a != "EMPTY=3\nLC_ALL=C\nPATH=/usr/bin:/bin\nQ=5\nX=9" && a != "EMPTY=3\nPATH=/usr/bin:/bin\nQ=5\nX=9" {
		t.Errorf("got %q", a)
	}
	b, _ := s.Get("B")
	c, _ := s.Get("C")
	if b != "1" || c != "0" {
		t.Errorf("an export in a subshell: %s there, %s after it", b, c)
	}
}

func TestSetByNamesTheLineOfTheAssignment(t *testing.T) {
	s := newShell(t, "PATH=/bin", "FROMENV=1")
	if err := source(t, s, "conf", "A=1\n: ${B:=2}\nif true; then\n  C=3\n  D=4\nfi\nA=1\nexport E=1\nfor F in 1; do\n  :\ndone\nFROMENV=1\n"); err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]int{"A": 7, "B": 2, "C": 4, "D": 5, "E": 8, "F": 9, "FROMENV": 12} {
		at, ok := s.SetBy(name)
		if !ok || !strings.HasSuffix(at, fmt.Sprintf("/conf:%d", line)) {
			t.Errorf("%s: %q, want line %d", name, at, line)
		}
	}
	if at, ok := s.SetBy("PATH"); ok {
		t.Errorf("PATH is said to be set at %s", at)
	}
}

func TestStdoutOfCommandsGoesToStderr(t *testing.T) {
	var said bytes.Buffer
	s := New(Config{Environ: []string{"PATH=/usr/bin:/bin"}, Stderr: &said})
	if err := source(t, s, "a", "echo out; sh -c 'echo program; echo err >&2'; A=$(echo kept; echo shown >&2)"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, want := range []string{"out\n", "program\n", "err\n", "shown\n"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is missing in %q", want, said.String())
		}
	}
	if strings.Contains(said.String(), "kept") {
		t.Errorf("what a substitution reads is shown: %q", said.String())
	}
}

func TestCommandsReadAnEmptyStdin(t *testing.T) {
	s := newShell(t, "PATH=/usr/bin:/bin")
	if err := source(t, s, "a", "A=$(cat; echo end)\nread -r B || C=eof"); err != nil {
		t.Fatal(err)
	}
	a, _ := s.Get("A")
	if c, _ := s.Get("C"); a != "end" || c != "eof" {
		t.Errorf("A=%q C=%q", a, c)
	}
}

func TestCancelledContextEndsTheFile(t *testing.T) {
	for _, text := range []string{"while true; do :; done", "sleep 60", "A=$(sleep 60)", "sleep 60 | cat"} {
		s := newShell(t, "PATH=/usr/bin:/bin")
		ctx, cancel := context.WithCancelCause(context.Background())
		why := errors.New("enough")
		cancelled := make(chan struct{})
		go func() { defer close(cancelled); <-ctx.Done() }()
		file := filepath.Join(t.TempDir(), "a")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- s.Source(ctx, file) }()
		cancel(why)
		<-cancelled
		if err := <-done; !errors.Is(err, why) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSourcedFilesAreReadThroughTheSameCheck(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("B=1\nexport C=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var read []string
	s := New(Config{Environ: []string{"PATH=/bin"}, ReadFile: func(p string) ([]byte, error) {
		read = append(read, filepath.Base(p))
		if filepath.Base(p) == "bad" {
			return nil, errors.New("bad: writable by others")
		}
		return os.ReadFile(p)
	}})
	defer s.Close()
	if err := source(t, s, "main", "A=1\nif true; then\n  . "+other+"\nfi\nD=$B"); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.Get("D"); d != "1" || !slices.Equal(read, []string{"main", "other"}) {
		t.Errorf("D=%q, read %q", d, read)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad"), []byte("X=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"\n. " + dir + "/bad || true", "D=" + dir + "\n. $D/bad\n"} {
		if err := source(t, s, "main", text); err == nil || !strings.Contains(err.Error(), "bad: writable by others") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// verify and doctor say of a command that fails that it may do better at the next create.
func TestABlankBesideTheEqualsSignIsNoCommandThatMayDoBetterLater(t *testing.T) {
	for text, want := range map[string]struct{ advised, later bool }{
		"SUITE = trixie": {true, false}, "A=1\nSUITE =trixie\n": {true, false}, "SUITE= trixie": {true, true}, "no-such-command =": {false, true},
	} {
		_, _, err := told(t, text)
		var e *Error
		if !errors.As(err, &e) || e.AtRunTime != want.later || strings.Contains(e.Msg, "without blanks around the =") != want.advised {
			t.Errorf("%q: %v", text, err)
		}
	}
}
