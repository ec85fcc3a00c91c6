package dpkg

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"pault.ag/go/debian/version"
)

// Outdated is an installed package that an archive has in a later version.
type Outdated struct {
	Name    string `json:"name"`
	Arch    string `json:"architecture"`
	Version string `json:"version"` // that is installed
	Newest  string `json:"newest"`  // that the archive has
}

// Comparison is how installed packages stand beside those of an archive.
type Comparison struct {
	Outdated []Outdated `json:"outdated"`
	// Unknown are those that the archive doesn't have: a site's own, or older than what it keeps.
	Unknown []Package `json:"not_in_the_archive"`
}

// Newest are the latest versions of an archive's packages.
type Newest struct {
	arch     string
	versions map[string]version.Version
}

// NewNewest is of an architecture, without packages yet.
func NewNewest(arch string) *Newest { return &Newest{arch, map[string]version.Version{}} }

// Add reads a list of an archive's packages ("Debian Repository Format", "Packages Indices").
func (n *Newest) Add(list io.Reader) error {
	lines := bufio.NewScanner(list)
	lines.Buffer(nil, 4<<20)
	var name, text string
	take := func() error {
		defer func() { name, text = "", "" }()
		if name == "" {
			return nil
		}
		v, err := version.Parse(text)
		if err != nil {
			return fmt.Errorf("package %s of the archive: version %q: %w", name, text, err)
		}
		if have, ok := n.versions[name]; !ok || version.Compare(v, have) > 0 {
			n.versions[name] = v
		}
		return nil
	}
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "":
			if err := take(); err != nil {
				return err
			}
		case strings.HasPrefix(line, "Package: "):
			name = strings.TrimSpace(line[len("Package: "):])
		case strings.HasPrefix(line, "Version: "):
			text = strings.TrimSpace(line[len("Version: "):])
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("list of the archive's packages: %w", err)
	}
	return take()
}

// Compare tells which of the packages the archive has in a later version. What it doesn't have,
// and what is of another architecture or has a version that is none, is unknown.
func (n *Newest) Compare(installed []Package) (c Comparison) {
	c.Outdated, c.Unknown = []Outdated{}, []Package{}
	for _, p := range installed {
		newest, known := n.versions[p.Name]
		has, err := version.Parse(p.Version)
		switch {
		case !known || err != nil || p.Arch != n.arch && p.Arch != "all":
			c.Unknown = append(c.Unknown, p)
		case version.Compare(has, newest) < 0:
			c.Outdated = append(c.Outdated, Outdated{p.Name, p.Arch, p.Version, newest.String()})
		}
	}
	return c
}
