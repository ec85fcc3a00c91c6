// Package bootstrap makes a Debian root tree with debootstrap or mmdebstrap.
//
// Both get the same input and leave, as far as they can, the same tree: that of
// debootstrap's default variant (priority required and important), merged /usr
// where debootstrap merges it, apt's lists kept (a hook may run `apt-get
// install` at once), package files, the tools' logs, machine ids and host keys removed: the
// same packages give the same bytes, once no time is later than Made.AsOf.
// Signatures are always checked, against the keyring of the suite alone.
package bootstrap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
)

// The tools, and the value that leaves the choice to us.
const (
	Auto        = "auto"
	Debootstrap = "debootstrap"
	Mmdebstrap  = "mmdebstrap"
)

// Spec is what to bootstrap.
type Spec struct {
	Tool   string // auto, debootstrap, mmdebstrap; "" is auto
	Suite  string // as debootstrap names it
	Arch   string // Debian's name; "" is the node's
	Mirror string // URL; "" is the tool's own default
	Proxy  string // already in the tools' environment; only masked here
	// HTTPProxy is a proxy for what is fetched by http while the tree is made; "" is Proxy.
	HTTPProxy  string
	Components []string // none is main
	ExtraPkgs  []string // installed besides the default set
	NodeArch   string   // as HostArch told; "" where there is no dpkg
	WorkDir    string   // a folder in memory, for the mirror's password
	// Files, by their paths in the tree, are there before any package is: the
	// packages' scripts may read them.
	Files map[string]string
	// Security is where the suite's security archive is: SecurityAuto, SecurityNone,
	// which has the guest's apt know the suite alone, or a URL.
	Security      string
	Keyring       string   // a file of keys for the mirror; "" is the suite's own
	MoreSources   bool     // Files have sources for apt
	RefuseExpired bool     // an archive whose Release file is out of date
	Sources       []Source // as Run has decided
	Snapshot      Snapshot // of which the tree is made
	// Scratch says that the target's filesystem is not the guest's: there packages are
	// decompressed ahead of dpkg.
	Scratch bool
	// SuitePkgs are those of ExtraPkgs that must be in the suite itself.
	SuitePkgs    []string
	theirKeyring string   // the distribution's own on this node, "" is none
	guests       []Source // of its apt in the end, where the tree is made of a snapshot
	rehearsal    bool
	extends      bool // a tree that is there, by its own apt
}

// Tool is a bootstrap tool of this node and the keyring that it checks with.
type Tool struct {
	Name          string // debootstrap or mmdebstrap
	Version       string // as it tells it
	Keyring       string // path
	KeyringSHA256 string // of the file, in hex
	distribution  string // of the suite, where the keyring is a site's own
}

// Distribution is whose suite it is: "debian", also for what is made of it, or
// "ubuntu".
func (t Tool) Distribution() string {
	switch {
	case t.distribution != "":
		return t.distribution
	case strings.HasPrefix(filepath.Base(t.Keyring), "ubuntu"):
		return "ubuntu"
	}
	return "debian"
}

// scratchName is a folder in the target for the time of a run: it goes away
// with the target when we are killed.
const scratchName = ".bootstrap"

// Run bootstraps into target, an empty folder (a lost+found may be in it) on a
// filesystem that takes device nodes. However it ends, no process that it
// started and no mount below target is left.
func Run(ctx context.Context, tool Tool, spec Spec, target string) (made Made, err error) {
	if err := errors.Join(spec.check()...); err != nil {
		return made, err
	}
	if err := checkTarget(target); err != nil {
		return made, err
	}
	if err := layFiles(target, spec.Files); err != nil {
		return made, err
	}
	zerolog.Ctx(ctx).Info().Msgf("bootstrapping %s (%s) with %s %s", spec.Suite, spec.arch(), tool.Name, tool.Version)
	return spec.within(ctx, tool, target)
}

// within has the archives looked at, the tree made or extended, and what it must not have
// removed. However it ends, no process of it and no mount below target is left.
func (s Spec) within(ctx context.Context, tool Tool, target string) (made Made, err error) {
	auth, err := s.passwordFile()
	if auth != "" {
		defer os.RemoveAll(auth)
	}
	if err != nil {
		return made, err
	}
	marker := runMark + "=" + rand.Text()
	s.theirKeyring, _ = s.ownKeyring()
	if s.Sources, made.Lacks, err = s.sources(ctx, tool, auth); err != nil {
		return Made{}, s.mask(fmt.Errorf("bootstrap %s: %w", s.Suite, err))
	}
	made.AsOf = asOf(s.Sources)
	if s.Sources[0].ubuntu { // which a suite that this node doesn't know tells only now
		tool.distribution = "ubuntu"
	}
	if s.Snapshot.Moment != "" {
		if s.guests, err = s.sourcesToday(ctx, tool, auth); err != nil {
			return Made{}, s.mask(fmt.Errorf("bootstrap %s: %w", s.Suite, err))
		}
	}
	if s.extends && len(made.Lacks) > 0 {
		return Made{}, fmt.Errorf("%w: there is no archive of %s", ErrNotExtendable, strings.Join(made.Lacks, " and "))
	}
	by := tool.Name
	if s.extends {
		by = "apt-get"
	}
	env := []string{marker}
	if s.HTTPProxy != "" {
		env = append(env, "http_proxy="+s.HTTPProxy)
	}
	if !made.AsOf.IsZero() {
		env = append(env, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", made.AsOf.Unix()))
	}
	err = s.fill(ctx, tool, target, auth, env)
	if ended := endProcesses(target, marker); len(ended) > 0 {
		level := zerolog.WarnLevel
		if ctx.Err() != nil { // it had no time to end them
			level = zerolog.InfoLevel
		}
		zerolog.Ctx(ctx).WithLevel(level).Msgf("%s left these running in the tree, they were ended: %s", by, strings.Join(ended, ", "))
	}
	mountErr := filesystem.UnmountBelow(target)
	if err == nil && mountErr == nil && !s.rehearsal {
		err = clean(target)
	}
	if err = errors.Join(err, mountErr); err != nil {
		return Made{}, s.mask(fmt.Errorf("bootstrap %s: %w", s.Suite, err))
	}
	return made, nil
}

// fill has the packages come into the tree, by the tool or the tree's own apt, and the
// initramfs be made of them. The arguments are make's.
func (s Spec) fill(ctx context.Context, tool Tool, target, auth string, env []string) (err error) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := errors.Join(root.Mkdir(scratchName, 0o755), root.Chmod(scratchName, 0o755)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.RemoveAll(scratchName)) }()
	by := s.make
	if s.extends {
		by = s.extend
	}
	if s.rehearsal {
		return by(ctx, tool, target, auth, env)
	}
	stop := func() {}
	if s.Scratch {
		stop = startAhead(ctx, root)
	}
	err = by(ctx, tool, target, auth, append([]string{noInitramfs}, env...))
	stop()
	if err != nil {
		return err
	}
	return s.makeInitramfs(ctx, target, env)
}

// make has the tool make the tree, and gives the guest's apt its sources. auth is the folder
// of the mirror's password, "" is none; env is the tools' environment
// beside the usual one.
func (s Spec) make(ctx context.Context, tool Tool, target, auth string, env []string) error {
	run := runDebootstrap
	if tool.Name == Mmdebstrap {
		run = runMmdebstrap
	}
	err := s.blamePorts(tool, run(ctx, tool, s, target, auth, env))
	if err == nil && s.rehearsal && tool.Name == Debootstrap {
		err = unknownPackages(target, s.firstPackages())
	}
	if err != nil || s.rehearsal {
		return err
	}
	root, err := os.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := writeSources(root, tool, s, s.Sources); err != nil {
		return fmt.Errorf("apt's sources: %w", err)
	}
	if tool.Name == Debootstrap && s.twoStages() {
		if err := s.secondStage(ctx, target, auth, env); err != nil {
			return err
		}
	}
	if err := checkMade(root, tool); err != nil {
		return err
	}
	return s.turnToToday(root, tool)
}

// checkMade refuses what isn't a system, by the one file that all have and no tool writes first:
// such a tree would be cached for all guests to come.
func checkMade(root *os.Root, tool Tool) error {
	users, err := root.ReadFile("etc/passwd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !strings.HasPrefix(string(users), "root:") && !strings.Contains(string(users), "\nroot:") {
		return fmt.Errorf("%s reported no failure, but what it made isn't a system: there is no root in /etc/passwd: install the package %[1]s again, or choose the other tool by BOOTSTRAP", tool.Name)
	}
	return nil
}

// checkTarget refuses a folder with something in it: the tools would mix it
// with the new tree, or fail halfway.
func checkTarget(target string) error {
	entries, err := os.ReadDir(target)
	if err != nil {
		return fmt.Errorf("bootstrap target: %w", err)
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return fmt.Errorf("bootstrap target %s: not empty, it holds %s", target, e.Name())
		}
	}
	return nil
}

// runDebootstrap runs debootstrap, which prints its progress on stdout and the
// reason of a failure only into a log file in the target.
func runDebootstrap(ctx context.Context, tool Tool, spec Spec, target, auth string, env []string) error {
	log := zerolog.Ctx(ctx)
	var why reasons
	out := &command.LineWriter{Keep: 4, Emit: func(line string) {
		log.Info().Str("tool", Debootstrap).Msg(spec.maskText(line))
		why.line(line)
	}}
	if auth != "" {
		env = append(slices.Clone(env), "HOME="+auth)
	}
	// What its wget leaves where it is, goes away there.
	dir := filepath.Join(target, scratchName)
	err := command.Run(ctx, command.Cmd{Args: debootstrapArgs(tool, spec, target), Env: env, Dir: dir, Stdout: out})
	out.Flush()
	if err == nil || ctx.Err() != nil {
		return err
	}
	for _, line := range logTail(target) {
		why.line(line)
	}
	if len(why.own) > 0 {
		return why.of(err)
	}
	lines := slices.DeleteFunc(append(logTail(target), out.Tail()...), isNoise)
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(lines, "; "))
}

// isNoise tells whether a line of debootstrap's says nothing of a failure:
// wget's of a download, gpgv's of a good signature, and the one that points to
// the log, which goes away.
func isNoise(line string) bool {
	for _, part := range []string{" URL:", "gpgv: Signature made", "gpgv:   ", "gpgv: Good signature", "debootstrap.log for details"} {
		if strings.Contains(line, part) {
			return true
		}
	}
	return false
}

// runMmdebstrap runs mmdebstrap with a folder of keys that holds the keyring
// only: apt on this node must not trust the node's other keys for a guest.
func runMmdebstrap(ctx context.Context, tool Tool, spec Spec, target, auth string, env []string) error {
	root, err := os.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	keys, err := makeKeys(ctx, root, tool, target)
	if err != nil {
		return err
	}
	if err := writeReadable(root, scratchName+"/"+fetchScript, []byte(spec.fetchLater(spec.mmRemaining()))); err != nil {
		return fmt.Errorf("prepare to fetch packages: %w", err)
	}
	var why reasons
	silent := beat{target: target}
	stop := silent.start(ctx, Mmdebstrap)
	err = command.Run(ctx, command.Cmd{Args: mmdebstrapArgs(tool, spec, target, auth, keys), Env: env, OneCPU: spec.Scratch && !spec.compiles(), Plain: withoutScript, Line: func(text string) {
		why.line(text)
		silent.line(spec.maskText(text))
	}})
	stop()
	endPrefetch(env)
	if ctx.Err() != nil { // what it said of that is no reason
		return err
	}
	return why.of(err)
}

// makeKeys makes the folder for apt's Dir::Etc::TrustedParts and, where this
// node's apt also reads one file (Dir::Etc::Trusted, gone from apt 3), an empty
// one in its place. It returns the paths for mmdebstrap's --keyring.
func makeKeys(ctx context.Context, root *os.Root, tool Tool, target string) ([]string, error) {
	raw, err := os.ReadFile(tool.Keyring)
	if err != nil {
		return nil, fmt.Errorf("archive keyring: %w", err)
	}
	name := "archive" + keyEnding(raw)
	dir := target + "/" + scratchName
	err = errors.Join(
		root.MkdirAll(scratchName+"/trusted", 0o755),
		root.Chmod(scratchName+"/trusted", 0o755),
		writeReadable(root, scratchName+"/trusted/"+name, raw))
	if err != nil {
		return nil, fmt.Errorf("prepare the archive keyring: %w", err)
	}
	keys := []string{dir + "/trusted"}
	single, err := command.Output(ctx, "apt-config", "shell", "v", "Dir::Etc::Trusted/f")
	if err != nil {
		return nil, err
	}
	if single != "" {
		if err := writeReadable(root, scratchName+"/none.gpg", nil); err != nil {
			return nil, fmt.Errorf("prepare the archive keyring: %w", err)
		}
		keys = append(keys, dir+"/none.gpg")
	}
	return keys, nil
}

// writeReadable writes a file that apt's unprivileged user can read, whatever
// our umask.
func writeReadable(root *os.Root, name string, raw []byte) error {
	return errors.Join(root.WriteFile(name, raw, 0o644), root.Chmod(name, 0o644))
}

// masked is an error whose text must not show a password.
type masked struct {
	error
	spec Spec
}

func (m masked) Error() string { return m.spec.maskText(m.error.Error()) }
func (m masked) Unwrap() error { return m.error }

func (s Spec) mask(err error) error { return masked{err, s} }

// maskText hides the user and password of the mirror and the proxy in a text.
func (s Spec) maskText(text string) string {
	for _, url := range []string{s.Mirror, s.Proxy} {
		_, rest, ok := strings.Cut(url, "://")
		authority, _, _ := strings.Cut(rest, "/")
		at := strings.LastIndexByte(authority, '@')
		if ok && at > 0 {
			text = strings.ReplaceAll(text, authority[:at+1], "xxxxx@")
		}
	}
	return text
}

// exists tells whether there is such a file on the node.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
