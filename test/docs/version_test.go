package docs

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var heading = regexp.MustCompile(`(?m)^## (Unreleased|[0-9.]+)( \(.*\))?$`)

// otherVersion tells which file names another version than VERSION does: Debian's changelog, or the
// newest release in CHANGELOG.md, which may have what is unreleased above it. Nothing is said of the
// first release before it is made.
func otherVersion(version, changes, debian string) error {
	version = strings.TrimSpace(version)
	if !strings.HasPrefix(debian, "instance-debootstrap ("+version+") ") {
		return fmt.Errorf("VERSION is %s, debian/changelog begins with %q: run tools/set-version, which writes both", version, firstLine(debian))
	}
	for n, found := range heading.FindAllStringSubmatch(changes, -1) {
		if n == 0 && found[1] == "Unreleased" {
			continue
		}
		if found[1] != version {
			return fmt.Errorf("VERSION is %s, the newest release in CHANGELOG.md is %s: run tools/set-version, which writes both", version, found[1])
		}
		break
	}
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func TestVersionAndBothChangelogsNameOneVersion(t *testing.T) {
	var texts []string
	for _, name := range []string{"VERSION", "CHANGELOG.md", "debian/changelog"} {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	if err := otherVersion(texts[0], texts[1], texts[2]); err != nil {
		t.Error(err)
	}
}

func TestAFileWithAnotherVersionIsSeen(t *testing.T) {
	debian := "instance-debootstrap (1.2) unstable; urgency=medium\n"
	for changes, same := range map[string]bool{
		"## Unreleased\n\n## 1.2 (2026-01-01)\n\n## 1.1 (2025-01-01)\n": true, "## 1.2 (2026-01-01)\n\n## 1.1 (2025-01-01)\n": true,
		"## Unreleased\n": true, "## Unreleased\n\n## 1.1 (2025-01-01)\n": false, "## 1.3 (2026-02-02)\n": false, "## 1.2\n\n## 1.3 will be\n": true, "## 1.20 (2026-02-02)\n": false,
	} {
		if err := otherVersion("1.2\n", changes, debian); (err == nil) != same {
			t.Errorf("%q: %v", changes, err)
		}
	}
	for _, debian := range []string{"", "instance-debootstrap (1.20) unstable", "instance-debootstrap (1.1) unstable; urgency=medium\n"} {
		if otherVersion("1.2\n", "## Unreleased\n", debian) == nil {
			t.Errorf("%q is taken", debian)
		}
	}
}
