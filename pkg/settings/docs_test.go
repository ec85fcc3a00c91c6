package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/test/manual"
)

// adminsPages are those that are not about this project's own tests.
func adminsPages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, path := range []string{"README.md", "CHANGELOG.md", "hooks/README.md", "docs/*.md"} {
		found, _ := filepath.Glob("../../" + path)
		for _, path := range found {
			if slices.Contains([]string{"testing.md", "performance.md", "conformance.md", "reliability.md", "nodes.md", "life.md"}, filepath.Base(path)) {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pages[strings.TrimPrefix(path, "../../")] = string(text)
		}
	}
	if len(pages) < 12 {
		t.Fatalf("only %d pages", len(pages))
	}
	return pages
}

func TestEachSettingInTheDocsExistsAndTakesItsValue(t *testing.T) {
	seen := 0
	for path, page := range adminsPages(t) {
		for _, code := range manual.CodeIn(page) {
			n, err := checkSettingsIn(code.Text)
			if err != nil {
				t.Errorf("%s:%d: %s: %v", path, code.Line, code.Text, err)
			}
			seen += n
		}
	}
	t.Logf("%d settings and parameters", seen)
	if seen < 120 {
		t.Errorf("only %d settings and parameters were found", seen)
	}
}

func TestASettingInTheDocsThatMakesNoSenseIsSeen(t *testing.T) {
	for code, want := range map[string]string{
		"PARTITON_STYLE=gpt":                          "no setting PARTITON_STYLE",
		"PARTITION_STYLE=dos":                         "PARTITION_STYLE=dos: must be one of",
		"CACHE_MAX_SIZES":                             "no setting",
		"gnt-instance add … -O suit=trixie":           "no OS parameter suit",
		"gnt-instance add -O suite=x,boot_tests=yes":  "no OS parameter boot_tests",
		"EXTRA_PKGS=vim GUEST_FSCK=none inspect a.im": "GUEST_FSCK=none",
	} {
		if _, err := checkSettingsIn(code); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", code, err, want)
		}
	}
	for _, code := range []string{"PARTITION_STYLE=gpt", "PARTITION_STYLE=…", "gnt-instance add -O suite=trixie,role=web", "INSTANCE_NAME=a", "MIRROR=URL", `SUITE="trixie"`} {
		if n, err := checkSettingsIn(code); err != nil || n == 0 && !strings.Contains(code, "INSTANCE") {
			t.Errorf("%s: %d, %v", code, n, err)
		}
	}
}

func TestEachSettingIsInTheDocs(t *testing.T) {
	var all strings.Builder
	for path, page := range adminsPages(t) {
		if path != "CHANGELOG.md" {
			all.WriteString(page)
		}
	}
	for _, s := range Table() {
		name := strings.TrimPrefix(s.Name, "OSP_")
		if !regexp.MustCompile("\\b"+name+"\\b").MatchString(all.String()) && (s.Param == "" || !strings.Contains(all.String(), "`"+s.Param)) {
			t.Errorf("%s is in none of the pages", s.Name)
		}
	}
}

var (
	variable  = regexp.MustCompile(`(?:^|[^A-Za-z0-9_$@{/.-])([A-Z][A-Z0-9]*_[A-Z0-9_]+|[A-Z][A-Z0-9_]+=)("[^"]*"|'[^']*'|[^\s"',;)]*)`)
	parameter = regexp.MustCompile(`-O '?((?:[a-z_]+=[^\s,']*,?)+)`)
	unknown   = regexp.MustCompile(`^$|…|\.\.\.|^[A-Z]+(/|$)|[$<({]`) // a value that stands for another
)

// others are variables that aren't settings: Ganeti's, hooks', systemd's, GRUB's, shells'.
var others = regexp.MustCompile(`^(DISK|NIC|INSTANCE|OSP?|EXPORT_DEVICE|HYPERVISOR|TEST|BENCH|GRUB|BASH)(_|=)|^(CLEANUP|SUITE_|VOL_ID|SCRIPT_NAME|VARIANT_CONFIG|DEFAULT_FILE|LIBVIRT_DEFAULT_URI|NO_COLOR|` +
	`SOURCE_DATE_EPOCH|EXPORT_DISK_URI|IMPORT_DISK_URI|CGO_ENABLED|F_OFD_SETLK|VERSION_CODENAME|ON_BOOT|ON_SHUTDOWN|SHUTDOWN_TIMEOUT|DESTDIR|HOURS|KEY|LANG|LC_ALL|GOPROXY|NAME)`)

// checkSettingsIn looks for settings and OS parameters in a piece of code, and tells how
// many there are.
func checkSettingsIn(code string) (seen int, err error) {
	code, _, _ = strings.Cut(code, " #")
	for _, m := range variable.FindAllStringSubmatch(code, -1) {
		name, value := strings.TrimSuffix(m[1], "="), strings.Trim(m[2], `"'`)
		if m[1] == name {
			assigned := false
			if value, assigned = strings.CutPrefix(value, "="); !assigned {
				value = ""
			}
		}
		i := slices.IndexFunc(table, func(s Setting) bool { return s.Name == name })
		switch {
		case i < 0 && others.MatchString(name+"="):
		case i < 0:
			return seen, fmt.Errorf("there is no setting %s", name)
		default:
			seen++
			if value = strings.Trim(value, `"'`); !unknown.MatchString(value) {
				if err := table[i].check(value); err != nil {
					return seen, fmt.Errorf("%s=%s: %w", name, value, err)
				}
			}
		}
	}
	for _, m := range parameter.FindAllStringSubmatch(code, -1) {
		for pair := range strings.SplitSeq(strings.TrimSuffix(m[1], ","), ",") {
			name, _, _ := strings.Cut(pair, "=")
			seen++
			if name != "role" && !slices.ContainsFunc(table, func(s Setting) bool { return s.Param == name }) {
				return seen, fmt.Errorf("there is no OS parameter %s", name)
			}
		}
	}
	return seen, nil
}
