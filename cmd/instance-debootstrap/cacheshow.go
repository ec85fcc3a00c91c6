package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/dpkg"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/session"
)

const aKey = "KEY is a name that cache list shows, or the beginning of the key in it, before .tar."

func (p *program) cacheShowCommand(apart func(cli.ActionFunc) cli.ActionFunc) *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "list the packages of an entry, with their versions", ArgsUsage: "KEY", Description: aKey,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "as JSON, with what went into the tree"},
			&cli.BoolFlag{Name: "sbom", Usage: "as a bill of materials (CycloneDX, in JSON)"},
			&cli.BoolFlag{Name: "outdated", Usage: "only those that the archive has in later versions"},
		},
		Action: func(c *cli.Context) error {
			if !c.Bool("outdated") {
				return apart(p.cacheShow)(c)
			}
			return p.sandboxed(c.Context, func(ctx context.Context, s *session.Session) error {
				c.Context = ctx
				return p.cacheOutdated(c, s)
			})
		},
	}
}

func (p *program) cacheDiffCommand(apart func(cli.ActionFunc) cli.ActionFunc) *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "list the packages that two entries don't have in the same version", ArgsUsage: "OLD NEW",
		Description: "OLD and NEW are keys. " + aKey + "\n\nA line begins with + for a package that NEW has only, - for one that OLD has only, and ~ for\none in another version.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action:      apart(p.cacheDiff),
	}
}

func (p *program) cacheShow(c *cli.Context) error {
	if c.NArg() != 1 || c.Bool("json") && c.Bool("sbom") {
		return usagef("cache show: expected KEY, and one of --json and --sbom at most; see %s --help", c.Command.HelpName)
	}
	store, _, err := p.store(c)
	if err != nil {
		return err
	}
	entry, packages, err := store.Show(c.Context, c.Args().First())
	switch {
	case err != nil:
		return err
	case c.Bool("sbom"):
		suite := ""
		if entry.Inputs != nil {
			suite = entry.Inputs.Suite
		}
		return writeBill(os.Stdout, strings.TrimSuffix(filepath.Base(entry.Path), ".tar"), suite, packages)
	case c.Bool("json"):
		return printJSON(struct {
			cache.Listing
			Packages []dpkg.Package `json:"packages"`
		}{entry, packages})
	}
	return printLines(strings.SplitAfter(dpkg.Lines(packages), "\n"))
}

// writeBill writes the bill of materials of a tree, or a guest.
func writeBill(out io.Writer, name, suite string, packages []dpkg.Package) error {
	tree := dpkg.Tree{Name: name, Distribution: "debian", Suite: suite, Tool: paths.Version}
	if slices.ContainsFunc(packages, func(p dpkg.Package) bool { return p.Name == "base-files" && strings.Contains(p.Version, "ubuntu") }) {
		tree.Distribution = "ubuntu"
	}
	return dpkg.WriteBill(out, tree, packages)
}

// cacheOutdated lists what the archive has in later versions than a tree.
func (p *program) cacheOutdated(c *cli.Context, s *session.Session) error {
	if c.NArg() != 1 || c.Bool("sbom") {
		return usagef("cache show: expected KEY, and no --sbom beside --outdated; see %s --help", c.Command.HelpName)
	}
	store, set, err := p.store(c)
	if err != nil {
		return err
	}
	entry, packages, err := store.Show(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	out, err := install.FindOutdated(c.Context, s, set, entry.Suite(), entry.Inputs, packages)
	if err != nil {
		return fmt.Errorf("cache entry %s: %w", entry.Path, err)
	}
	if c.Bool("json") {
		return printJSON(out)
	}
	lines := make([]string, len(out.Outdated))
	for i, p := range out.Outdated {
		lines[i] = fmt.Sprintln(p.Name, p.Version, "->", p.Newest, p.Arch)
	}
	p.tell("%s: %s", filepath.Base(entry.Path), out)
	return printLines(lines)
}

func (p *program) cacheDiff(c *cli.Context) error {
	if c.NArg() != 2 {
		return usagef("cache diff: expected OLD and NEW, got %d arguments; see %s --help", c.NArg(), c.Command.HelpName)
	}
	store, _, err := p.store(c)
	if err != nil {
		return err
	}
	var trees [2][]dpkg.Package
	for i := range trees {
		if _, trees[i], err = store.Show(c.Context, c.Args().Get(i)); err != nil {
			return err
		}
	}
	changes := dpkg.Diff(trees[0], trees[1])
	if c.Bool("json") {
		return printJSON(append([]dpkg.Change{}, changes...))
	}
	lines := make([]string, len(changes))
	for i, d := range changes {
		switch {
		case d.Old == "":
			lines[i] = fmt.Sprintln("+", d.Name, d.New, d.Arch)
		case d.New == "":
			lines[i] = fmt.Sprintln("-", d.Name, d.Old, d.Arch)
		default:
			lines[i] = fmt.Sprintln("~", d.Name, d.Old, "->", d.New, d.Arch)
		}
	}
	return printLines(lines)
}

// printLines prints lines of text from a tree.
func printLines(lines []string) error {
	var b strings.Builder
	for _, line := range lines {
		if line != "" {
			b.WriteString(pattern.Plain(strings.TrimSuffix(line, "\n")) + "\n")
		}
	}
	_, err := os.Stdout.WriteString(b.String())
	return err
}
