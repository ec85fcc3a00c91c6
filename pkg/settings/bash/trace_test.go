package bash

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// told evaluates files one after the other, and returns the error of the last, and what
// was printed.
func told(t *testing.T, texts ...string) (s *Shell, said string, err error) {
	t.Helper()
	var out bytes.Buffer
	s = New(Config{Environ: []string{"PATH=/usr/bin:/bin"}, Limit: 20 * time.Second, Stderr: &out, Secrets: []string{"ROOT_PASSWORD"}})
	dir := t.TempDir()
	for i, text := range texts {
		file := filepath.Join(dir, fmt.Sprintf("file%d", i+1))
		if werr := os.WriteFile(file, []byte(text), 0o600); werr != nil {
			t.Fatal(werr)
		}
		err = s.Source(t.Context(), file)
		if i < len(texts)-1 && err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
	s.Close()
	return s, out.String(), err
}

func TestAFileThatGivesUpIsAFaultHoweverItReturns(t *testing.T) {
	for text, want := range map[string]string{
		"A=1\nreturn 1\nB=2\n":                          "file1:2: the file gives up (return 1)",
		"A=1\nbuiltin return 1\nB=2\n":                  "file1:2: the file gives up (return 1)",
		"A=1\ncommand return 3\nB=2\n":                  "file1:2: the file gives up (return 3)",
		"A=1\ncommand -p builtin return 3\nB=2\n":       "file1:2: the file gives up (return 3)",
		"A=1\n\\return 1\nB=2\n":                        "file1:2: the file gives up (return 1)",
		"A=1\nr=return\n$r 1\nB=2\n":                    "file1:3: the file gives up (return 1)",
		"A=1\n[ -n \"$X\" ] || return 1\nB=2\n":         "file1:2: the file gives up (return 1)",
		"A=1\neval 'return 1'\nB=2\n":                   "the file gives up (return 1)",
		"f() { return 1; }\nf || return 1\nB=2\n":       "file1:2: the file gives up (return 1)",
		"(for i in {1..500}; do :; done) &\nreturn 1\n": "file1:2: the file gives up (return 1)",
		"A=1\nset +x\nreturn 1\nB=2\n":                  "has exit status 1, and can't be seen, since the file switches bash's trace off",
		"A=1\nPS4='+ '\nreturn 1\nB=2\n":                "has exit status 1, and can't be seen, since the file switches bash's trace off",
		"A=1\nunset PS4\nreturn 1\nB=2\n":               "has exit status 1, and can't be seen, since the file switches bash's trace off",
		"A=1\nshopt -u promptvars\nreturn 1\n":          "has exit status 1, and can't be seen, since the file switches bash's trace off",
		"A=1\nset +x\nfalse && B=1\n":                   "end it with true",
	} {
		if _, _, err := told(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}

func TestAFunctionThatReturnsFalseInTheLastConditionIsNoFault(t *testing.T) {
	for _, text := range []string{
		"f() { return 1; }\nA=1\nf && B=1\n", "f() { [ -e /nonexistent ] || return 1; }\nA=1\nf && B=1", "A=1\n[ -e /nonexistent ] && B=1\n",
		"f() {\n  return 1\n}\nA=1\nif ! f; then f && B=1; fi\n", "A=1\nset +x\nfalse || true\n", "A=1\nPS4='+ '\nreturn 0\nB=1\n", "A=1; B=$(return 1) && C=1\n",
		"A=1; (for i in {1..500}; do :; done) &\nfalse && B=1\n",
	} {
		s, _, err := told(t, text)
		if a, _ := s.Get("A"); err != nil || a != "1" {
			t.Errorf("%q: A=%q, %v", text, a, err)
		}
	}
}

func TestTheTraceIsBackForTheNextFile(t *testing.T) {
	for _, first := range []string{"readonly PS4\n", "PS4='+ '\n", "set +x\n", "unset PS4\n", "set -v\n", "B=1; set +o xtrace\n"} {
		_, _, err := told(t, first, "A=1\nreturn 1\n")
		if err == nil || !strings.Contains(err.Error(), "file2:2: the file gives up") {
			t.Errorf("after %q: %v", first, err)
		}
	}
	for _, first := range []string{"readonly PS4='+ '\n", "shopt -u promptvars\n"} {
		s, _, err := told(t, first, "\nA=1\n")
		if at, _ := s.SetBy("A"); err != nil || !strings.HasSuffix(at, "file2:2") {
			t.Errorf("after %q: A is set at %q, %v", first, at, err)
		}
	}
}

func TestAFileThatTakesTheTraceOrTheBuiltinsAwayNeitherHangsNorTellsSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"unset BASH_XTRACEFD":     "BASH_XTRACEFD",
		"BASH_XTRACEFD=":          "BASH_XTRACEFD: readonly variable",
		"BASH_XTRACEFD=2":         "BASH_XTRACEFD: readonly variable",
		"exec 252>&-":             "",
		"exec 252>/dev/null":      "",
		"enable -n printf":        "builtins such as printf",
		"enable -n eval":          "",
		"enable -n read":          "",
		"builtin() { :; }":        "builtins such as printf",
		"builtin() { return 1; }": "file1:1: ",
		"eval() { :; }":           "",
		"printf() { :; }":         "",
		"set() { :; }":            "",
		"trap() { :; }":           "",
		"enable -n trap":          "",
		"shopt -s expand_aliases; alias builtin=false": "file1:",
		"enable -n set": "set: not a shell builtin",
		"PS4='+ '":      "",
		"set -v":        "",
		"set -vx":       "",
	} {
		start := time.Now()
		s, said, err := told(t, text+"\nROOT_PASSWORD='$6$salt$hash'\nexport ROOT_PASSWORD\nB=\"$ROOT_PASSWORD\nx\"\n")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
		if v, _ := s.Get("ROOT_PASSWORD"); err == nil && v != "$6$salt$hash" {
			t.Errorf("%q: the value is %q", text, v)
		}
		if strings.Contains(said+fmt.Sprint(err), "salt") || strings.Contains(said, "__settings") {
			t.Errorf("%q: a secret, or what is not the file's, is shown: %s\n%v", text, said, err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%q took %v", text, d)
		}
	}
	for _, first := range []string{"enable -n eval\n", "enable -n read\n", "eval() { :; }\n", "exec 252>&-\n", "enable -n .\n"} {
		start := time.Now()
		_, said, err := told(t, first, "ROOT_PASSWORD='$6$salt$hash'\nfalse\n")
		if err == nil || strings.Contains(said+fmt.Sprint(err), "salt") || time.Since(start) > 10*time.Second {
			t.Errorf("the file after %q: %v, %v\n%s", first, err, time.Since(start), said)
		}
	}
}

func TestWhatBashSaysOfALineWithASecretIsHidden(t *testing.T) {
	for text, want := range map[string]string{
		"ROOT_PASSWORD= '$6$salt$hash'\n":                                            "file1:1: ***: command not found",
		"ROOT_PASSWORD= 'salt/hash'\n":                                               "file1:1: ***: No such file or directory",
		"A=1\nROOT_PASSWORD=x; export ROOT_PASSWORD '$6$salt$hash'\n":                "file1:2: ***: not a valid identifier",
		"A=1\nROOT_PASSWORD=(salt hash';\n":                                          "bash can't read it",
		"ROOT_PASSWORD= \\\n 'salt'\n":                                               "***: command not found",
		"ROOT_PASSWORD=x)salt\n":                                                     "bash can't read it",
		"cd \"${BASH_SOURCE%/*}\"\necho \"ROOT_PASSWORD= 'salt'\" >more\n. ./more\n": "more:1: ***: command not found",
		"HASH= '$6$salt$hash'; ROOT_PASSWORD=$HASH\n":                                "***: command not found",
		"A=1\nHASH= '$6$salt$hash'\nROOT_PASSWORD=$HASH\n":                           "file1:2: ***: command not found",
		"A=1\ncat '$y$j9T$salt'\n":                                                   "cat: '***'",
		"ROOT_PASSWORD=\"abc\n$6$salt\" )\n":                                         "bash can't read it: ",
		"MIRROR=http://user:pass;salt@mirror.example/debian\n":                       "file1:1: ***: No such file or directory",
		"MIRROR=http://user:pass|salt@mirror.example/debian\n":                       "file1:1: ***: No such file or directory",
		"A=1\nMIRROR=http://user:pa ss;salt@mirror.example/debian\n":                 "file1:2: ***: No such file or directory",
		". <(echo \"ROOT_PASSWORD= 'salt'\")\n":                                      "***: command not found",
		"A=1\neval \"ROOT_PASSWORD= '\\$6\\$salt\"\\'\n":                             "***: command not found",
		"ROOT_PASSWORD='$6$salt$hash'\ndeclare -p ROOT_PASSWORD >&2\nfalse":          "false: failed with exit status 1: declare -- ROOT_PASSWORD=***",
		"X=$(no-such-command)\n":                                                     "file1:1: no-such-command: command not found",
		": ${ROOT_PASSWORD:?must be set}\n":                                          "file1:1: ROOT_PASSWORD: must be set",
	} {
		_, said, err := told(t, text)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
		if strings.Contains(said+fmt.Sprint(err), "salt") {
			t.Errorf("%q: a secret is shown: %s\n%v", text, said, err)
		}
	}
	// What runs in the background fails without a word in the error.
	if _, said, _ := told(t, "MIRROR=http://user:pass&salt@mirror.example/debian\nwait || true\n"); strings.Contains(said, "salt") {
		t.Error(said)
	}
}

func TestAFileThatIsShownAsItIsReadHasItsOwnReason(t *testing.T) {
	_, said, err := told(t, "set -v\nA=1\nsh -c 'echo no luck >&2; exit 3'\n")
	if err == nil || !strings.HasSuffix(err.Error(), "file1:3: sh: failed with exit status 3: no luck") || strings.Contains(said, "__settings") {
		t.Errorf("%v\n%s", err, said)
	}
}

func TestTheReasonThatAFileSentElsewhereIsNamedByItsPlace(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for text, want := range map[string]string{
		"A=1\nexec >" + log + " 2>&1\ncat /nonexistent\n":       "file1:3: cat: failed with exit status 1; what it said went where the exec in DIR/file1:2 sends it",
		"A=1\nexec 3>" + log + "\nfalse\n":                      "file1:3: false: failed with exit status 1",
		"A=1\nexec >" + log + "\nfalse\n":                       "file1:3: false: failed with exit status 1",
		"exec 3>&2 2>" + log + "\nA=1\nexec 2>&3\nfalse\n":      "file1:4: false: failed with exit status 1",
		"exec 2>/dev/null\nA=1\n[ -n \"$X\" ] || exit 3\nB=1\n": "file1:3: the file ends the program (exit 3); what it said went where the exec in DIR/file1:1 sends it",
	} {
		_, _, err := told(t, text)
		var e *Error
		if !errors.As(err, &e) || !strings.HasSuffix(err.Error(), strings.ReplaceAll(want, "DIR", filepath.Dir(e.File))) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}

func TestTheNextFileIsEvaluatedUnderWhateverOptions(t *testing.T) {
	for _, first := range []string{
		"set -o posix", "set -C", "set -f", "set -u", "set -k", "set -a", "set -T", "set -E", "set -P", "set +B", "set +h", "set -v", "set -o pipefail", "IFS=,", "IFS=", "unset IFS",
		"shopt -s extdebug", "shopt -s nocasematch", "shopt -s nullglob failglob", "shopt -s lastpipe", "umask 777", "cd /; set -o noclobber",
	} {
		s, _, err := told(t, first+"\n", "\nA=1\n: \"${B:=x  y}\"\n[ -e /nonexistent ] && C=1\n")
		at, _ := s.SetBy("A")
		b, _ := s.Get("B")
		if err != nil || !strings.HasSuffix(at, "file2:2") || b != "x  y" {
			t.Errorf("after %q: A is set at %q, B=%q, %v", first, at, b, err)
		}
	}
}

func TestVariablesAboveTheLimitAreNamedSo(t *testing.T) {
	s := New(Config{Environ: []string{"PATH=/usr/bin:/bin"}, most: 1 << 20})
	defer s.Close()
	err := source(t, s, "settings", "A=1\nprintf -v B '%2000000s' x\n")
	if err == nil || !strings.Contains(err.Error(), "bash's variables are more than 1 MiB") {
		t.Error(err)
	}
}

func TestAFileOfManyVariablesTakesNoLongerForEach(t *testing.T) {
	taken := func(variables int) time.Duration {
		var text strings.Builder
		for i := range variables {
			fmt.Fprintf(&text, ": ${V%d:=x}\n", i)
		}
		start := time.Now()
		s, _, err := told(t, text.String())
		if at, _ := s.SetBy(fmt.Sprintf("V%d", variables-1)); err != nil || !strings.HasSuffix(at, fmt.Sprintf("file1:%d", variables)) {
			t.Errorf("%q, %v", at, err)
		}
		return time.Since(start)
	}
	// Eight times as many take eight times as long, and not 64 times; a busy machine is
	// busy for both.
	few, many := taken(1000), taken(8000)
	if many > 30*few {
		t.Errorf("1000 variables take %v, and 8000 %v", few, many)
	}
}

func TestAFileIncludedByARelativeNameIsLookedAtWhereBashFoundIt(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "A=1\n", "sub/bad": "A=2\n", "empty": "", "bin/bad": "A=3\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) ([]byte, error) {
		if filepath.Base(path) == "bad" {
			return nil, errors.New(path + ": writable by others")
		}
		return os.ReadFile(path)
	}
	for text, refused := range map[string]string{
		"cd " + dir + "/sub\n. ./bad\n":                         dir + "/sub/",
		"cd " + dir + "\nsource sub/bad\n":                      dir + "/",
		"cd " + dir + " && . sub/bad && cd /\n":                 dir + "/",
		"(cd " + dir + "/sub; . ./bad)\n":                       dir + "/sub/",
		"PATH=" + dir + "/bin:$PATH\n. bad\n":                   dir + "/bin/",
		"cd " + dir + "; . ./good; cd sub; . ./bad; . ../empty": dir + "/sub/",
		"cd " + dir + "\n. ./good\n":                            "",
		"D=" + dir + "\n. $D/empty; . $D/good\n":                "",
	} {
		s := New(Config{Environ: []string{"PATH=/usr/bin:/bin"}, ReadFile: read})
		err := source(t, s, "main", text)
		if (err == nil) != (refused == "") || err != nil && !strings.Contains(err.Error(), refused) {
			t.Errorf("%q: %v", text, err)
		}
		s.Close()
	}
}
