//go:build root

package root

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// withoutKernel has a bootstrap that finds no kernel in the suite, and no tree kept.
func (l *lab) withoutKernel() {
	l.Helper()
	l.tinyTree()
	dir := l.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	l.tool("rm", l.tar())
	l.fake("debootstrap", fmt.Sprintf(`
case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac
case "$*" in *linux-image*) echo "E: Couldn't find these debs: linux-image-amd64" >&2; exit 1;; esac
for a; do case "$a" in %[1]s/*) target=$a;; esac; done
case "$*" in *--print-debs*) echo base-files; exit;; esac
cp -a %[2]s/. "$target"`, base, dir))
	l.write("default", "BOOTSTRAP=debootstrap\nMIRROR=http://mirror.example/debian\nSECURITY_MIRROR=none\nGENERATE_CACHE=no\n", 0o644)
}

// isUntouched tells whether nothing was written to the disk, a new file.
func (l *lab) isUntouched() bool {
	l.Helper()
	return strings.HasPrefix(l.tool("du", "-k", l.disk), "0\t")
}

func TestWithoutACacheAKernelThatTheSuiteLacksIsMissedBeforeTheDiskIsTouched(t *testing.T) {
	l := newLab(t, 600)
	l.withoutKernel()
	l.setting("BOOTLOADER=grub")
	l.fails("Couldn't find these debs: linux-image-amd64")
	if !l.isUntouched() {
		t.Error("the disk was written to")
	}
	l.setting("BOOTLOADER=auto")
	l.matches(l.create(), "the guest gets no kernel and no boot loader: .*find these debs")
	l.checkFilesystem("ext4")
	l.setting("EXTRA_PKGS=linux-image-of-mine") // which somebody has asked for by name
	blank := l.tool("sha256sum", l.disk)
	l.fails("Couldn't find these debs")
	if l.tool("sha256sum", l.disk) != blank {
		t.Error("the disk was written to")
	}
}

func TestWithoutACacheARealArchiveIsAskedBeforeTheDiskIsTouched(t *testing.T) {
	mirror, suite := os.Getenv("TEST_MIRROR"), os.Getenv("TEST_SUITE")
	if mirror == "" || suite == "" {
		t.Fatal("TEST_MIRROR and TEST_SUITE must name a Debian archive and a suite in it")
	}
	for _, tool := range []string{"mmdebstrap", "debootstrap"} {
		l := newLab(t, 4000)
		l.write("default", "BOOTSTRAP="+tool+"\nMIRROR="+mirror+"\nSUITE="+suite+"\nSECURITY_MIRROR=none\nGENERATE_CACHE=no\nKERNEL_PKG=linux-image-of-nobody\n", 0o644)
		l.fails("linux-image-of-nobody")
		if !l.isUntouched() {
			t.Errorf("%s: the disk was written to", tool)
		}
	}
}
