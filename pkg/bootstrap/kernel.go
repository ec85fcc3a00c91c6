package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
)

// A kernel's package has its initramfs made when it is configured, and dpkg's trigger has it made
// again for what comes after it, which takes as long as all else. So its hooks are told to make none,
// the trigger renews only what is there, and the hooks run once more when all packages are.

// noInitramfs is the environment that tells the kernels' hooks of initramfs-tools
// and dracut (/etc/kernel/postinst.d) to make none.
const noInitramfs = "INITRD=No"

// kernelHooks is where packages leave what is to run for each kernel.
const kernelHooks = "etc/kernel/postinst.d"

// makeInitramfs runs the hooks of each kernel that has no initramfs, as its package does.
func (s Spec) makeInitramfs(ctx context.Context, target string, env []string) (err error) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	versions, err := withoutInitramfs(root)
	if err != nil || len(versions) == 0 {
		return err
	}
	if err := errors.Join(noResume(root), filesystem.UnmountBelow(target), mountForPackages(target)); err != nil {
		return err
	}
	withoutQuick, err := quicken(root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, withoutQuick()) }()
	for _, version := range versions {
		zerolog.Ctx(ctx).Info().Msgf("making the initramfs of %s", version)
		var why reasons
		silent := beat{target: target}
		stop := silent.start(ctx, "run-parts")
		err := command.Run(ctx, command.Cmd{
			Args: []string{"run-parts", "--exit-on-error", "--arg=" + version, "--arg=/boot/vmlinuz-" + version, "/" + kernelHooks},
			Env:  append([]string{"DEB_MAINT_PARAMS=configure"}, env...), Chroot: target, OneCPU: !s.compiles(),
			Line: func(text string) {
				why.line(text)
				silent.line(text)
			},
		})
		stop()
		if err != nil {
			return fmt.Errorf("the hooks of kernel %s: %w", version, why.of(err))
		}
		if err := linkInitramfs(ctx, root, target, version, env); err != nil {
			return err
		}
	}
	return nil
}

// linksProgram has the links to a kernel and its initramfs (vmlinuz, initrd.img) be those that
// kernel-img.conf(5) wants. Kernels' packages call it, and of one that is to have no initramfs it
// makes no link to that.
const linksProgram = "usr/bin/linux-update-symlinks"

func linkInitramfs(ctx context.Context, root *os.Root, target, version string, env []string) error {
	if _, err := root.Stat(linksProgram); err != nil {
		return nil //nolint:nilerr // a suite whose kernels' packages link by themselves
	}
	var why reasons
	if err := command.Run(ctx, command.Cmd{
		Args: []string{"/" + linksProgram, "upgrade", version, "/boot/vmlinuz-" + version}, Env: env, Chroot: target, Line: why.line,
	}); err != nil {
		return fmt.Errorf("the links to kernel %s: %w", version, why.of(err))
	}
	return nil
}

// compiles tells whether packages make modules for the kernel, on all processors (dkms(8)).
func (s Spec) compiles() bool {
	return slices.ContainsFunc(s.ExtraPkgs, func(p string) bool { return strings.HasSuffix(p, "dkms") })
}

// noResume has initramfs-tools, where it is, not look for a swap area to resume from: it would
// find the node's, and guests would wait for that.
func noResume(root *os.Root) error {
	const folder = "etc/initramfs-tools/conf.d"
	if _, err := root.Stat(folder); err != nil {
		return nil
	}
	return root.WriteFile(folder+"/resume", []byte("RESUME=none\n"), 0o644)
}

// confHooks is where initramfs-tools reads shell code of packages, once it has its functions; no
// initramfs has it.
const confHooks = "usr/share/initramfs-tools/conf-hooks.d"

// quickFunctions take the place of programs that mkinitramfs starts 8,000 times, a few for each
// module that another one needs: for a path that is plain already, and whether /usr is merged. They
// answer as the programs do (realpath(1), readlink(1)), or have them answer.
const quickFunctions = `instance_debootstrap_bin=$(command readlink -f /bin)
readlink() {
	if [ "$*" = "-f /bin" ]; then echo "$instance_debootstrap_bin"; else command readlink "$@"; fi
}
realpath() {
	instance_debootstrap_path="${2-}"
	case "$instance_debootstrap_path" in //*) instance_debootstrap_path="${2#/}" ;; esac
	case "$# ${1-} $instance_debootstrap_path" in
	*//* | */./* | */../* | *[/.]) command realpath "$@" ;;
	"2 -ms /"*) printf '%s\n' "$instance_debootstrap_path" ;;
	"2 -s /"*) [ -e "$2" ] && printf '%s\n' "$instance_debootstrap_path" || command realpath "$@" ;;
	*) command realpath "$@" ;;
	esac
}
mkdir() { [ "$# ${1-}" = "2 -p" ] && [ -d "$2" ] || command mkdir "$@"; }
`

// quickZstd has zstd work on these processors (at most four threads, for each takes memory), and not
// on the one that the hooks are on. By threads it writes the same, however many they are (zstd(1)).
func quickZstd() string {
	return fmt.Sprintf("if command -v zstd >/dev/null; then zstd() { ZSTD_NBTHREADS=%d taskset --cpu-list '%s' zstd \"$@\"; }; fi\n", min(runtime.GOMAXPROCS(0), 4), command.CPUs())
}

// quicken has mkinitramfs know quickFunctions and quickZstd, until the function that it returns is called.
func quicken(root *os.Root) (end func() error, err error) {
	if _, err := root.Stat(confHooks); err != nil {
		return func() error { return nil }, nil //nolint:nilerr // another program makes the initramfs
	}
	const name = confHooks + "/instance-debootstrap"
	return func() error { return root.Remove(name) }, root.WriteFile(name, []byte(quickFunctions+quickZstd()), 0o644)
}

// withoutInitramfs are the versions of kernels that have none.
func withoutInitramfs(root *os.Root) (versions []string, err error) {
	entries, err := fs.ReadDir(root.FS(), "boot")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		version, kernel := strings.CutPrefix(e.Name(), "vmlinuz-")
		if !kernel {
			continue
		}
		if _, err := root.Lstat("boot/initrd.img-" + version); err == nil {
			continue
		}
		if _, err := root.Stat(kernelHooks); err == nil {
			versions = append(versions, version)
		}
	}
	return versions, err
}
