package settings

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// hashForm is one of crypt(5)'s, whole: with a hash that was cut short nobody can log
// in. DES is none of them, for a password of 13 letters looks like it.
type hashForm struct {
	prefix, method string // as crypt(5) has them
	whole          string // a regular expression
	since          age
}

// age is from when on the C library of a suite checks a form.
type age int

const (
	always age = iota
	glibc27
	libxcrypt
)

// salt is what stands in a salt; the colon is shadow(5)'s.
const salt = `[!-#%-9;-~]`

// hashForms are those that Debian's C libraries check: glibc MD5 and, from 2.7 on,
// SHA-2; libxcrypt all.
var hashForms = []hashForm{
	{"$1$", "md5crypt", `\$1\$` + salt + `{0,8}\$[./0-9A-Za-z]{22}`, always},
	{"$5$", "sha256crypt", `\$5\$(rounds=[0-9]+\$)?` + salt + `{0,16}\$[./0-9A-Za-z]{43}`, glibc27},
	{"$6$", "sha512crypt", `\$6\$(rounds=[0-9]+\$)?` + salt + `{0,16}\$[./0-9A-Za-z]{86}`, glibc27},
	{"$2", "bcrypt", `\$2[abxy]\$[0-9]{2}\$[./0-9A-Za-z]{53}`, libxcrypt},
	{"$y$", "yescrypt", `\$y\$[./0-9A-Za-z]+\$[./0-9A-Za-z]{0,86}\$[./0-9A-Za-z]{43}`, libxcrypt},
	{"$gy$", "gost-yescrypt", `\$gy\$[./0-9A-Za-z]+\$[./0-9A-Za-z]{0,86}\$[./0-9A-Za-z]{43}`, libxcrypt},
	{"$7$", "scrypt", `\$7\$[./0-9A-Za-z]{11}` + salt + `*\$[./0-9A-Za-z]{43}`, libxcrypt},
	{"$sha1$", "sha1crypt", `\$sha1\$[0-9]+\$[./0-9A-Za-z]{1,64}\$[./0-9A-Za-z]{28}`, libxcrypt},
	{"$md5", "sunmd5", `\$md5(,rounds=[0-9]+)?\$` + salt + `{1,8}\$\$?[./0-9A-Za-z]{22}`, libxcrypt},
	{"$3$", "nt", `\$3\$\$[0-9a-f]{32}`, libxcrypt},
}

// oldSuites are those whose C library lacks forms: before glibc 2.7, and before
// libxcrypt, which came with bullseye and focal.
var oldSuites = []struct {
	has   age
	names string
}{
	{always, "potato woody sarge etch warty hoary breezy dapper edgy feisty gutsy"},
	{glibc27, "lenny squeeze wheezy jessie stretch buster ascii beowulf amber hardy intrepid jaunty karmic lucid maverick natty oneiric " +
		"precise quantal raring saucy trusty utopic vivid wily xenial yakkety zesty artful bionic cosmic disco eoan"},
}

// anyHash matches all of them.
var anyHash = func() func() *regexp.Regexp {
	var forms []string
	for _, form := range hashForms {
		forms = append(forms, form.whole)
	}
	return pattern.New(`^(` + strings.Join(forms, "|") + `)$`)
}()

// IsRootPassword tells whether ROOT_PASSWORD is meant: a hash, perhaps one that was cut short, or
// one of its words, and not the password itself.
func IsRootPassword(v string) bool {
	return v == "blank" || v == "locked" ||
		slices.ContainsFunc(hashForms, func(form hashForm) bool { return strings.HasPrefix(v, form.prefix) })
}

func checkRootPassword(v string) error {
	if v == "blank" || v == "locked" || anyHash().MatchString(v) {
		return nil
	}
	return errors.New("must be blank, locked, or a whole hash as mkpasswd(1) prints it (in a settings file in single quotes); " +
		"never the password itself, and no hash of DES, which a password can't be told from")
}

// CheckPassword fails where the suite's own C library can't check root's hash: nobody
// could log in to a new guest. It is no matter for guests that exist.
func (s *Settings) CheckPassword() error {
	if err := checkHashOf(s.Suite, s.RootPassword); err != nil {
		return fmt.Errorf("%s: ROOT_PASSWORD: %w", s.Origin["ROOT_PASSWORD"], err)
	}
	return nil
}

func checkHashOf(suite, v string) error {
	for _, form := range hashForms {
		if !strings.HasPrefix(v, form.prefix) {
			continue
		}
		for _, old := range oldSuites {
			if form.since > old.has && slices.Contains(strings.Fields(old.names), suite) {
				method := map[age]string{always: "md5crypt", glibc27: "sha512crypt"}[old.has]
				return fmt.Errorf("is a hash of %s (%s…), which %s can't check, so nobody could log in: make one with mkpasswd -m %s", form.method, form.prefix, suite, method)
			}
		}
	}
	return nil
}
