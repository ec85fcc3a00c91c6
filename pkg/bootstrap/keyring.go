package bootstrap

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/ubuntu"
)

// keyringLine is how a suite's debootstrap script names its keyring.
var keyringLine = pattern.New(`(?m)^[ \t]*keyring[ \t]+(/\S+)`)

// debianKeyrings is where debian-archive-keyring has it; newer ones end in .pgp.
var debianKeyrings = []string{"/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"}

// ubuntuKeyring is where all of Ubuntu's debootstrap scripts have it.
const ubuntuKeyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"

// Suites of Ubuntu since which something is otherwise.
const (
	mergedUbuntu = "disco"    // debootstrap merges /usr
	withoutI386  = "focal"    // i386 has a part of the packages only
	newUbuntu    = "lunar"    // Debian 12's debootstrap doesn't know them
	nextUbuntu   = "stonking" // Release files have SHA-512 alone, and debootstrap reads SHA-256
)

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

// isUbuntusNext tells whether it is nextUbuntu, or a later one, and the node's debootstrap
// doesn't know it.
func (s Spec) isUbuntusNext() bool {
	return s.distributionOf() == "ubuntu" && !ubuntu.Before(s.Suite, nextUbuntu) && !exists(filepath.Join(scriptsDir, s.Suite))
}

// keyringPackage is the package to install for a keyring.
func keyringPackage(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if pkg, ok := keyringPackages[name]; ok {
		return pkg
	}
	return name
}
