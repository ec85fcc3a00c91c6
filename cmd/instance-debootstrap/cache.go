package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

func (p *program) cacheCommand() *cli.Command {
	asJSON := &cli.BoolFlag{Name: "json", Usage: "as JSON"}
	force := &cli.BoolFlag{Name: "force", Usage: "replace what is there"}
	apart := func(action cli.ActionFunc) cli.ActionFunc {
		return func(c *cli.Context) error {
			return p.apart(c.Context, func(ctx context.Context, _ *session.Session) error { c.Context = ctx; return action(c) })
		}
	}
	return &cli.Command{
		Name:  "cache",
		Usage: "look after the cached root trees",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the entries, with size, age and what went into them", Flags: []cli.Flag{asJSON}, Action: apart(p.cacheList)},
			{Name: "verify", Usage: "read every entry and compare it with its digest", Action: apart(p.cacheVerify)},
			p.cacheShowCommand(apart),
			p.cacheDiffCommand(apart),
			p.cacheWarmCommand(),
			{
				Name: "prune", Usage: "remove what is expired, set aside as damaged, or left over, and what CACHE_MAX_SIZE has no room for", Action: apart(p.cachePrune),
				Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "only tell"}, asJSON},
			},
			{
				Name: "export", Usage: "write an entry, for another node's import, to stdout or a new file", ArgsUsage: "KEY [FILE]", Action: p.cacheExport,
				Description: "KEY is as for cache show.",
			},
			{
				Name: "import", Usage: "put an exported entry, or a tar of a tree of your own, into the cache", ArgsUsage: "TAR", Action: p.cacheImport,
				Description: "TAR may be - for stdin. A tree of your own becomes cache-SUITE-ARCH.tar.",
				Flags: []cli.Flag{&cli.StringFlag{Name: "suite", Usage: "`SUITE` of a tree of your own"},
					&cli.StringFlag{Name: "arch", Usage: "`ARCH` of a tree of your own; the node's unless given"}, force},
			},
			p.cacheSyncCommand(),
			p.cachePullCommand(),
			p.cacheReceiveCommand(),
			p.cacheSendCommand(),
		},
	}
}

// store opens the cache that the settings file names.
func (p *program) store(c *cli.Context) (cache.Store, *settings.Settings, error) {
	ctx, stop := session.WithSignals(c.Context) // so that what the files have started ends as well
	defer stop()
	set, err := settings.Load(ctx, p.sources(ctx, &osapi.Request{APIVersion: 20, Environ: os.Environ()}))
	if err != nil {
		return cache.Store{}, nil, err
	}
	return cache.Store{
		Dir: set.CacheDir, LockDir: paths.LockDir, MaxAgeDays: set.CleanCacheDays, Generate: true, MaxBytes: set.CacheMaxBytes, Strict: set.SharedFiles == "refuse", Told: map[string]bool{},
	}, set, nil
}

func (p *program) cacheList(c *cli.Context) error {
	store, _, err := p.store(c)
	if err != nil {
		return err
	}
	entries, err := store.List()
	if err != nil {
		return err
	}
	if _, err := os.Stat(store.Dir); err != nil { // it is made when it is needed
		p.tell("the cache %s doesn't exist yet", store.Dir)
	}
	if c.Bool("json") {
		return printJSON(append([]cache.Listing{}, entries...))
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMiB\tIMAGES MiB\tAGE\tUSED\tSTATE\tTREE")
	for _, e := range entries {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\n", filepath.Base(e.Path), e.SizeBytes>>20, e.ImageBytes>>20, age(e.ModTime), age(e.LastUsed), state(e), describeInputs(e))
	}
	if count, bytes := store.Kept(); count > 0 {
		fmt.Fprintf(w, "packages\t%d\t\t\t\t\t%d packages and their lists, for further trees\n", bytes>>20, count)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if slices.ContainsFunc(entries, func(e cache.Listing) bool { return e.State == cache.StateUnchecked }) {
		return fmt.Errorf("what went into the trees of %s is only root's to read: run it as root", store.Dir)
	}
	return nil
}

func printJSON(v any) error { return writeJSON(os.Stdout, v) }

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// state says in a few words how an entry is.
func state(e cache.Listing) string {
	words := []string{e.State}
	for _, w := range []struct {
		is   bool
		word string
	}{{e.Expired, "expired"}, {e.Protected, "read-only"}, {e.InUse, "in use"}, {len(e.Lacks) > 0, "without " + strings.Join(e.Lacks, " and ")}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}

func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	switch d := time.Since(t); {
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

func (p *program) cacheVerify(c *cli.Context) error {
	store, _, err := p.store(c)
	if err != nil {
		return err
	}
	var results []cache.Result
	err = p.watch("reading "+store.Dir+" ", func() (err error) { results, err = store.Verify(c.Context); return err })
	errs := []error{err}
	for _, r := range results {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(r.Path), r.Err))
			continue
		}
		verdict := "ok"
		if r.State == cache.StateEdited {
			verdict = "a whole tar, but not what was published: somebody has edited it"
		}
		fmt.Println(filepath.Base(r.Path) + ": " + verdict)
	}
	return errors.Join(errs...)
}

// describeInputs says in a few words what went into an entry.
func describeInputs(e cache.Listing) string {
	in := e.Inputs
	switch {
	case in == nil && e.State == cache.StateUnchecked:
		return "?"
	case in == nil:
		return "the admin's own"
	}
	suite := in.Suite + "/" + in.Arch
	if all := strings.Join(in.Components, ","); all != "" && all != "main" {
		suite += " " + pattern.Plain(all)
	}
	if in.Snapshot != "" {
		suite += " of " + pattern.Plain(settings.ShowSnapshot(in.Snapshot))
	}
	words := []string{suite, "by " + pattern.Plain(in.Tool) + " " + pattern.Plain(in.ToolVersion)} // an import brings them
	if len(in.ExtraPkgs) > 0 {
		words = append(words, "with "+pattern.Plain(strings.Join(in.ExtraPkgs, ",")))
	}
	return strings.Join(words, " ")
}

func (p *program) cachePrune(c *cli.Context) error {
	store, _, err := p.store(c)
	if err != nil {
		return err
	}
	gone, err := store.Prune(c.Context, c.Bool("dry-run"))
	if c.Bool("json") {
		return errors.Join(printJSON(append([]cache.Garbage{}, gone...)), err)
	}
	for _, g := range gone {
		fmt.Printf("%s: %s, %d MiB\n", filepath.Base(g.Path), g.Why, g.Bytes>>20)
	}
	if err == nil && len(gone) == 0 {
		p.tell("the cache %s has nothing to remove", store.Dir)
	}
	return err
}

func (p *program) cacheExport(c *cli.Context) error {
	if n := c.NArg(); n != 1 && n != 2 {
		return usagef("cache export: expected KEY and perhaps FILE, got %d arguments; see %s --help", n, c.Command.HelpName)
	}
	store, _, err := p.store(c)
	if err != nil {
		return err
	}
	if c.NArg() == 1 {
		if term.IsTerminal(int(os.Stdout.Fd())) {
			return usagef("cache export: stdout is a terminal: name a FILE, or redirect it")
		}
		return store.Export(c.Context, c.Args().First(), os.Stdout)
	}
	path := c.Args().Get(1)
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already: name a new file, or remove it", path)
	}
	file, err := blockdev.MakeImage(path, 0)
	if err != nil {
		return err
	}
	if err = store.Export(c.Context, c.Args().First(), file.File()); err == nil {
		err = file.Publish()
	}
	return errors.Join(err, file.Close())
}

func (p *program) cacheImport(c *cli.Context) error {
	store, set, err := p.store(c)
	if err != nil {
		return err
	}
	how := cache.Incoming{Suite: c.String("suite"), Arch: c.String("arch"), Force: c.Bool("force")}
	if how.Arch == "" {
		if how.Arch, err = install.GuestArch(c.Context, set); err != nil {
			return err
		}
	}
	in, name := io.ReadCloser(os.Stdin), c.Args().First()
	if name == "-" {
		name = "stdin"
	} else if in, err = os.Open(name); err != nil {
		return err
	}
	defer in.Close()
	path, err := store.Import(c.Context, in, how)
	if errors.Is(err, cache.ErrSame) {
		p.tell("%s: the cache has this very tree already: nothing was done", name)
	} else if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Println(path)
	return nil
}

func (p *program) cacheWarmCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.StringSliceFlag{Name: "variant", Usage: "settings `VARIANT`, may be given more than once; none unless given"},
		&cli.BoolFlag{Name: "all", Usage: "every variant of variants.list"},
		&cli.BoolFlag{Name: "expired", Usage: "build anew what is past its age (CLEAN_CACHE), and nothing else"},
		&cli.StringFlag{Name: "disk-size", Value: "10G", Usage: "`SIZE` of the disks to come, for the filesystem image"},
	}
	for _, name := range []string{"suite", "arch", "mirror", "snapshot", "components", "extra-pkgs", "partition-style", "filesystem", "layout", "bootstrap"} {
		flags = append(flags, &cli.StringFlag{Name: name, Usage: installParams[name]})
	}
	return &cli.Command{
		Name:  "warm",
		Usage: "build root trees ahead of need, from what a create under KVM would have",
		Description: "Old trees are built anew while creates go on using them; a build that fails leaves\n" +
			"them as they are. An archive of updates that was out of reach makes its tree old after a\nday, whatever CLEAN_CACHE says.\n\n" +
			"With --expired, and no variant or tree named, trees of further parameters, as of\n-O extra_pkgs=nginx, are renewed from what is noted down of them, if a create has used them\nsince they were made.",
		Flags: flags,
		Action: func(c *cli.Context) error {
			if c.Bool("all") && c.IsSet("variant") {
				return usagef("cache warm: --all is every variant: leave out --variant")
			}
			size, err := parseSize("--disk-size", c.String("disk-size"))
			if err != nil {
				return err
			}
			w := install.Warming{DiskBytes: size, ExpiredOnly: c.Bool("expired")}
			return p.watched(c.Context, func(ctx context.Context, s *session.Session) error { return p.warm(ctx, s, c, w) })
		},
	}
}

// warm makes the trees of the variants one after another; one that fails does not
// stop the others.
func (p *program) warm(ctx context.Context, s *session.Session, c *cli.Context, w install.Warming) error {
	variants := c.StringSlice("variant")
	if c.Bool("all") {
		var err error
		if variants, err = listedVariants(); err != nil {
			return err
		}
	}
	if len(variants) == 0 {
		variants = []string{""}
	}
	began, count := time.Now(), map[string]int{}
	caches, keys := map[string]*install.Order{}, map[string][]string{}
	var faults []error
	for _, variant := range variants {
		in := installation{name: "warm", variant: variant, params: params(c)}
		req, err := in.request(osapi.Create, os.DevNull)
		order, err := p.orderFor(ctx, req, err)
		if err == nil && s.WantsHostNamespace(order.Settings.Namespace) {
			return session.ErrWantsHost
		}
		if err == nil {
			var did install.Warmed
			if did, err = install.Warm(ctx, s, order, w); err == nil {
				count[did.Did]++
			}
			dir := order.Settings.CacheDir
			caches[dir], keys[dir] = order, append(keys[dir], did.Key)
		}
		if err != nil && variant != "" && !strings.HasPrefix(err.Error(), "variant "+variant) {
			err = fmt.Errorf("variant %s: %w", variant, err)
		}
		faults = append(faults, err)
		if context.Cause(ctx) != nil {
			break
		}
	}
	for dir, order := range caches {
		if !w.ExpiredOnly || context.Cause(ctx) != nil || c.IsSet("variant") || len(params(c)) > 0 {
			break
		}
		renewed, err := install.RenewOthers(ctx, s, order, keys[dir])
		count["renewed"] += renewed
		faults = append(faults, err)
	}
	err := errors.Join(faults...)
	if err == nil {
		p.done(fmt.Sprintf("trees made: %d, renewed: %d, as they were: %d, in %.1f s", count["made"], count["renewed"], count["was there"], time.Since(began).Seconds()))
	}
	return err
}

func listedVariants() (names []string, err error) {
	text, err := os.ReadFile(paths.VariantsList())
	for line := range strings.Lines(string(text)) {
		if name := strings.TrimSpace(line); name != "" && !strings.HasPrefix(name, "#") {
			names = append(names, name)
		}
	}
	return names, err
}
