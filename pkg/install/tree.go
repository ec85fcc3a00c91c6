package install

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/boot"
	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// bootstrapSpec says which tree is wanted.
func (c Choice) bootstrapSpec() bootstrap.Spec {
	s := c.Settings
	return bootstrap.Spec{
		Tool: s.Bootstrap, Suite: s.Suite, Arch: c.Arch, Mirror: s.Mirror, Proxy: s.Proxy,
		Components: s.Components, ExtraPkgs: c.treePackages(), Files: c.treeFiles(),
		SuitePkgs: c.suitePackages(), Security: s.SecurityMirror, Keyring: s.Keyring, MoreSources: len(c.sources) > 0, RefuseExpired: s.RefuseExpired,
		Snapshot: bootstrap.Snapshot{Moment: s.Snapshot, Mirror: s.SnapshotMirror},
	}
}

// treeFiles come into the tree before its packages.
func (c Choice) treeFiles() map[string]string {
	files := maps.Clone(c.sources)
	if c.Boot.Loader == "" {
		return files
	}
	if files == nil {
		files = map[string]string{}
	}
	maps.Copy(files, boot.TreeFiles())
	return files
}

// cacheInputs is all that goes into the tree, and so into its key.
func (c Choice) cacheInputs() cache.Inputs {
	if c.recorded != nil {
		return *c.recorded
	}
	s := c.Settings
	in := cache.Inputs{
		Suite: s.Suite, Arch: c.Arch, Mirror: bootstrap.PublicURL(s.Mirror), Components: s.Components, ExtraPkgs: c.treePackages(), Files: keyText(c.treeFiles()),
		Security: s.SecurityMirror, SiteKeys: s.Keyring != "",
		RefuseExpired: s.RefuseExpired, Bus: c.unusualBus(), Bootstrapped: !s.DeriveTrees,
		Tool: c.Tool.Name, ToolVersion: c.Tool.Version, Keyring: c.Tool.KeyringSHA256,
	}
	if s.Snapshot != "" {
		in.Snapshot, in.SnapshotMirror = s.Snapshot, s.SnapshotMirror
	}
	return in
}

// keyText stands for files in a key, which takes text: of others, such as keys for
// apt, it is their digest.
func keyText(files map[string]string) map[string]string {
	out := maps.Clone(files)
	for name, content := range out {
		if !utf8.ValidString(content) {
			out[name] = fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
		}
	}
	return out
}

// Store is the cache of trees, for who only looks into it.
func (o *Order) Store() cache.Store {
	s := o.Settings
	return cache.Store{
		Dir: s.CacheDir, LockDir: paths.LockDir, MaxAgeDays: s.CleanCacheDays, StaleOK: s.CacheStaleOK, MaxBytes: s.CacheMaxBytes,
		Generate: s.GenerateCache, Derive: s.DeriveTrees, Strict: o.StrictFiles(), Owner: o.Request.InstanceName,
	}
}

// storeFor is the cache of trees for a run.
func (c Choice) storeFor(s *session.Session) cache.Store {
	store := c.Store()
	store.Told = c.told
	store.Unreachable = func(ctx context.Context) bool { return c.isOutOfReach(ctx, s) }
	return store
}

// prepareTree takes the tree from the cache, or builds it there first. With
// GENERATE_CACHE other than yes and nothing cached there is no tree yet (nil): the
// guest is then bootstrapped straight onto its disk.
//
// Where a guest that boots is wanted only if it can be had, and the suite has no kernel
// or GRUB for the architecture, the tree is built without, which the choice then says.
// Whatever else keeps a tree from being made or used ends the create: a guest without a
// kernel is no answer to it.
func prepareTree(ctx context.Context, s *session.Session, c Choice) (*cache.Entry, Choice, error) {
	switch {
	case c.failure != nil:
		tell.Warn(ctx, noBoot, c.whyNoBoot)
	case c.Boot.Loader == "":
		tell.Info(ctx, noBoot, c.whyNoBoot)
	}
	tree, err := getTree(ctx, s, c)
	if err == nil || c.Boot.Loader == "" || c.NoTool != nil || c.mustBoot() || !c.lacksBootPackage(err) {
		return tree, c, err
	}
	failure, why := c.failureFile(), err
	c = c.withoutBoot(ctx, why)
	if tree, err = getTree(ctx, s, c); err != nil {
		return nil, c, err
	}
	if err := rememberFailure(failure, why); err != nil {
		tell.Warn(ctx, "the next create will try that again: %v", err)
	}
	return tree, c, nil
}

// getTree takes the tree from the cache, or builds it there first; nil is that there is
// none, and the guest's disk is where it is to be built.
func getTree(ctx context.Context, s *session.Session, c Choice) (*cache.Entry, error) {
	tree, err := c.storeFor(s).Get(ctx, c.cacheInputs(), c.builder(s))
	if errors.Is(err, cache.ErrNoEntry) {
		if c.NoTool != nil {
			return nil, c.NoTool
		}
		return nil, rehearse(ctx, s, c)
	}
	if err != nil {
		return nil, err
	}
	s.Defer("close "+tree.Path, func(context.Context) error { return tree.Close() })
	if err := checkAdminsTree(tree); err != nil {
		return nil, err
	}
	zerolog.Ctx(ctx).Info().Str("source", tree.Source).Msg("root tree: " + tree.Path)
	if lacks := tree.Lacks; len(lacks) > 0 {
		tell.Warn(ctx, "the guest is made of %s, %s", tree.Path, incompleteTree(lacks))
	}
	if set := c.Settings; tree.Key == "" && (len(set.ExtraPkgs) > 0 || len(set.Components) > 0 || set.Mirror != "" || set.Snapshot != "") {
		tell.Warn(ctx, "%s is used as it is: EXTRA_PKGS, COMPONENTS, MIRROR, SECURITY_MIRROR, SNAPSHOT, EXTRA_SOURCES, KERNEL_PKG and GUEST_SERVICES are not looked at; remove it to have a tree built by them", tree.Path)
	}
	return tree, nil
}

// checkAdminsTree refuses an admin's own tar that is no root filesystem.
func checkAdminsTree(tree *cache.Entry) error {
	if tree.Key == "" && !tree.HasEtc {
		return fmt.Errorf("cache entry %s, which an admin put there, holds no root filesystem, or one that lies in a folder: there is no /etc at its top (tar -C FOLDER -cf FILE . writes one that has it)", tree.Path)
	}
	return nil
}

// incompleteTree says what it means that a tree in the cache lacks something, and what
// to do.
func incompleteTree(lacks []string) string {
	return "which was built without " + strings.Join(lacks, " and ") + " since no archive of them could be reached: from its second day on a create asks for them again, once a day; " +
		"set SECURITY_MIRROR, to none where that is meant; without the file the next create tries at once"
}

// rehearsalBytes bounds what apt's lists of packages take in memory.
const rehearsalBytes = 1 << 30

// rehearse has the bootstrap tool look whether it can make the tree, where that is made
// on the disk itself: what can be known before the disk is touched is known then.
func rehearse(ctx context.Context, s *session.Session, c Choice) error {
	mark := s.Mark()
	dir, err := mount(s, nil, scratchName, func(dir string) error { return filesystem.MountMemory(dir, rehearsalBytes) })
	if err == nil {
		spec := c.bootstrapSpec()
		spec.WorkDir = s.WorkDir
		err = c.blameServices(bootstrap.Rehearse(ctx, c.Tool, spec, dir))
	}
	return errors.Join(err, s.UndoTo(ctx, mark))
}

// builder makes trees for the cache: of one that is there and has a part of the packages,
// or else from the archive alone.
func (c Choice) builder(s *session.Session) cache.Build {
	return func(ctx context.Context, out *os.File, base *cache.Entry) (made cache.Made, err error) {
		if c.NoTool != nil {
			return made, c.NoTool
		}
		if base != nil && c.canDerive() {
			made.DerivedFrom = &base.Origin
			tell.Info(ctx, "making the tree from a copy of %s", base.Path)
			err = buildTree(ctx, s, c, out, func(ctx context.Context, dir string) (bootstrap.Made, error) {
				return deriveInto(ctx, s, c, base, dir)
			})
			if err == nil || context.Cause(ctx) != nil || errors.Is(err, errScratchStays) {
				return made, err
			}
			if len(bootstrap.Lacking(err, c.treePackages())) > 0 { // of the same archives a bootstrap would say so in the end
				return made, c.blameServices(err)
			}
			say := tell.Warn
			if errors.Is(err, bootstrap.ErrNotExtendable) {
				say = tell.Info
			}
			say(ctx, "it is bootstrapped, and not made from %s: %v", base.Path, err)
			if err := empty(out); err != nil {
				return made, err
			}
		}
		made = cache.Made{}
		anew := func() error {
			return buildTree(ctx, s, c, out, func(ctx context.Context, dir string) (bootstrap.Made, error) {
				tree, err := bootstrapInto(ctx, s, c, dir, true)
				made.Lacks = tree.Lacks
				return tree, err
			})
		}
		if err = anew(); errors.Is(err, errKeptPackages) {
			tell.Warn(ctx, "once more, with what it was given fetched anew: %v", err)
			if err = empty(out); err == nil {
				err = anew()
			}
		}
		return made, err
	}
}

// canDerive tells whether the tree's own apt can reach the archive, and by the base system
// that the base has.
func (c Choice) canDerive() bool {
	mirror := c.Settings.Mirror
	return !bootstrap.ReplacesInit(c.treePackages()) && !c.Settings.RefuseExpired && (mirror == "" || strings.HasPrefix(mirror, "http"))
}

func empty(f *os.File) error {
	_, err := f.Seek(0, 0)
	return errors.Join(f.Truncate(0), err)
}

// errScratchStays says that a scratch can't be given up.
var errScratchStays = errors.New("the scratch stays")

// endScratch gives up what was made since the mark.
func endScratch(ctx context.Context, s *session.Session, mark int) error {
	if err := s.UndoTo(ctx, mark); err != nil {
		return fmt.Errorf("%w: %w", errScratchStays, err)
	}
	return nil
}

// filler makes a tree in a folder.
type filler func(ctx context.Context, dir string) (bootstrap.Made, error)

// buildTree has a tree made on a scratch, and packs it.
func buildTree(ctx context.Context, s *session.Session, c Choice, out *os.File, fill filler) error {
	mark := s.Mark()
	dir, err := mountMemory(s)
	if err == nil && dir != "" {
		err = errors.Join(buildTreeIn(ctx, s, c, dir, out, fill), endScratch(ctx, s, mark))
		if !errors.Is(err, errScratchFull) || context.Cause(ctx) != nil {
			return err
		}
		tell.Info(ctx, "building the tree again, on the disk: %v", err)
		if err := empty(out); err != nil {
			return err
		}
	}
	if err := errors.Join(err, s.UndoTo(ctx, mark)); err != nil {
		tell.Warn(ctx, "no scratch in memory: %v", err)
	}
	if dir, err = mountScratch(ctx, s, c.Settings.CacheDir); err != nil {
		err = fmt.Errorf("scratch in %s: %w", c.Settings.CacheDir, err)
	} else {
		err = buildTreeIn(ctx, s, c, dir, out, fill)
	}
	return errors.Join(err, endScratch(ctx, s, mark))
}

func buildTreeIn(ctx context.Context, s *session.Session, c Choice, dir string, out *os.File, fill filler) error {
	tree, err := fill(ctx, dir)
	if err == nil {
		err = s.EndStrays(ctx, dir)
	}
	if err == nil {
		err = cache.Pack(ctx, dir, out, tree.AsOf)
	}
	if err != nil {
		return blameFullCache(err, dir, c.Settings.CacheDir)
	}
	return nil
}

// deriveInto makes the tree in a folder of another, by adding packages.
func deriveInto(ctx context.Context, s *session.Session, c Choice, base *cache.Entry, dir string) (made bootstrap.Made, err error) {
	if err := base.Unpack(ctx, dir); err != nil {
		return made, err
	}
	err = c.fetching(ctx, s, func(spec bootstrap.Spec) (err error) {
		spec.Scratch = true
		made, err = bootstrap.Extend(ctx, c.Tool, spec, dir)
		return err
	})
	if err != nil {
		return made, err
	}
	return made, c.prepareBoot(ctx, dir)
}

// bootstrapInto makes the tree in a folder, which is of a scratch filesystem or of the guest's.
func bootstrapInto(ctx context.Context, s *session.Session, c Choice, dir string, scratch bool) (made bootstrap.Made, err error) {
	err = c.fetching(ctx, s, func(spec bootstrap.Spec) (err error) {
		spec.Scratch = scratch
		made, err = bootstrap.Run(ctx, c.Tool, spec, dir)
		return err
	})
	if err != nil {
		return made, c.blameServices(err)
	}
	return made, c.prepareBoot(ctx, dir)
}

// prepareBoot makes a new tree ready for guests that boot.
func (c Choice) prepareBoot(ctx context.Context, dir string) error {
	if c.Boot.Loader == "" {
		return nil
	}
	if err := boot.PrepareTree(ctx, dir); err != nil {
		return err
	}
	return c.checkInitramfs(ctx, dir)
}
