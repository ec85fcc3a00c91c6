package bootstrap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// keyringLine is how a suite's debootstrap script names its keyring.
var keyringLine = pattern.New(`(?m)^[ \t]*keyring[ \t]+(/\S+)`)

// debianKeyrings is where debian-archive-keyring has it; newer ones end in .pgp.
var debianKeyrings = []string{"/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"}

// keyringPackages are the packages whose name isn't that of their keyring.
var keyringPackages = map[string]string{
	"ubuntu-archive-keyring":      "ubuntu-keyring",
	"debian-archive-removed-keys": "debian-archive-keyring",
}

// keyringOf returns the keyring that a suite's Release file is checked with: the
// one that debootstrap's script names, or Debian's for the Debian suites that
// are newer than the node's debootstrap. Without it nothing is bootstrapped.
func keyringOf(suite string) (string, error) {
	candidates := debianKeyrings
	script := filepath.Join(scriptsDir, suite)
	raw, err := os.ReadFile(script)
	if _, ours := mmSuites[suite]; err != nil && (!errors.Is(err, os.ErrNotExist) || !ours) {
		return "", fmt.Errorf("archive keyring of %s: %w", suite, err)
	}
	if err == nil {
		m := keyringLine().FindSubmatch(raw)
		if m == nil {
			return "", fmt.Errorf("suite %s: debootstrap knows no archive keyring for it (%s), so its signatures can't be checked: name one in KEYRING", suite, script)
		}
		candidates = []string{string(m[1])}
	}
	for _, path := range candidates {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Size() > 0 {
			return path, nil
		}
	}
	path := candidates[len(candidates)-1]
	return "", fmt.Errorf("suite %s: its archive keyring %s is missing, so its signatures can't be checked: install %s", suite, path, keyringPackage(path))
}

// keyringPackage is the package to install for a keyring.
func keyringPackage(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if pkg, ok := keyringPackages[name]; ok {
		return pkg
	}
	return name
}
