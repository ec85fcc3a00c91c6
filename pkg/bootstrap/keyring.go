package bootstrap

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// keyringLine is how a suite's debootstrap script names its keyring.
var keyringLine = pattern.New(`(?m)^[ \t]*keyring[ \t]+(/\S+)`)

// debianKeyrings is where debian-archive-keyring has it; newer ones end in .pgp.
var debianKeyrings = []string{"/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"}

// ubuntuKeyring is where all of Ubuntu's debootstrap scripts have it.
const ubuntuKeyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"

// newUbuntu are Ubuntu's suites since 23.04, which Debian 12's debootstrap doesn't know, and
// nextUbuntu those since 26.10, whose Release files have SHA-512 alone: debootstrap reads SHA-256.
var (
	newUbuntu  = []string{"lunar", "mantic", "noble", "oracular", "plucky", "questing", "resolute"}
	nextUbuntu = []string{"stonking", "tenacious"}
)

// withoutI386 are Ubuntu's suites that have a part of their packages only for i386.
var withoutI386 = slices.Concat([]string{"focal", "groovy", "hirsute", "impish", "jammy", "kinetic"}, newUbuntu, nextUbuntu)

// keyringPackages are the packages whose name isn't that of their keyring.
var keyringPackages = map[string]string{
	"ubuntu-archive-keyring":      "ubuntu-keyring (on Debian 12 that of Debian 13)",
	"debian-archive-removed-keys": "debian-archive-keyring",
}

// keyrings are the places of the keyring that the suite's Release file is checked with: the one
// that debootstrap's script names, or its distribution's for a suite that is newer than the
// node's debootstrap.
func (s Spec) keyrings() ([]string, error) {
	suite := s.Suite
	script := filepath.Join(scriptsDir, suite)
	raw, err := os.ReadFile(script)
	switch {
	case err == nil:
		m := keyringLine().FindSubmatch(raw)
		if m == nil {
			return nil, fmt.Errorf("suite %s: debootstrap knows no archive keyring for it (%s), so its signatures can't be checked: name one in KEYRING", suite, script)
		}
		return []string{string(m[1])}, nil
	case !errors.Is(err, os.ErrNotExist) || !s.isNamed():
		return nil, fmt.Errorf("archive keyring of %s: %w", suite, err)
	case mmSuites[suite] != "":
		return debianKeyrings, nil
	}
	return []string{ubuntuKeyring}, nil
}

// mirrorsDistribution is "debian" or "ubuntu", as the folders of their mirrors are called
// (ubuntu-ports is one, too), or "".
func (s Spec) mirrorsDistribution() string {
	u, err := url.Parse(s.Mirror)
	for _, name := range []string{"ubuntu", "debian"} {
		if err == nil && strings.HasPrefix(path.Base(u.Path), name) {
			return name
		}
	}
	return ""
}

// ownKeyring is the suite's keyring on this node. Without it nothing is bootstrapped.
func (s Spec) ownKeyring() (string, error) {
	suite := s.Suite
	candidates, err := s.keyrings()
	if err != nil {
		return "", err
	}
	for _, path := range candidates {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Size() > 0 {
			return path, nil
		}
	}
	path := candidates[len(candidates)-1]
	if !s.isListed() {
		suite += ", which neither debootstrap nor we know, and which counts as Ubuntu's by MIRROR"
	}
	return "", fmt.Errorf("suite %s: its archive keyring %s is missing, so its signatures can't be checked: install %s, or name the keyring in KEYRING", suite, path, keyringPackage(path))
}

// distributionOf is whose suite it is, "debian" or "ubuntu": by its keyring, or of a suite that
// nobody knows, by what the folder of MIRROR is called, or else KEYRING.
func (s Spec) distributionOf() string {
	keyrings, err := s.keyrings()
	if err != nil {
		keyrings = []string{s.Keyring}
		if name := s.mirrorsDistribution(); name != "" {
			return name
		}
	}
	if strings.HasPrefix(filepath.Base(keyrings[0]), "ubuntu") {
		return "ubuntu"
	}
	return "debian"
}

// isUbuntusNext tells whether it is a suite of nextUbuntu, or a later one, that the node's
// debootstrap doesn't know.
func (s Spec) isUbuntusNext() bool {
	return s.distributionOf() == "ubuntu" && !slices.Contains(newUbuntu, s.Suite) && !exists(filepath.Join(scriptsDir, s.Suite))
}

// keyringPackage is the package to install for a keyring.
func keyringPackage(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if pkg, ok := keyringPackages[name]; ok {
		return pkg
	}
	return name
}
