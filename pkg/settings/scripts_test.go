package settings

import (
	"slices"
	"strings"
	"testing"
)

func TestVariantSeesTheScriptsVariables(t *testing.T) {
	l := newLab(t)
	l.src.Variant, l.src.Script = "default", "/os/debootstrap/rename"
	l.env("INSTANCE_NAME=web1.example", "OLD_INSTANCE_NAME=old.example", "DISK_0_PATH=/dev/x")
	l.write("variants/site.inc", "EXTRA_PKGS+=,site\n")
	l.write("variants/default.conf", `EXTRA_PKGS="${instance%%.*},$SCRIPT_NAME,${old_name%%.*}"
[ $blockdev = /dev/x ]
. "$(dirname "$VARIANT_CONFIG")/site.inc"
[[ $VOL_ID == *blkid* && $VOL_TYPE == *blkid* ]]
`)
	if s := l.must(); !slices.Equal(s.ExtraPkgs, []string{"web1", "rename", "old", "site"}) || len(l.warned) != 0 {
		t.Errorf("%v, warnings %q", s.ExtraPkgs, l.warned)
	}
}

func TestDefaultsFileFindsWhatTheScriptsHadByThen(t *testing.T) {
	l := newLab(t)
	var printed strings.Builder
	l.src.Script, l.src.Stderr = "/os/debootstrap/create", &printed
	l.defaults(`case $(basename "$0") in create) EXTRA_PKGS=created ;; esac
[ "$DEFAULT_FILE" = "${BASH_SOURCE[0]}" ]
log_error "from the" file
`)
	if s := l.must(); !slices.Equal(s.ExtraPkgs, []string{"created"}) || len(l.warned) != 0 {
		t.Errorf("%v, warnings %q", s.ExtraPkgs, l.warned)
	}
	if !strings.Contains(printed.String(), "from the file\n") {
		t.Errorf("printed %q", printed.String())
	}
}

func TestWhatWorkedOnTheScriptsOwnVariablesIsWarnedOf(t *testing.T) {
	l := newLab(t)
	l.src.Variant = "default"
	l.env("INSTANCE_NAME=web1.example")
	l.defaults("CLEANUP+=(true)\n")
	l.write("variants/default.conf", "instance=${instance%%.*}\n")
	l.must()
	slices.Sort(l.warned)
	if len(l.warned) != 2 || !strings.Contains(l.warned[0], ":1: CLEANUP is the shell scripts' own: ") || !strings.Contains(l.warned[1], "default.conf:1: instance is the shell scripts' own: ") {
		t.Errorf("%q", l.warned)
	}
}
