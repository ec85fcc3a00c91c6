package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// The files in a cache folder.
var (
	tarName     = pattern.New(`^cache-.+\.tar$`)
	keyedName   = pattern.New(`^cache-(.+)-([^-]+)-([0-9a-f]{16})\.tar$`)
	sidecarName = pattern.New(`^cache-.+-[0-9a-f]{16}\.json$`)
	imageName   = pattern.New(`^(cache-.+)\.ext[234]-[0-9a-f]{8}\.img$`)
	corruptName = pattern.New(`^cache-.+\.tar\.corrupt$`)
	// tempName: ours where the filesystem has no O_TMPFILE, and what the former
	// shell scripts left when tar failed (mktemp cache-SUITE-ARCH.tar.XXXXXX).
	tempName = pattern.New(`^(\.cache-.+\.tmp|cache-.+\.tar\.[A-Za-z0-9]{6})$`)
	// partName is what a suite or an architecture may look like in a file name.
	partName = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`)
)

// names are the paths that belong to one key.
type names struct {
	base    string // cache-SUITE-ARCH-KEY
	key     string
	tar     string // DIR/cache-SUITE-ARCH-KEY.tar
	sidecar string // DIR/cache-SUITE-ARCH-KEY.json
	corrupt string // DIR/cache-SUITE-ARCH-KEY.tar.corrupt
	admin   string // DIR/cache-SUITE-ARCH.tar
}

func (s Store) names(in Inputs) (names, error) {
	for _, part := range []struct{ what, text string }{{"suite", in.Suite}, {"architecture", in.Arch}} {
		if !partName().MatchString(part.text) {
			return names{}, fmt.Errorf("cache: %s %q can't be part of a file name", part.what, part.text)
		}
	}
	plain := "cache-" + in.Suite + "-" + in.Arch
	n := s.namesOf(plain + "-" + in.Key() + ".tar")
	n.key = in.Key()
	n.admin = filepath.Join(s.Dir, plain+".tar")
	return n, nil
}

// namesOf returns the paths that go with an entry's file name.
func (s Store) namesOf(tarFile string) names {
	base := strings.TrimSuffix(tarFile, ".tar")
	path := filepath.Join(s.Dir, base)
	n := names{base: base, tar: path + ".tar", sidecar: path + ".json", corrupt: path + ".tar.corrupt"}
	if m := keyedName().FindStringSubmatch(tarFile); m != nil {
		n.key = m[3]
	}
	return n
}

// keyIn is the key in an entry's file name, as `cache list` shows it; what is none is the beginning
// of a key.
func keyIn(text string) string {
	if m := keyedName().FindStringSubmatch(text); m != nil {
		return m[3]
	}
	return text
}

// tempPath is the name under which a file is written where O_TMPFILE is missing.
func tempPath(final string) string {
	return filepath.Join(filepath.Dir(final), "."+filepath.Base(final)+".tmp")
}

// besidePath is the name under which a file is made that replaces the tar: not
// the builder's, who may be at work at the same time.
func (n names) besidePath() string {
	return filepath.Join(filepath.Dir(n.tar), "."+filepath.Base(n.tar)+".new.tmp")
}

// sweep removes what a killed run left under a name; the key's lock is held.
func (n names) sweep() {
	os.Remove(tempPath(n.tar))
	os.Remove(tempPath(n.sidecar))
}
