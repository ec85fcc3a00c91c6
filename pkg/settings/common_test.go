package settings

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// hook is a folder as the OS definition's, where hooks run.
type hook struct {
	*testing.T
	dir string
	env []string
}

func newHook(t *testing.T, defaults string) *hook {
	t.Helper()
	h := &hook{T: t, dir: t.TempDir(), env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "OS_API_VERSION=20", "INSTANCE_NAME=web1.example.com", "DISK_0_PATH=/dev/vg/disk0"}}
	h.file("default", defaults)
	text, err := os.ReadFile("../../common.sh.in")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.NewReplacer("@DEFAULTS_FILE@", h.dir+"/default", "@CONF_DIR@", h.dir+"/conf", "@CACHE_DIR@", "/var/cache/x", "@OS_DIR@", h.dir)
	h.file("common.sh", at.Replace(string(text)))
	return h
}

func (h *hook) file(name, text string) {
	h.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.Fatal(err)
	}
}

// run runs a hook that starts with `. common.sh` and returns what it says.
func (h *hook) run(text string) (string, error) {
	cmd := exec.Command("bash", "--norc", "--noprofile", "-c", text, h.dir+"/hooks/10-test")
	cmd.Dir, cmd.Env = h.dir, h.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *hook) says(text, want string) {
	h.Helper()
	if got, err := h.run(text); err != nil || got != want {
		h.Errorf("%s\nsaid %q (%v), want %q", text, got, err, want)
	}
}

func TestCommonGivesTheDefaultsOfTheTable(t *testing.T) {
	h := newHook(t, "")
	own := map[string]string{"CUSTOMIZE_DIR": h.dir + "/conf/hooks", "VARIANTS_DIR": h.dir + "/conf/variants", "CACHE_DIR": "/var/cache/x"}
	for _, s := range Table() {
		want := s.Default
		if v, ok := own[s.Name]; ok {
			want = v
		}
		h.says("set -eu; . common.sh; echo \"${"+s.Name+"}\"", want+"\n")
	}
	h.env = []string{"PATH=/usr/bin:/bin"}
	h.says(". common.sh; echo $PARTITION_STYLE", "none\n")
}

func TestCommonShowsHelperVariablesWhileValuesInForceStay(t *testing.T) {
	h := newHook(t, "SUITE=from-file\nHELPER='a  b'\nMIRROR=http://file.example/\nCLEAN_CACHE=\nexport SITE=lab\nTARGET=/evil\nlist=(x y)\n")
	h.file("conf/variants/web.conf", "SUITE=from-variant\nEXTRA_PKGS=vim\nOWN=$HELPER!\n")
	show := `. common.sh; echo "$SUITE|$HELPER|$MIRROR|$EXTRA_PKGS|$OWN|$CLEAN_CACHE|$TARGET|${list[1]}"; env | grep ^SITE=`
	h.env = append(h.env, "OS_VARIANT=web", "SUITE=in-force", "MIRROR=", "EXTRA_PKGS=a b$c'd", "TARGET=/mnt", "BLOCKDEV=/dev/loop9", "FSYSDEV=/dev/loop9p1")
	h.says(show, "in-force|a  b||a b$c'd|a  b!||/mnt|y\nSITE=lab\n")
	h.env = []string{"PATH=/usr/bin:/bin", "OS_VARIANT=web"}
	h.says(show, "from-variant|a  b|http://file.example/|vim|a  b!||/evil|y\nSITE=lab\n")
	h.env = []string{"PATH=/usr/bin:/bin"}
	h.file("default", "EXTRAPKGS=less\n")
	h.says(". common.sh; echo $EXTRA_PKGS", "less\n")
}

func TestCommonIsSafeUnderErrexitAndNounset(t *testing.T) {
	h := newHook(t, "[ -f /nonexistent ] && A=1\nB=$UNSET\nfalse\nset -e; set -u\n[ -f /nonexistent ] && A=2")
	h.env = append(h.env, "OS_VARIANT=missing")
	for options, want := range map[string]string{"": "", "set -e; ": "e", "set -u; ": "u", "set -eu; ": "eu", "set -euo pipefail; ": "eu"} {
		h.says(options+`. common.sh; case $- in *e*) printf e;; esac; case $- in *u*) printf u;; esac; echo " $instance"`, want+" web1.example.com\n")
	}
}

func TestCommonGivesTheScriptsVariables(t *testing.T) {
	h := newHook(t, "swapdev=/dev/vg/swap\n")
	h.says(`. common.sh; echo "$instance $blockdev [$filesystem_dev] $SCRIPT_NAME $swapdev [$old_name]"`, "web1.example.com /dev/vg/disk0 [] 10-test /dev/vg/swap []\n")
	h.file("conf/variants/site.inc", "SITE=$SCRIPT_NAME.${instance%%.*}")
	h.file("conf/variants/web.conf", `. "$(dirname "$VARIANT_CONFIG")/site.inc"; [ -r "$DEFAULT_FILE" ] && SITE+=.readable`)
	h.says(`OS_VARIANT=web; . common.sh; echo "$SITE"`, "10-test.web1.readable\n")
	h.env = append(h.env, "BLOCKDEV=/dev/loop9", "FSYSDEV=/dev/loop9p1", "OLD_INSTANCE_NAME=old")
	h.says(`. common.sh; echo "$blockdev $filesystem_dev $old_name"; log_error to stderr 2>&1 >/dev/null`, "/dev/loop9 /dev/loop9p1 old\nto stderr\n")
}

func TestCleanupRunsAllInReverseAndKeepsGoing(t *testing.T) {
	h := newHook(t, "")
	for _, c := range []struct{ text, want string }{
		{`. common.sh; CLEANUP+=("echo first"); CLEANUP+=("echo second"); echo body`, "body\nsecond\nfirst\n"},
		{`set -e; . common.sh; CLEANUP=( ); trap cleanup EXIT; CLEANUP+=("echo a"); cleanup; CLEANUP+=("echo b")`, "a\nb\n"},
		{`set -eu; . common.sh; cleanup; cleanup; echo end`, "end\n"},
		{`f() { echo "f $# $1"; }; . common.sh; CLEANUP+=("f 'a b'"); cleanup`, "f 2 'a\n"},
	} {
		h.says(c.text, c.want)
	}
	for _, options := range []string{"", "set -e; "} {
		out, err := h.run(options + `. common.sh; CLEANUP+=("echo first" "false" "nosuchcommand" "echo last")`)
		if !strings.HasPrefix(out, "last\n") || !strings.HasSuffix(out, "first\n") || !strings.Contains(out, "cleanup: status 127: nosuchcommand") || !strings.Contains(out, "cleanup: status 1: false") {
			t.Errorf("%q, %v", out, err)
		}
		out, err = h.run(options + `. common.sh; CLEANUP+=("echo undone"); echo failing; exit 5`)
		if out != "failing\nundone\n" || err == nil || err.Error() != "exit status 5" {
			t.Errorf("%q, %v", out, err)
		}
		if out, err := h.run(options + `. common.sh; CLEANUP+=("false"); cleanup && echo fine || echo bad; cleanup`); err != nil || !strings.Contains(out, "bad") {
			t.Errorf("%q, %v", out, err)
		}
	}
	if out, err := h.run(`set -e; . common.sh; CLEANUP+=("echo undone"); false; echo not reached`); out != "undone\n" || err == nil {
		t.Errorf("%q, %v", out, err)
	}
}

func TestRootDiskIsMappedAlreadyAndNeverFormatted(t *testing.T) {
	h := newHook(t, "")
	disk := filepath.Join(h.dir, "disk")
	h.file("disk", "precious")
	h.env = append(h.env, "BLOCKDEV="+disk, "FSYSDEV=/dev/loop9p1")
	h.says(`set -e; . common.sh; echo "<$(map_disk0 "$BLOCKDEV")>"; unmap_disk0 "$BLOCKDEV"; echo end`, "</dev/loop9p1>\nend\n")
	out, err := h.run(`set -e; . common.sh; format_disk0 ` + disk + `; echo not reached`)
	if err == nil || !strings.Contains(out, "holds the root filesystem") || strings.Contains(out, "not reached") {
		t.Errorf("%q, %v", out, err)
	}
	if text, _ := os.ReadFile(disk); string(text) != "precious" {
		t.Errorf("the disk holds %q", text)
	}
}

func TestFormatDiskMakesOneAlignedPartition(t *testing.T) {
	for style, want := range map[string]string{"msdos": "type=83, bootable", "gpt": "type=0FC63DAF-8483-4772-8E79-3D69D8477DE4"} {
		h := newHook(t, "PARTITION_ALIGNMENT=4096\n")
		disk := filepath.Join(h.dir, "disk")
		if err := os.WriteFile(disk, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(disk, 64<<20); err != nil {
			t.Fatal(err)
		}
		h.env = append(h.env, "PARTITION_STYLE="+style)
		h.says(fmt.Sprintf("set -e; . common.sh; format_disk0 %s", disk), "")
		dump, err := exec.Command("sfdisk", "--dump", disk).Output()
		if err != nil || !strings.Contains(string(dump), "start=        4096,") || !strings.Contains(string(dump), want) {
			t.Errorf("%s: %v\n%s", style, err, dump)
		}
		if out, err := exec.Command("sfdisk", "--verify", disk).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", style, err, out)
		}
	}
}

func TestCommonIsCleanForShellcheck(t *testing.T) {
	if out, err := exec.Command("shellcheck", "--shell=bash", "../../common.sh.in").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
