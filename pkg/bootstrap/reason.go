package bootstrap

import (
	"errors"
	"os"
	"slices"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// reasons keeps, of all that a tool prints, the few lines that say why it fails: they
// come long before the end, among those of packages that are being set up.
type reasons struct {
	before string // the last line, which a package's script may have printed
	own    []string
	common []string // what is said of any failure
}

var (
	// reasonLine is how apt, dpkg, gpgv and both tools begin what ends them.
	reasonLine = pattern.New(`^(E: |dpkg: error |dpkg-deb: error|gpgv?: (Can't|BAD|no )|.*No space left on device)`)
	fetchLine  = pattern.New(`^Err:\d+ `)
	// commonLine is said whenever something else has failed.
	commonLine = pattern.New(`returned an error code|process exited with|run_chroot failed|^E: (setup|apt-get|mmdebstrap|dpkg|env) .*(failed|exited)|received signal|Failed to run|debootstrap\.log for details`)
	// busyLine is what dpkg and apt print while all is well.
	busyLine = pattern.New(`^(Setting up|Unpacking|Selecting|Preparing to|Processing triggers|\(Reading|I: |Get:\d|Hit:\d|Fetched )`)
)

// maxReasons is how many lines an error has.
const maxReasons = 4

func (r *reasons) line(text string) {
	before := r.before
	r.before = text
	if fetchLine().MatchString(before) { // apt says what failed, and then why
		r.add(strings.TrimSpace(text))
		return
	}
	if !reasonLine().MatchString(text) {
		return
	}
	if commonLine().MatchString(text) {
		r.common = append(r.common, text)
		return
	}
	if strings.HasPrefix(text, "dpkg: error processing") && before != "" && !busyLine().MatchString(before) && !reasonLine().MatchString(before) {
		r.add(before) // the script's own last word
	}
	r.add(text)
}

// connection is apt's note of the address that it spoke to: that of our own proxy, mostly.
var connection = pattern.New(` \[IP: [^\]]*\]`)

// add keeps a reason, unless it is in one that is there, or of what was never fetched.
func (r *reasons) add(text string) {
	text = connection().ReplaceAllString(text, "")
	unsigned := strings.HasSuffix(text, "is not signed.") && slices.ContainsFunc(r.own, func(s string) bool { return strings.HasPrefix(s, "E: Failed to fetch ") })
	if unsigned || slices.ContainsFunc(r.own, func(s string) bool { return strings.Contains(s, text) }) {
		return
	}
	r.own = slices.DeleteFunc(r.own, func(s string) bool { return strings.Contains(text, s) })
	if len(r.own) < maxReasons {
		r.own = append(r.own, text)
	}
}

// of returns a tool's error with its reasons instead of its last lines, where it has
// given any.
func (r *reasons) of(err error) error {
	lines := r.own
	if len(lines) == 0 && len(r.common) > 0 {
		lines = r.common[:1]
	}
	var failed *command.Error
	if len(lines) == 0 || !errors.As(err, &failed) {
		return err
	}
	return &command.Error{Argv: failed.Argv, Tail: lines, Err: failed.Err}
}

// lacking is how apt and debootstrap name packages that there aren't.
var lacking = pattern.New(`Unable to locate package ([a-z0-9+.-]+)|Package '?([a-z0-9+.-]+)'? has no installation candidate|find these debs:([a-z0-9+. -]+)`)

// Lacking returns those of the packages that a bootstrap has failed for, since no source
// has them.
func Lacking(err error, packages []string) (out []string) {
	if err == nil {
		return nil
	}
	var named []string
	for _, m := range lacking().FindAllStringSubmatch(err.Error(), -1) {
		named = append(named, strings.Fields(m[1]+m[2]+m[3])...)
	}
	return slices.DeleteFunc(slices.Clone(packages), func(name string) bool { return !slices.Contains(named, name) })
}

// logTail returns the last lines of debootstrap's own log.
func logTail(target string) []string {
	root, err := os.OpenRoot(target)
	if err != nil {
		return nil
	}
	defer root.Close()
	f, err := root.Open("debootstrap/debootstrap.log")
	if err != nil {
		return nil
	}
	defer f.Close()
	const most = 8 << 10
	if st, err := f.Stat(); err == nil && st.Size() > most {
		if _, err := f.Seek(st.Size()-most, 0); err != nil {
			return nil
		}
	}
	lines := &command.LineWriter{Keep: 10}
	if _, err := f.WriteTo(lines); err != nil {
		return nil
	}
	lines.Flush()
	return lines.Tail()
}
