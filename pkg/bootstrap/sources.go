package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Where a guest's apt has its sources (sources.list(5)).
const (
	sourcesList  = "etc/apt/sources.list"
	sourcesParts = "etc/apt/sources.list.d"
	ownKeyring   = "etc/apt/keyrings/archive" // of KEYRING, with its ending
)

// writeSources gives the guest's apt its sources: in the format of deb822 where its
// apt is of the kind that asks for that, else a line each. What the tool has written
// is replaced.
func writeSources(root *os.Root, tool Tool, spec Spec, sources []Source) error {
	distribution := tool.Distribution()
	theirs := guestKeyring(root, distribution)
	keys := signers{own: theirs, other: theirs}
	if spec.Keyring != "" {
		raw, err := os.ReadFile(spec.Keyring)
		if err != nil {
			return fmt.Errorf("KEYRING: %w", err)
		}
		name := ownKeyring + keyEnding(raw)
		err = errors.Join(root.MkdirAll(filepath.Dir(name), 0o755), root.Chmod(filepath.Dir(name), 0o755), writeReadable(root, name, raw))
		if err != nil {
			return err
		}
		keys = keys.with("/" + name)
	}
	if err := root.MkdirAll(filepath.Dir(sourcesList), 0o755); err != nil {
		return err
	}
	major, minor := aptVersion(root)
	if major < 2 || major == 2 && minor < 7 { // bookworm's is 2.6, noble's 2.7
		return writeReadable(root, sourcesList, []byte(oneLine(sources, keys)))
	}
	name := distribution + ".sources"
	err := errors.Join(root.MkdirAll(sourcesParts, 0o755), writeReadable(root, sourcesParts+"/"+name, []byte(stanzas(sources, keys))))
	if err != nil {
		return err
	}
	return writeReadable(root, sourcesList, []byte("# The sources are in /"+sourcesParts+"/"+name+", see sources.list(5).\n"))
}

// signers are the keyrings for sources, parted by commas; "" is what apt trusts.
type signers struct {
	site       bool   // a site's own is among them
	own, other string // for the mirror itself, and for other archives
}

// with adds a site's own keyring: what isn't of the mirror itself may also be signed by
// the distribution.
func (k signers) with(path string) signers {
	k.site, k.own = true, path
	if k.other != "" {
		path += "," + k.other
	}
	k.other = path
	return k
}

func (k signers) of(s Source) string {
	if s.own {
		return k.own
	}
	return k.other
}

// line is a source in one line. A keyring is named only where it is a site's own: the
// distribution's is trusted anyway, and apt before 1.1 knows no such option.
func (s Source) line(k signers) string {
	option := ""
	if k.site {
		option = "[signed-by=" + k.of(s) + "] "
	}
	return "deb " + option + s.URI + " " + s.Suite + " " + strings.Join(s.Components, " ")
}

func oneLine(sources []Source, keys signers) string {
	var b strings.Builder
	for _, s := range sources {
		b.WriteString(s.line(keys) + "\n")
	}
	return b.String()
}

// stanzas joins the suites of one archive that have the same components.
func stanzas(sources []Source, keys signers) string {
	var out []string
	for i := 0; i < len(sources); {
		s := sources[i]
		suites := []string{s.Suite}
		components := strings.Join(s.Components, " ")
		for i++; i < len(sources) && sources[i].URI == s.URI && sources[i].own == s.own && strings.Join(sources[i].Components, " ") == components; i++ {
			suites = append(suites, sources[i].Suite)
		}
		text := "Types: deb\nURIs: " + s.URI + "\nSuites: " + strings.Join(suites, " ") + "\nComponents: " + components + "\n"
		if key := keys.of(s); key != "" {
			text += "Signed-By: " + strings.ReplaceAll(key, ",", " ") + "\n"
		}
		out = append(out, text)
	}
	return strings.Join(out, "\n")
}

// guestKeyring is where the guest has its distribution's keyring, "" is nowhere.
func guestKeyring(root *os.Root, distribution string) string {
	for _, ending := range []string{".pgp", ".gpg"} {
		path := "usr/share/keyrings/" + distributions[distribution].keyring + ending
		if _, err := root.Stat(path); err == nil {
			return "/" + path
		}
	}
	return ""
}

// aptVersion returns the first two numbers of the version of the guest's apt.
func aptVersion(root *os.Root) (major, minor int) {
	for _, name := range []string{"var/lib/dpkg/status", "var/lib/dpkg/status.d/apt"} {
		raw, err := root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		_, rest, found := strings.Cut("\n"+string(raw), "\nPackage: apt\n")
		rest, _, _ = strings.Cut(rest, "\n\n")
		if _, version, ok := strings.Cut("\n"+rest, "\nVersion: "); found && ok {
			_, _ = fmt.Sscanf(version, "%d.%d", &major, &minor)
		}
	}
	return major, minor
}

// keyEnding is what apt goes by: text in armor is .asc, all else .gpg.
func keyEnding(raw []byte) string {
	if strings.HasPrefix(string(raw), "-----BEGIN") {
		return ".asc"
	}
	return ".gpg"
}
