package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"instance-debootstrap/pkg/command"
)

// Lists are an archive's lists of packages, as it has them now.
type Lists struct {
	Sources []string  // "URI SUITE COMPONENT…"
	Lacks   []string  // what no archive could be reached of: LacksUpdates, LacksSecurity
	AsOf    time.Time // of the newest Release file; zero is that none told
}

// ReadLists fetches the lists of packages of the suite, its updates and its security archive,
// for the architecture, and has each read. This node's apt fetches them and checks their
// signatures, in dir, an empty folder with room for 300 MiB, and by nothing else of the node
// but the suite's keyring.
func ReadLists(ctx context.Context, spec Spec, dir string, read func(io.Reader) error) (found Lists, err error) {
	spec.Snapshot, spec.ExtraPkgs = Snapshot{}, nil
	if err := errors.Join(spec.check()...); err != nil {
		return found, spec.mask(err)
	}
	if _, err := command.Look("apt-get"); err != nil {
		return found, fmt.Errorf("the archive's lists of packages are read by apt: %w: install the package apt", err)
	}
	tool := Tool{Name: Mmdebstrap, Keyring: spec.Keyring, distribution: spec.distributionOf()}
	if tool.Keyring == "" {
		if tool.Keyring, err = spec.ownKeyring(); err != nil {
			return found, err
		}
	}
	auth, err := spec.passwordFile()
	if auth != "" {
		defer os.RemoveAll(auth)
	}
	if err != nil {
		return found, err
	}
	if found, err = spec.readLists(ctx, tool, dir, auth, read); err != nil {
		return Lists{}, spec.mask(fmt.Errorf("the archive's lists of packages of %s: %w", spec.Suite, err))
	}
	return found, nil
}

func (s Spec) readLists(ctx context.Context, tool Tool, dir, auth string, read func(io.Reader) error) (found Lists, err error) {
	sources, lacks, err := s.sources(ctx, tool, auth)
	if err != nil {
		return found, err
	}
	found.Lacks, found.AsOf = lacks, asOf(sources)
	theirs, _ := s.ownKeyring()
	keys := signers{site: true, own: tool.Keyring, other: tool.Keyring}
	if s.Keyring != "" && theirs != "" {
		keys.other = theirs + "," + s.Keyring
	}
	for _, source := range sources {
		found.Sources = append(found.Sources, strings.Join(append([]string{source.URI, source.Suite}, source.Components...), " "))
	}
	config := `Dir "` + dir + `/"; Dir::State::status "` + dir + `/status"; APT::Architecture "` + s.arch() + `"; APT::Architectures "` + s.arch() + `";
Acquire::Languages "none"; Acquire::GzipIndexes "false"; Acquire::PDiffs "false"; APT::Sandbox::User "root"; APT::Update::Error-Mode "any";
Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";
`
	if !s.RefuseExpired { // sources has warned
		config += "Acquire::Check-Valid-Until \"false\";\n"
	}
	if auth != "" {
		config += netrc(auth) + ";\n"
	}
	for _, folder := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, folder), 0o755))
	}
	for name, text := range map[string]string{"apt.conf": config, "status": "", sourcesList: oneLine(sources, keys)} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	if err != nil {
		return found, err
	}
	env := []string{"APT_CONFIG=" + dir + "/apt.conf"}
	if s.HTTPProxy != "" {
		env = append(env, "http_proxy="+s.HTTPProxy)
	}
	var why reasons
	if err := command.Run(ctx, command.Cmd{Args: []string{"apt-get", "-q", "update"}, Env: env, Quiet: true, Line: why.line}); err != nil {
		return found, why.of(err)
	}
	lists, err := filepath.Glob(filepath.Join(dir, "var/lib/apt/lists/*_Packages"))
	for _, list := range lists {
		err = errors.Join(err, readFile(list, read))
	}
	if err == nil && len(lists) == 0 {
		err = fmt.Errorf("%s has none for %s: set MIRROR to an archive that has this architecture", sources[0].URI, s.arch())
	}
	return found, err
}

func readFile(path string, read func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return read(f)
}
