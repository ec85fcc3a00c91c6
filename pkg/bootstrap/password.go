package bootstrap

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// A mirror's user and password are in no argument, no environment and no file of
// the guest. Both tools are given the address without them, and look them up in a
// file of netrc's kind that root alone reads: wget in .netrc in its HOME, apt where
// its configuration says (apt_auth.conf(5)).

// PublicURL is a URL without user and password.
func PublicURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return text
	}
	u.User = nil
	return u.String()
}

// login is what a mirror asks for.
type login struct{ machine, user, password string }

// mirrorLogin takes it from the mirror's URL; nil is none.
func (s Spec) mirrorLogin() (*login, error) {
	u, err := url.Parse(s.Mirror)
	if err != nil || u.User == nil {
		return nil, nil //nolint:nilerr // check has refused it
	}
	l := &login{machine: u.Host, user: u.User.Username()}
	l.password, _ = u.User.Password()
	if l.user == "" || strings.ContainsFunc(l.user+l.password, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' || r == '\\' || r == '#' }) {
		return nil, errors.New("mirror: its user and password can't hold blanks, quotes, backslashes or #, which apt's and wget's files don't take: give the mirror others")
	}
	return l, nil
}

// passwordFile writes the login into a new folder of its own below WorkDir, as one
// file for each tool, and returns the folder; "" is no login.
func (s Spec) passwordFile() (dir string, err error) {
	l, err := s.mirrorLogin()
	if l == nil || err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp(s.WorkDir, "auth-"); err != nil {
		return "", fmt.Errorf("the mirror's password: %w", err)
	}
	u, err := url.Parse(s.Mirror)
	if err != nil {
		return dir, err
	}
	end := " login " + l.user + " password " + l.password + "\n"
	return dir, errors.Join(
		os.WriteFile(filepath.Join(dir, ".netrc"), []byte("machine "+u.Hostname()+end), 0o600),
		// apt wants the scheme of what isn't https.
		os.WriteFile(filepath.Join(dir, "auth.conf"), []byte("machine "+u.Scheme+"://"+l.machine+end), 0o600))
}

// useAuth is a hook that makes apt look there, by the configuration of the run,
// which doesn't stay in the guest.
func useAuth(dir string) string {
	return `echo '` + netrc(dir) + `;' >> "$MMDEBSTRAP_APT_CONFIG"`
}

// netrc is the option by which apt looks there.
func netrc(dir string) string { return `Dir::Etc::netrc "` + dir + `/auth.conf"` }
