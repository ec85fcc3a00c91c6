package bootstrap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
)

// dpkg decompresses each package when it comes to it, on one processor, and a bootstrap
// does that twice with the essential ones. Other processors do it ahead: in the place of a
// package that the tool has fetched, and checked, comes the same one with its data as they are
// (deb(5): data.tar), by a rename. So who reads it finds the one or the other, and dpkg does with
// both the same.

// archives is where the tools leave the packages that they have checked.
const archives = "var/cache/apt/archives"

// Where mmdebstrap's remaining packages are fetched to while it is at the essential ones (see
// fetchLater), and where they are ready: apt, which looks at the size of what is there, must not
// see them before it starts dpkg.
const (
	later = scratchName + "/later"
	ready = later + "/ready"
)

// tick is how often the folders are looked at.
const tick = 20 * time.Millisecond

// ahead decompresses the packages of one tree.
type ahead struct {
	root *os.Root
	mu   sync.Mutex
	seen map[string]bool // packages, by their files' names
	done int
}

// startAhead begins, on all processors but one, until stop is called. What fails is left to
// dpkg, which says why.
func startAhead(ctx context.Context, root *os.Root) (stop func()) {
	within, cancel := context.WithCancel(ctx)
	a := &ahead{root: root, seen: map[string]bool{}}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0)-1, 4) {
		workers.Go(func() { a.work(within) })
	}
	return func() {
		cancel()
		workers.Wait()
		zerolog.Ctx(ctx).Debug().Msgf("%d of %d packages were decompressed ahead of dpkg", a.done, len(a.seen))
	}
}

func (a *ahead) work(ctx context.Context) {
	for ctx.Err() == nil {
		name, where := a.next()
		switch {
		case name == "":
			select {
			case <-ctx.Done():
			case <-time.After(tick):
			}
		case a.unpack(ctx, name, where) == nil:
			a.mu.Lock()
			a.done++
			a.mu.Unlock()
		}
	}
}

// next is a package that nobody has taken, and its folder; "" is none. The essential ones come
// first, and of these the one that came last, because the tools begin with the first; then the
// largest of the others: a kernel takes seconds, for which dpkg would wait, or do it once more.
func (a *ahead) next() (name, where string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	essential, others := a.untaken(archives), a.untaken(later)
	for name := range others { // which apt must not see plain yet, when it is in both
		delete(essential, name)
	}
	where, from := archives, essential
	if len(from) == 0 {
		where, from = later, others
	}
	best := int64(-1)
	for one, e := range from {
		st, err := e.Info()
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		rank := st.Size()
		if where == archives {
			rank = st.ModTime().UnixNano()
		}
		if rank >= best {
			name, best = one, rank
		}
	}
	if name != "" {
		a.seen[name] = true
	}
	return name, where
}

// untaken are the packages of a folder that nobody has taken. It is called every tick.
func (a *ahead) untaken(folder string) map[string]fs.DirEntry {
	dir, err := a.root.Open(folder)
	if err != nil {
		return nil
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(-1)
	all := map[string]fs.DirEntry{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".deb") && !a.seen[e.Name()] && e.Type().IsRegular() {
			all[e.Name()] = e
		}
	}
	return all
}

// spare are the bytes that are left free on the tree's filesystem.
const spare = 512 << 20

// hasRoom tells whether the data of a package of so many bytes may be decompressed. xz makes
// five of a package's bytes, and seldom more.
func (a *ahead) hasRoom(size int64) bool {
	top, err := a.root.Open(".")
	if err != nil {
		return false
	}
	defer top.Close()
	var st unix.Statfs_t
	return unix.Fstatfs(int(top.Fd()), &st) == nil && int64(st.Bavail)*st.Bsize > spare+6*size
}

// unpack puts a package whose data aren't compressed in the place of one, or ready for it.
func (a *ahead) unpack(ctx context.Context, name, where string) error {
	from, err := a.root.Open(path.Join(where, name))
	if err != nil {
		return err
	}
	defer from.Close()
	before, err := untilData(from)
	if err != nil {
		return err
	}
	if st, err := from.Stat(); err != nil || !a.hasRoom(st.Size()) {
		return cmp.Or(err, error(unix.ENOSPC))
	}
	made := path.Join(scratchName, name)
	to, err := a.root.OpenFile(made, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer to.Close()
	if err = plainPackage(ctx, from, to, before); err == nil {
		err = fs.ErrNotExist
		if where == later {
			err = a.root.Rename(made, path.Join(ready, name))
		}
		if errors.Is(err, fs.ErrNotExist) { // dpkg is at work on them
			err = a.root.Rename(made, path.Join(archives, name))
		}
	}
	if err != nil {
		return errors.Join(err, a.root.Remove(made))
	}
	return nil
}

// arMagic begins a package, and a header of so many bytes each of its members: ar(5), deb(5).
const (
	arMagic  = "!<arch>\n"
	arHeader = 60
)

// untilData tells how many bytes of a package are before the header of its data. Data that
// aren't compressed are an error.
func untilData(f *os.File) (int64, error) {
	header := make([]byte, arHeader)
	for at := int64(len(arMagic)); ; {
		if _, err := f.ReadAt(header, at); err != nil {
			return 0, err
		}
		if strings.HasPrefix(string(header), "data.tar.") {
			return at, nil
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil || size < 0 {
			return 0, fs.ErrInvalid
		}
		at += arHeader + size + size%2
	}
}

// plainPackage writes a package: the bytes before the header of its data as they are, and the
// data as dpkg-deb gives them.
func plainPackage(ctx context.Context, from, to *os.File, before int64) error {
	if _, err := io.Copy(to, io.NewSectionReader(from, 0, before)); err != nil {
		return err
	}
	begin, err := to.Seek(arHeader, io.SeekCurrent)
	if err != nil {
		return err
	}
	if err := command.Run(ctx, command.Cmd{Args: []string{"dpkg-deb", "--fsys-tarfile", "/proc/self/fd/3"}, Stdout: to, Files: []*os.File{from}, Quiet: true}); err != nil {
		return err
	}
	end, err := to.Seek(0, io.SeekEnd) // an even number: a tar is of whole blocks
	if err != nil {
		return err
	}
	_, err = to.WriteAt(fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", "data.tar", 0, 0, 0, "100644", end-begin), before)
	return err
}

// pkgcache is what apt makes of its lists, once it has them all.
const pkgcache = "var/cache/apt/pkgcache.bin"

// fetchScript is the file, in scratchName, that fetches mmdebstrap's remaining packages.
const fetchScript = "fetch"

// fetchLater is a script that has apt fetch the remaining packages as soon as it has its lists:
// while mmdebstrap fetches, unpacks and installs the essential ones, and as if these were
// installed already. What it doesn't fetch, or fetches in vain, mmdebstrap's own apt fetches,
// or leaves. It ends with mmdebstrap, and has its socket closed: one that fails waits until nobody
// has that open. $1 is the tree, $2 mmdebstrap's process; a dead one that nobody has waited for
// has no exe (proc(5)).
func (s Spec) fetchLater(packages []string) string {
	var quoted strings.Builder
	for _, p := range packages {
		quoted.WriteString(" '" + p + "'")
	}
	return `cd "$1/` + later + `" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" || exit
exec {MMDEBSTRAP_HOOKSOCK}>&-
taskset --pid --cpu-list '` + command.CPUs() + `' $$ # mmdebstrap is on one
until [ -e "$1/` + pkgcache + `" ]; do [ -e "/proc/$2/exe" ] || exit; sleep 0.05; done
# Elsewhere, apt would remove packages whose size isn't the archive's: those that are plain already.
apt() { apt-get --yes -o Dir::Cache::archives="$PWD" "$@"; }
essential=$(apt --quiet=2 --print-uris -o Debug::NoLocking=true install '` + s.narrow("?essential") + `' |
	sed -n "s/^'[^']*' \([^_ ]*\)_\([^_ ]*\)_.*/\1=\2/p" | sed 's/%3a/:/')
{ cat "$1/var/lib/dpkg/status"; apt-cache show $essential | sed 's/^Package: .*/&\nStatus: install ok installed/'; } >status
apt --download-only -o Dir::State::status="$PWD/status" -o Dir::Cache::pkgcache= install` + quoted.String() + "\n"
}

// prefetch are mmdebstrap's arguments that start fetchScript, and wait for it.
func prefetch() []string {
	begin := `cd "$1/` + scratchName + `" && mkdir -p later/ready && chmod 755 later || exit; ` +
		runMark + `="$` + runMark + aheadMark + `" bash ` + fetchScript + ` "$1" $PPID </dev/null >later/log 2>&1 & echo $! >"$1/` + scratchName + `/pid"`
	// Then they are where apt looks for them, too, and their plain ones are once it has. A tree
	// whose apt keeps no cache has had nothing fetched.
	end := `cd "$1/` + later + `" && { [ -e "$1/` + pkgcache + `" ] || kill "$(cat ../pid)"; while [ -e "/proc/$(cat ../pid)/exe" ]; do sleep 0.02; done; ln *.deb "$1/` + archives + `/"; } 2>/dev/null; ` +
		`echo 'DPkg::Pre-Invoke { "mv /` + ready + `/*.deb /` + archives + `/ 2>/dev/null; rmdir /` + ready + `; true"; };' >>"$MMDEBSTRAP_APT_CONFIG"`
	return []string{"--setup-hook=" + begin, "--essential-hook=" + end}
}

// aheadMark is added to the mark of a run in the environment of that apt.
const aheadMark = "-ahead"

// endPrefetch ends it where mmdebstrap didn't come to wait for it. env is mmdebstrap's.
func endPrefetch(env []string) {
	for _, e := range env {
		if strings.HasPrefix(e, runMark+"=") {
			endProcesses("", e+aheadMark)
		}
	}
}
