package debootstrap

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
)

// bootstrapSpec says which tree is wanted.
func (j *Job) bootstrapSpec() bootstrap.Spec {
	s := j.Settings
	return bootstrap.Spec{
		Tool: s.Bootstrap, Suite: s.Suite, Arch: j.arch, Mirror: s.Mirror, Proxy: s.Proxy,
		Components: s.Components, ExtraPkgs: j.treePackages(), Files: j.treeFiles(),
		SuitePkgs: j.suitePackages(), Security: s.SecurityMirror, Keyring: s.Keyring, MoreSources: len(j.moreSources) > 0, RefuseExpired: s.RefuseExpired,
	}
}

// treeFiles come into the tree before its packages.
func (j *Job) treeFiles() map[string]string {
	files := maps.Clone(j.moreSources)
	if j.boot.Loader == "" {
		return files
	}
	if files == nil {
		files = map[string]string{}
	}
	maps.Copy(files, boot.TreeFiles())
	return files
}

// cacheInputs is all that goes into the tree, and so into its key.
func (j *Job) cacheInputs() cache.Inputs {
	s := j.Settings
	return cache.Inputs{
		Suite: s.Suite, Arch: j.arch, Mirror: bootstrap.PublicURL(s.Mirror), Components: s.Components, ExtraPkgs: j.treePackages(), Files: keyText(j.treeFiles()),
		Security: s.SecurityMirror, SiteKeys: s.Keyring != "",
		RefuseExpired: s.RefuseExpired, Bus: j.unusualBus(),
		Tool: j.tool.Name, ToolVersion: j.tool.Version, Keyring: j.tool.KeyringSHA256,
	}
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

func (j *Job) store() cache.Store {
	s := j.Settings
	return cache.Store{
		Dir: s.CacheDir, LockDir: paths.LockDir, MaxAgeDays: s.CleanCacheDays, StaleOK: s.CacheStaleOK, MaxBytes: s.CacheMaxBytes,
		Generate: s.GenerateCache, Strict: j.strictFiles(), Owner: j.Request.InstanceName, Told: j.told, Unreachable: j.isOutOfReach,
	}
}

// chooseTool finds the guest's architecture, the bootstrap tool and how the guest
// is to boot. A node
// without such a tool can still install from a tree in the cache: the error
// then waits until one has to be built.
func (j *Job) chooseTool(ctx context.Context) (toolErr, err error) {
	if j.arch, err = GuestArch(ctx, j.Settings); err != nil {
		return nil, err
	}
	var sourcesErr, keyringErr error
	j.moreSources, sourcesErr = moreSources(ctx, j.Settings)
	if j.Settings.Keyring != "" {
		if _, keyringErr = trustedKeys(j.Settings.Keyring, j.strictFiles()); keyringErr != nil {
			keyringErr = fmt.Errorf("KEYRING: %w", keyringErr)
		}
	}
	if err := errors.Join(sourcesErr, keyringErr); err != nil {
		return nil, err
	}
	j.tool, toolErr = bootstrap.Choose(ctx, j.bootstrapSpec())
	return toolErr, j.chooseBoot()
}

// treeIsCached tells plan where the tree comes from.
func (j *Job) treeIsCached(ctx context.Context) string {
	toolErr, err := j.chooseTool(ctx)
	if err != nil {
		return err.Error()
	}
	if path := j.store().Peek(j.cacheInputs()); path != "" {
		text := "cached in " + path
		if lacks := j.store().Lacks(path); len(lacks) > 0 {
			text += ", " + incompleteTree(lacks)
		}
		return text
	}
	if toolErr != nil {
		return toolErr.Error()
	}
	return "not in the cache yet: to be built by " + j.tool.Name
}

// prepareTree takes the tree from the cache, or builds it there first. With
// GENERATE_CACHE other than yes and nothing cached there is no tree yet: the
// guest is then bootstrapped straight onto its disk.
//
// Where a guest that boots is wanted only if it can be had, and the suite has no kernel
// or GRUB for the architecture, the tree is built without. Whatever else keeps a tree
// from being made or used ends the create: a guest without a kernel is no answer to it.
func (j *Job) prepareTree(ctx context.Context) error {
	toolErr, err := j.chooseTool(ctx)
	if err != nil {
		return err
	}
	if j.boot.Loader == "" {
		info(ctx, "the guest gets no kernel and no boot loader: %s", j.boot.why)
		return j.getTree(ctx, toolErr)
	}
	if known := j.knownFailure(); known != nil {
		j.dropBoot(ctx, known)
		return j.getTree(ctx, toolErr)
	}
	err = j.getTree(ctx, toolErr)
	if err == nil || toolErr != nil || j.mustBoot() || !j.lacksBootPackage(err) {
		return err
	}
	failure := j.failureFile()
	j.dropBoot(ctx, err)
	if err := j.getTree(ctx, nil); err != nil {
		return err
	}
	if err := j.rememberFailure(failure, err); err != nil {
		warn(ctx, "the next create will try that again: %v", err)
	}
	return nil
}

// getTree takes the tree from the cache, or builds it there first.
func (j *Job) getTree(ctx context.Context, toolErr error) (err error) {
	j.tree, err = j.store().Get(ctx, j.cacheInputs(), func(ctx context.Context, out *os.File) ([]string, error) {
		if toolErr != nil {
			return nil, toolErr
		}
		return j.buildTree(ctx, out)
	})
	if errors.Is(err, cache.ErrNoEntry) {
		if toolErr != nil {
			return toolErr
		}
		return j.rehearse(ctx)
	}
	if err != nil {
		return err
	}
	tree := j.tree
	j.session.Defer("close "+tree.Path, func(context.Context) error { return tree.Close() })
	if j.tree.Key == "" && !j.tree.HasEtc {
		return fmt.Errorf("cache entry %s, which an admin put there, holds no root filesystem, or one that lies in a folder: there is no /etc at its top (tar -C FOLDER -cf FILE . writes one that has it)", j.tree.Path)
	}
	zerolog.Ctx(ctx).Info().Str("source", j.tree.Source).Msg("root tree: " + j.tree.Path)
	if lacks := j.tree.Lacks; len(lacks) > 0 {
		warn(ctx, "the guest is made of %s, %s", j.tree.Path, incompleteTree(lacks))
	}
	if s := j.Settings; j.tree.Key == "" && (len(s.ExtraPkgs) > 0 || len(s.Components) > 0 || s.Mirror != "") {
		zerolog.Ctx(ctx).Warn().Msgf("%s is used as it is: EXTRA_PKGS, COMPONENTS, MIRROR, SECURITY_MIRROR, EXTRA_SOURCES, KERNEL_PKG and GUEST_SERVICES are not looked at; remove it to have a tree built by them", j.tree.Path)
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
func (j *Job) rehearse(ctx context.Context) error {
	mark := j.session.Mark()
	dir, err := j.mount(ctx, scratchName, func(dir string) error { return filesystem.MountMemory(dir, rehearsalBytes) })
	if err == nil {
		spec := j.bootstrapSpec()
		spec.WorkDir = j.session.WorkDir
		err = j.blameServices(bootstrap.Rehearse(ctx, j.tool, spec, dir))
	}
	return errors.Join(err, j.undoTo(ctx, mark))
}

// buildTree bootstraps onto a scratch and packs the result. What the tree lacks is
// returned as bootstrap.Run tells it.
func (j *Job) buildTree(ctx context.Context, out *os.File) (lacks []string, err error) {
	mark := j.session.Mark()
	dir, err := j.mountMemory(ctx)
	if err == nil && dir != "" {
		lacks, err = j.buildTreeIn(ctx, dir, out)
		err = errors.Join(err, j.undoTo(ctx, mark))
		if !errors.Is(err, errScratchFull) || context.Cause(ctx) != nil {
			return lacks, err
		}
		info(ctx, "building the tree again, on the disk: %v", err)
		if err := out.Truncate(0); err != nil {
			return nil, err
		}
		if _, err = out.Seek(0, 0); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(err, j.undoTo(ctx, mark)); err != nil {
		warn(ctx, "no scratch in memory: %v", err)
	}
	if dir, err = j.mountScratch(ctx); err != nil {
		err = fmt.Errorf("scratch in %s: %w", j.Settings.CacheDir, err)
	} else {
		lacks, err = j.buildTreeIn(ctx, dir, out)
	}
	return lacks, errors.Join(err, j.undoTo(ctx, mark))
}

func (j *Job) buildTreeIn(ctx context.Context, dir string, out *os.File) (lacks []string, err error) {
	if lacks, err = j.bootstrap(ctx, dir); err != nil {
		return nil, j.blameFullCache(err, dir)
	}
	if err := j.session.EndStrays(ctx, dir); err != nil {
		return nil, err
	}
	if err := cache.Pack(ctx, dir, out); err != nil {
		return nil, j.blameFullCache(err, dir)
	}
	return lacks, nil
}

// checkSuits refuses a tree that doesn't fit on the disk, or whose kernel can't do with
// the instance's network interfaces.
func (j *Job) checkSuits(ctx context.Context) error {
	if err := j.checkFit(ctx); err != nil || j.tree == nil || j.boot.Loader == "" {
		return err
	}
	return j.checkTreesNICs(ctx)
}

// checkFit refuses a disk that the tree doesn't fit on, before it is touched. With
// a kernel that is there only if it fits, the tree without is tried.
func (j *Job) checkFit(ctx context.Context) error {
	if err := j.checkBootTree(); err != nil {
		return err
	}
	err := j.fits(j.swapFileBytes())
	if named := j.tooLargeSwapFile(err); named != nil {
		return named
	}
	if err == nil || j.boot.Loader == "" || j.mustBoot() || j.tree.Key == "" {
		return err
	}
	j.dropBoot(ctx, err)
	if err := j.getTree(ctx, nil); err != nil {
		return err
	}
	return j.fits(j.swapFileBytes())
}

// fits looks whether the disk has room for the tree and a swap file, in bytes.
func (j *Job) fits(swapFile int64) error {
	if j.tree == nil || j.tree.ContentBytes == 0 {
		return nil
	}
	layout, err := j.layout()
	if err != nil {
		return err
	}
	_, sectors := layout.Root()
	room := sectors * 512
	need := filesystem.MinDiskBytes(j.fstype(), j.Settings.Suite, j.tree.ContentBytes+swapFile, j.tree.Inodes+min(swapFile, 1))
	if need > room {
		return fmt.Errorf("disk %s is too small: it has %d MiB, and %s as %s needs %d MiB", j.disk.Path, j.disk.SizeBytes>>20,
			j.describeTree(), j.Settings.Filesystem, (need+j.disk.SizeBytes-room+1<<20-1)>>20)
	}
	return nil
}

// fillRoot unpacks the tree onto the root filesystem, or bootstraps there.
func (j *Job) fillRoot(ctx context.Context) error {
	if j.tree != nil {
		return j.unpackTree(ctx, j.target)
	}
	_, err := j.bootstrap(ctx, j.target) // it has said what the guest lacks
	return err
}

// bootstrap makes the tree in a folder. What it lacks is returned as bootstrap.Run
// tells it.
func (j *Job) bootstrap(ctx context.Context, dir string) (lacks []string, err error) {
	spec := j.bootstrapSpec()
	spec.WorkDir = j.session.WorkDir
	if lacks, err = bootstrap.Run(ctx, j.tool, spec, dir); err != nil || j.boot.Loader == "" {
		return lacks, j.blameServices(err)
	}
	if err := boot.PrepareTree(ctx, dir); err != nil {
		return nil, err
	}
	return lacks, j.checkInitramfs(ctx, dir)
}
