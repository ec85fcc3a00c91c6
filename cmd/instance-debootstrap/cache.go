package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/settings"
)

func (p *program) cacheCommand() *cli.Command {
	return &cli.Command{
		Name:         "cache",
		Usage:        "look after the cached root trees",
		OnUsageError: usageFault,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the entries, with size, age and what went into them", OnUsageError: usageFault, Action: p.cacheList},
			{Name: "verify", Usage: "read every entry and compare it with its digest", OnUsageError: usageFault, Action: p.cacheVerify},
		},
	}
}

// store opens the cache that the settings file names.
func (p *program) store(c *cli.Context) (cache.Store, error) {
	if err := exactArgs(c, 0, "no argument"); err != nil {
		return cache.Store{}, err
	}
	set, err := settings.Load(c.Context, p.sources(c.Context, &osapi.Request{APIVersion: 20, Environ: os.Environ()}))
	if err != nil {
		return cache.Store{}, err
	}
	return cache.Store{Dir: set.CacheDir, LockDir: paths.LockDir, MaxAgeDays: set.CleanCacheDays, Generate: set.GenerateCache}, nil
}

func (p *program) cacheList(c *cli.Context) error {
	store, err := p.store(c)
	if err != nil {
		return err
	}
	entries, err := store.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMiB\tAGE\tSTATE\tTREE")
	for _, e := range entries {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", filepath.Base(e.Path), e.SizeBytes>>20, age(e.ModTime), e.State, describeInputs(e.Inputs))
	}
	return w.Flush()
}

func age(t time.Time) string {
	d := time.Since(t)
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func (p *program) cacheVerify(c *cli.Context) error {
	store, err := p.store(c)
	if err != nil {
		return err
	}
	results, err := store.Verify(c.Context)
	errs := []error{err}
	for _, r := range results {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(r.Path), r.Err))
			continue
		}
		fmt.Println(filepath.Base(r.Path) + ": ok")
	}
	return errors.Join(errs...)
}

// describeInputs says in a few words what went into an entry.
func describeInputs(in *cache.Inputs) string {
	if in == nil {
		return "the admin's own"
	}
	words := []string{in.Suite + "/" + in.Arch, "by " + in.Tool + " " + in.ToolVersion}
	if len(in.ExtraPkgs) > 0 {
		words = append(words, "with "+strings.Join(in.ExtraPkgs, ","))
	}
	return strings.Join(words, " ")
}
