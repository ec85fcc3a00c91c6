package settings

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"instance-debootstrap/pkg/pattern"
)

var (
	suiteName     = pattern.New(`^[a-z0-9][a-z0-9._-]*$`)
	sourcesName   = pattern.New(`^[A-Za-z0-9_.-]+$`) // sources.list(5)
	archName      = pattern.New(`^[a-z0-9][a-z0-9-]*$`)
	componentName = pattern.New(`^[a-zA-Z0-9][a-zA-Z0-9./_-]*$`)
	// packageName is Debian policy 5.6.7's rule: the bootstrap tools take no architecture at
	// its end. A "-" there has apt remove the package (apt-get(8)).
	packageName = pattern.New(`^[a-z0-9][a-z0-9+.-]*[a-z0-9+.]$`)
)

func anything(string) error { return nil }

// optional takes an empty value too.
func optional(check func(string) error) func(string) error {
	return func(v string) error {
		if v == "" {
			return nil
		}
		return check(v)
	}
}

// parsed takes what can be parsed.
func parsed[T any](parse func(string) (T, error)) func(string) error {
	return func(v string) error {
		_, err := parse(v)
		return err
	}
}

func oneOf(values ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(values, v) {
			return fmt.Errorf("must be one of %s", strings.Join(values, ", "))
		}
		return nil
	}
}

func number(what string, low, high int64) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < low || n > high {
			return fmt.Errorf("must be a whole number of %s, from %d to %d", what, low, high)
		}
		return nil
	}
}

var sizeText = pattern.New(`^([1-9][0-9]{0,6})([MGT])(iB)?$`)

func checkSize(v string) error {
	if !sizeText().MatchString(v) {
		return errors.New("must be a number with M, G or T, such as 20G")
	}
	if sizeBytes(v) <= 0 {
		return errors.New("is too large: 8388607T is the most that can be said")
	}
	return nil
}

// sizeBytes is what a size comes to; "" and what is too large is 0.
func sizeBytes(v string) int64 {
	m := sizeText().FindStringSubmatch(v)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]uint{"M": 20, "G": 30, "T": 40}[m[2]]
	if n > math.MaxInt64>>shift {
		return 0
	}
	return n << shift
}

// form takes what a pattern matches.
func form(pattern func() *regexp.Regexp, fault string) func(string) error {
	return func(v string) error {
		if !pattern().MatchString(v) {
			return errors.New(fault)
		}
		return nil
	}
}

// kernelArch is what the kernel calls some of Debian's architectures (uname -m).
var kernelArch = map[string]string{"x86_64": "amd64", "i586": "i386", "i686": "i386", "aarch64": "arm64", "armv7l": "armhf", "ppc64le": "ppc64el"}

func checkArch(v string) error {
	if name := kernelArch[v]; name != "" {
		return fmt.Errorf("is called %s in Debian", name)
	}
	return form(archName, "not an architecture's name, such as amd64")(v)
}

func checkPath(v string) error {
	if !strings.HasPrefix(v, "/") || strings.ContainsAny(v, "\n\x00") {
		return errors.New("must be an absolute path")
	}
	return nil
}

func checkSecurityMirror(v string) error {
	if v == "auto" || v == "none" {
		return nil
	}
	if u, err := url.Parse(v); err == nil && u.User != nil {
		return errors.New("can't have a user and password: those of MIRROR are used for its host")
	}
	return checkURL(v)
}

// checkKeyring takes what apt's sources can name in an option.
func checkKeyring(v string) error {
	if strings.ContainsAny(v, " \t,[]") {
		return errors.New("can't have blanks, commas and brackets in it")
	}
	return checkPath(v)
}

func checkSourcesPath(v string) error {
	if err := checkPath(v); err != nil {
		return err
	}
	name, ok := strings.CutSuffix(path.Base(v), ".list")
	if !ok {
		name, ok = strings.CutSuffix(name, ".sources")
	}
	if name == "debian" || name == "ubuntu" {
		return errors.New("has the name of the distribution's own sources in the guest: call it site.sources, say")
	}
	if !ok || !sourcesName().MatchString(name) {
		return errors.New("must end in .list or .sources, with letters, digits, dots, dashes and underscores before it: apt ignores all others")
	}
	return nil
}

func checkFolders(v string) error {
	for _, dir := range list(v) {
		if checkPath(dir) != nil || path.Clean(dir) != dir || dir == "/" {
			return fmt.Errorf("%q: must be an absolute path other than /", dir)
		}
	}
	return nil
}

// checkURL takes what apt takes as an archive's or a proxy's address.
func checkURL(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme == "" || strings.ContainsAny(v, " \t\n\"'|") || strings.ContainsAny(u.Path+u.RawQuery+u.Opaque, "[]") {
		return errors.New("not a URL, such as http://mirror.example/debian")
	}
	switch u.Scheme {
	case "http", "https", "ftp", "ssh", "rsh", "tor+http", "tor+https":
		if u.Host == "" {
			return errors.New("the URL has no host")
		}
	case "file", "copy", "mirror":
	default:
		return fmt.Errorf("scheme %s:// is none of an archive's (http, https, ftp, file)", u.Scheme)
	}
	return checkAuthority(u)
}

var hostName = pattern.New(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// checkAuthority refuses a host and a user that a tool could take for an option: ssh
// and scp get them as arguments of their own.
func checkAuthority(u *url.URL) error {
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); host != "" && err != nil && !hostName().MatchString(host) {
		return fmt.Errorf("host %q is none: letters, digits, dots and dashes, not a dash first", host)
	}
	if u.Opaque != "" {
		return errors.New("not a URL, such as http://mirror.example/debian")
	}
	if user := u.User.Username(); strings.HasPrefix(user, "-") || strings.ContainsFunc(user, unicode.IsControl) {
		return errors.New("the URL's user begins with a dash, or has a control character in it")
	}
	return nil
}

var hostPort = pattern.New(`^([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}/?$`)

// checkProxy takes what wget and apt take from http_proxy.
func checkProxy(v string) error {
	if hostPort().MatchString(v) {
		return nil
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || strings.ContainsAny(v, " \t\n\"'|") {
		return errors.New("not a proxy's address, such as http://proxy.example:3128/")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return checkAuthority(u)
	}
	return fmt.Errorf("scheme %s:// is none of a proxy's (http, https, socks5)", u.Scheme)
}

// list splits a list at commas and blanks.
func list(v string) []string {
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
}

// listOf takes a list, each of which a pattern matches.
func listOf(pattern func() *regexp.Regexp, what string) func(string) error {
	return func(v string) error {
		for _, name := range list(v) {
			if !pattern().MatchString(name) {
				return fmt.Errorf("%q is not %s", name, what)
			}
		}
		return nil
	}
}

// show quotes a value for a message, without passwords: those of a malformed
// URL too, so all that comes before an @.
func (s Setting) show(v string) string {
	if s.Secret && v != s.Default && !(s.Default == "" && isPath(v)) {
		return "(hidden)"
	}
	return show(v)
}

func show(v string) string {
	v = pattern.MaskUserinfo(v)
	if at := strings.LastIndexByte(v, '@'); at >= 0 && !strings.Contains(v, "://***@") {
		v = "***" + v[at:]
	}
	return strconv.Quote(v)
}
