//go:build root

package root

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// What mmdebstrap is made to fetch ahead is ours, and no fault of a package's: where mmdebstrap
// fails meanwhile, it is ended, and nothing warns of it.
func TestWhatIsFetchedAheadEndsWithAMmdebstrapThatFails(t *testing.T) {
	l := newLab(t, 600)
	l.fake("apt-get", fmt.Sprintf("exec -a %s sleep 60", mark()))
	l.fake("mmdebstrap", fmt.Sprintf(`
case "$1" in --version) echo "mmdebstrap 1.5.0"; exit;; esac
for a; do case "$a" in %s/*) target=$a;; --setup-hook=*) hook=${a#*=};; esac; done # the last
mkdir -p "$target/var/lib/dpkg" "$target/var/cache/apt"; touch "$target/var/lib/dpkg/status" "$target/var/cache/apt/pkgcache.bin"
MMDEBSTRAP_APT_CONFIG=/dev/null sh -c "$hook" hook "$target"
for try in {1..100}; do n=$(pgrep -cf '^%s') && break; sleep 0.1; done # until it has begun
echo "E: it is fetched ahead by $n" >&2; exit 25`, base, mark()))
	l.write("default", "BOOTSTRAP=mmdebstrap\nMIRROR=http://mirror.example/debian\n", 0o644)
	if log := l.fails("it is fetched ahead by 1"); strings.Contains(log, "left these running") {
		t.Error(log)
	}
}

// make has as many jobs as nproc says.
func TestWhatCompilesModulesHasAllProcessors(t *testing.T) {
	l := newLab(t, 600)
	l.fake("mmdebstrap", `case "$1" in --version) echo "mmdebstrap 1.5.0"; exit;; esac; echo "E: there are $(nproc)" >&2; exit 25`)
	for pkgs, want := range map[string]int{"less": 1, "zfs-dkms": runtime.NumCPU()} {
		l.write("default", "BOOTSTRAP=mmdebstrap\nMIRROR=http://mirror.example/debian\nEXTRA_PKGS="+pkgs+"\n", 0o644)
		l.fails(fmt.Sprintf("there are %d", want))
	}
}
