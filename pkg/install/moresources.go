package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/trust"
)

// Where a guest's apt looks (sources.list(5), apt_preferences(5)).
const (
	sourcesFolder = "/etc/apt/sources.list.d/"
	pinsFolder    = "/etc/apt/preferences.d/"
)

// moreSources reads EXTRA_SOURCES: a file of sources in one of apt's formats, the keys
// that it names, and the pins beside it, which have its name and end in .pref. They are
// text by path, as the guest has them.
func moreSources(ctx context.Context, s *settings.Settings) (map[string]string, error) {
	if s.ExtraSources == "" {
		return nil, nil
	}
	files := map[string]string{}
	for _, from := range sourcesFiles(s.ExtraSources) {
		read := trustedFile
		if from.isKey {
			read = trustedKeys
		}
		text, err := read(from.path, s.SharedFiles == "refuse")
		if errors.Is(err, fs.ErrNotExist) && from.optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("EXTRA_SOURCES: %s%w", from.named, err)
		}
		files[from.inGuest] = text
	}
	if err := checkSources(ctx, s.ExtraSources, files[sourcesFolder+filepath.Base(s.ExtraSources)]); err != nil {
		return nil, fmt.Errorf("EXTRA_SOURCES: %w", err)
	}
	return files, nil
}

// checkSources has the node's apt read the sources, and refuses those that every user of
// the guest could read a password in. A node without apt leaves it to the tree's.
func checkSources(ctx context.Context, path, text string) error {
	if pattern.MaskUserinfo(text) != text {
		return fmt.Errorf("%s: an address in it has a user or password, which every user of the guest could read: take it out, and have a hook write it to the guest's /etc/apt/auth.conf.d, and install from there", path)
	}
	if _, err := command.Look("apt-get"); err == nil {
		if _, err := command.Output(ctx, "apt-get", "indextargets", "-o", "Dir::Etc::sourcelist="+path, "-o", "Dir::Etc::sourceparts=/dev/null"); err != nil {
			return fmt.Errorf("%s: apt can't use it: %w", path, err)
		}
	}
	if len(bootstrap.ParseSources(path, text)) == 0 {
		return fmt.Errorf("%s: there is no source in it that is in use (Enabled: no turns one off)", path)
	}
	return nil
}

// sourcesFile is a file on this node that belongs to EXTRA_SOURCES.
type sourcesFile struct {
	path, inGuest string
	named         string // by what, for messages
	optional      bool
	isKey         bool
}

// sourcesFiles are the file of sources itself, which may not be there, and what belongs
// to it.
func sourcesFiles(path string) []sourcesFile {
	out := []sourcesFile{{path: path, inGuest: sourcesFolder + filepath.Base(path)}}
	text, _ := readKeyFile(path) // a fault is moreSources's to tell
	for _, entry := range bootstrap.ParseSources(path, text) {
		for _, key := range entry.Keys {
			if !isDistributionKey(key) { // which the guest has
				out = append(out, sourcesFile{path: key, inGuest: key, named: path + ": Signed-By: ", isKey: true})
			}
		}
	}
	pins := strings.TrimSuffix(path, filepath.Ext(path)) + ".pref"
	return append(out, sourcesFile{path: pins, inGuest: pinsFolder + filepath.Base(pins), optional: true})
}

// fileWarnings says who else could change the files of this node that come into the
// guest, or say what does.
func (o *Order) fileWarnings() (out []string) {
	look := func(setting, path string) {
		warnings, _ := trust.Check(path, o.StrictFiles()) // what is refused is so where it is read
		for _, text := range warnings {
			out = append(out, setting+": "+text)
		}
	}
	s := o.Settings
	for _, given := range [][2]string{{"SSH_AUTHORIZED_KEYS", s.SSHAuthorizedKeys}, {"FIRST_BOOT", s.FirstBoot}, {"USER_DATA", s.UserData}} {
		if strings.HasPrefix(given[1], "/") {
			look(given[0], given[1])
		}
	}
	if s.Keyring != "" {
		look("KEYRING", s.Keyring)
	}
	if s.ExtraSources != "" {
		for _, from := range sourcesFiles(s.ExtraSources) {
			look("EXTRA_SOURCES", from.path)
		}
	}
	return out
}

// WarnOfFiles logs them.
func (o *Order) WarnOfFiles(ctx context.Context) {
	for _, text := range o.fileWarnings() {
		tell.Warn(ctx, "%s", text)
	}
}

func isDistributionKey(path string) bool {
	dir, name := filepath.Split(path)
	return dir == "/usr/share/keyrings/" && (strings.HasPrefix(name, "debian-archive-") || strings.HasPrefix(name, "ubuntu-archive-"))
}

// trustedFile reads a file of the node that comes into guests.
func trustedFile(path string, strict bool) (string, error) {
	if _, err := trust.Check(path, strict); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("file %s on this node: %w", path, err)
	} else if err != nil {
		return "", err
	}
	text, err := readKeyFile(path)
	if err != nil {
		err = fmt.Errorf("file %s on this node: %w", path, err)
	}
	return text, err
}

// trustedKeys reads a file of keys: OpenPGP's, in armor or not (RFC 9580, 4.2 and 6.2).
func trustedKeys(path string, strict bool) (string, error) {
	text, err := trustedFile(path, strict)
	if err == nil && !strings.HasPrefix(text, "-----BEGIN PGP PUBLIC KEY BLOCK-----") && !isKeyPacket(text) {
		err = fmt.Errorf("file %s on this node holds no public key: put what gpg --export KEY prints into a new file, and name that", path)
	}
	return text, err
}

// isKeyPacket tells whether a public key's packet (its tag is 6) is at the beginning.
func isKeyPacket(text string) bool {
	if text == "" {
		return false
	}
	switch first := text[0]; first & 0xc0 {
	case 0xc0:
		return first&0x3f == 6
	case 0x80:
		return first&0x3c>>2 == 6
	}
	return false
}
