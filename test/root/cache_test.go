//go:build root

package root

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newCacheLab is a node with a bootstrap that takes no time, and the program's own
// commands.
func newCacheLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t, 600)
	l.fakeDebootstrap("0.01")
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	l.setting("BOOTLOADER=none")
	return l
}

// setting adds lines to the defaults file.
func (l *lab) setting(lines ...string) {
	l.Helper()
	text, err := os.ReadFile(filepath.Join(base, "default"))
	must(l, err)
	l.write("default", string(text)+strings.Join(lines, "\n")+"\n", 0o644)
}

// cache runs a cache command, which must succeed and leave nothing.
func (l *lab) cache(args ...string) string {
	l.Helper()
	out, exit := l.run("instance-debootstrap", append([]string{"cache"}, args...)...)
	if exit != 0 {
		l.Fatalf("cache %v: exit status %d\n%s", args, exit, out)
	}
	l.clean(0)
	return out
}

// cacheFails runs one that must fail with a text, and leave nothing.
func (l *lab) cacheFails(want string, args ...string) {
	l.Helper()
	out, exit := l.run("instance-debootstrap", append([]string{"cache"}, args...)...)
	if exit == 0 || !strings.Contains(out, want) {
		l.Errorf("cache %v: exit status %d, without %q\n%s", args, exit, want, out)
	}
	l.clean(0)
}

// tars are the cached trees, by name.
func (l *lab) tars() (names []string) {
	found, err := filepath.Glob(filepath.Join(base, "cache/cache-*.tar"))
	must(l, err)
	for _, path := range found {
		names = append(names, filepath.Base(path))
	}
	return names
}

// theTar is the only one.
func (l *lab) theTar() string {
	l.Helper()
	names := l.tars()
	if len(names) != 1 {
		l.Fatalf("the cache holds %q", names)
	}
	return filepath.Join(base, "cache", names[0])
}

// age makes a file so many days old.
func (l *lab) age(path string, days int) {
	l.Helper()
	then := time.Now().AddDate(0, 0, -days)
	must(l, os.Chtimes(path, then, then))
}

// ageEntry makes an entry so many days old, as published then.
func (l *lab) ageEntry(path string, days int) {
	l.Helper()
	l.age(path, days)
	side := strings.TrimSuffix(path, ".tar") + ".json"
	raw, err := os.ReadFile(side)
	must(l, err)
	var m map[string]any
	must(l, json.Unmarshal(raw, &m))
	st, err := os.Stat(path)
	must(l, err)
	m["mtime_ns"] = json.Number(fmt.Sprint(st.ModTime().UnixNano()))
	raw, err = json.Marshal(m)
	must(l, err)
	must(l, os.WriteFile(side, raw, 0o600))
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Ino
}

func TestAWarmedCacheIsWhatACreateTakes(t *testing.T) {
	l := newCacheLab(t)
	l.write("conf/variants.list", "default\nweb\n", 0o644)
	l.write("conf/variants/web.conf", "EXTRA_PKGS=nginx\n", 0o644)
	l.cache("warm", "--all", "--disk-size", "600M")
	if n := len(l.tars()); n != 2 {
		t.Fatalf("%d trees for two variants", n)
	}
	images, _ := filepath.Glob(base + "/cache/*.img")
	if len(images) == 0 {
		t.Error("no filesystem image was made")
	}
	l.fake("debootstrap", `case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac; echo "the archive is gone" >&2; exit 1`)
	for _, variant := range []string{"default", "web"} {
		l.env["OS_VARIANT"], l.env["INSTANCE_OS"] = variant, "debootstrap+"+variant
		if log := l.create(); !strings.Contains(log, "root tree: ") || strings.Contains(log, "making a filesystem image") {
			t.Errorf("create doesn't use what was warmed:\n%s", log)
		}
	}
	var list []struct {
		Path, State string
		ImageBytes  int64 `json:"image_bytes"`
		Inputs      struct {
			ExtraPkgs []string `json:"extra_pkgs"`
		}
	}
	must(t, json.Unmarshal([]byte(l.cache("list", "--json")), &list))
	if len(list) != 2 || list[0].State != "ok" || list[0].ImageBytes == 0 {
		t.Errorf("list: %+v", list)
	}
	if out := l.cache("verify"); strings.Count(out, ".img: ok") != len(images) || strings.Count(out, ".tar: ok") != 2 {
		t.Errorf("verify:\n%s", out)
	}
}

func TestAStaleTreeIsUsedAtOnceAndRenewedByWarmExpired(t *testing.T) {
	l := newCacheLab(t)
	l.setting("CACHE_STALE_OK=yes")
	l.create()
	tar := l.theTar()
	l.ageEntry(tar, 50)
	before := inode(t, tar)
	if log := l.create(); !strings.Contains(log, "older than 14 days") {
		t.Errorf("create doesn't tell that the tree is old:\n%s", log)
	}
	if inode(t, tar) != before {
		t.Error("a create has built the stale tree anew")
	}
	// While it is renewed a create goes on with the old one, and waits for nobody.
	l.fakeDebootstrapAgain("5")
	done := make(chan string, 1)
	warm := l.command("instance-debootstrap", "cache", "warm", "--expired")
	go func() { out, _ := warm.CombinedOutput(); done <- string(out) }()
	<-l.running()
	start := time.Now()
	log, exit := l.run("create")
	if took := time.Since(start); exit != 0 || took > 3*time.Second || inode(t, tar) != before {
		t.Errorf("create while the tree is renewed: exit status %d after %v\n%s", exit, took, log)
	}
	out := <-done
	l.clean(0)
	if inode(t, tar) == before || !strings.Contains(out, "renewed cache entry") {
		t.Fatalf("warm --expired:\n%s", out)
	}
	l.create()
	l.theTar()
	if out := l.cache("warm", "--expired"); !strings.Contains(out, "nothing to renew") {
		t.Errorf("a fresh tree is renewed:\n%s", out)
	}
}

// fakeDebootstrapAgain is fakeDebootstrap, and keeps the settings as they are.
func (l *lab) fakeDebootstrapAgain(seconds string) {
	l.Helper()
	text, err := os.ReadFile(filepath.Join(base, "default"))
	must(l, err)
	l.fakeDebootstrap(seconds)
	l.write("default", string(text), 0o644)
}

func TestAFailedRenewalKeepsTheOldTreeAndSaysSo(t *testing.T) {
	l := newCacheLab(t)
	l.setting("CACHE_STALE_OK=yes")
	l.create()
	tar := l.theTar()
	l.ageEntry(tar, 50)
	before := inode(t, tar)
	l.fake("debootstrap", `case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac; echo "the archive is gone" >&2; exit 1`)
	l.cacheFails("the old one stays in use", "warm", "--expired")
	if inode(t, tar) != before {
		t.Error("the old tree is gone")
	}
	l.create()
}

func TestKilledWhileWarmingOrImportingNothingIsLeft(t *testing.T) {
	for name, kill := range kills {
		t.Run(name, func(t *testing.T) {
			l := newCacheLab(t)
			l.create()
			tar := l.theTar()
			l.ageEntry(tar, 50)
			before := inode(t, tar)
			l.fakeDebootstrapAgain("5")
			if !l.killedCommand(l.command("instance-debootstrap", "cache", "warm", "--expired"), l.running(), kill) {
				t.Fatal("it was over before")
			}
			if l.theTar() != tar || inode(t, tar) != before {
				t.Error("the old tree is gone")
			}
		})
	}
	l := newCacheLab(t)
	l.create()
	bundle := filepath.Join(t.TempDir(), "entry")
	key := keyOf(l.theTar())
	l.cache("export", key, bundle)
	l.cacheFilesGone()
	fifo := filepath.Join(t.TempDir(), "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	moment := make(chan time.Time, 1)
	raw, err := os.ReadFile(bundle)
	must(t, err)
	go func() {
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		if err == nil {
			f.Write(raw[:len(raw)/2])
			moment <- time.Now()
			time.Sleep(5 * time.Second)
			f.Close()
		}
	}()
	cmd := l.command("instance-debootstrap", "cache", "import", fifo)
	if !l.killedCommand(cmd, moment, kills["SIGKILL"]) || len(l.tars()) != 0 {
		t.Errorf("an import that was killed leaves %q", l.tars())
	}
}

// The limit kills it in the middle (setrlimit(2), SIGXFSZ).
func TestAnExportOfAnEntryThatIsKilledLeavesNoFile(t *testing.T) {
	l := newCacheLab(t)
	l.create()
	dir := t.TempDir()
	cmd := l.command("instance-debootstrap", "cache", "export", keyOf(l.theTar()), dir+"/entry")
	cmd.Args = append([]string{"prlimit", "--fsize=20000:20000", "--", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = l.tool("sh", "-c", "command -v prlimit")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "file size limit") && !strings.Contains(string(out), "file too large") {
		t.Fatalf("%v\n%s", err, out)
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("it leaves %v, %v", left, err)
	}
	l.cache("export", keyOf(l.theTar()), dir+"/entry")
	l.cacheFails(dir+"/entry is there already", "export", keyOf(l.theTar()), dir+"/entry")
}

func keyOf(tar string) string {
	name := strings.TrimSuffix(tar, ".tar")
	return name[strings.LastIndex(name, "-")+1:]
}

// cacheFilesGone empties the cache folder.
func (l *lab) cacheFilesGone() {
	l.Helper()
	must(l, os.RemoveAll(filepath.Join(base, "cache")))
	must(l, os.MkdirAll(filepath.Join(base, "cache"), 0o755))
}

func TestAnExportedEntryIsUsedByTheNextNode(t *testing.T) {
	l := newCacheLab(t)
	l.create()
	tar := l.theTar()
	l.ageEntry(tar, 3)
	built, err := os.Stat(tar)
	must(t, err)
	bundle := filepath.Join(t.TempDir(), "entry")
	l.cache("export", keyOf(tar)[:6], bundle)
	l.tool("tar", "-tf", bundle) // it is a tar to tar too
	raw, err := os.ReadFile(bundle)
	must(t, err)

	l.cacheFilesGone()
	damaged := append([]byte{}, raw...)
	damaged[len(damaged)/2] ^= 1
	must(t, os.WriteFile(bundle+".damaged", damaged, 0o600))
	l.cacheFails("it is damaged", "import", bundle+".damaged")
	must(t, os.WriteFile(bundle+".half", raw[:len(raw)/2], 0o600))
	l.cacheFails(bundle+".half: import "+strings.TrimSuffix(filepath.Base(tar), ".tar")+": it is cut off: copy it anew, whole", "import", bundle+".half")
	if len(l.tars()) != 0 {
		t.Fatalf("what was refused is in the cache: %q", l.tars())
	}
	l.cache("import", bundle)
	l.fake("debootstrap", `case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac; exit 1`)
	if log := l.create(); strings.Contains(log, "edited") || strings.Contains(log, "no usable sidecar") {
		t.Errorf("the imported entry isn't as it was exported:\n%s", log)
	}
	if st, err := os.Stat(tar); err != nil || !st.ModTime().Equal(built.ModTime()) {
		t.Errorf("its age is not the tree's: %v, %v", st, err)
	}
	l.cache("import", bundle) // once more changes nothing
	l.theTar()
}

func TestATreeOfOnesOwnIsImportedAsSuch(t *testing.T) {
	l := newCacheLab(t)
	l.tinyTree()
	own := filepath.Join(t.TempDir(), "own.tar")
	must(t, os.Rename(l.tar(), own))
	l.cacheFails("--suite", "import", own)
	backup := filepath.Join(t.TempDir(), "backup.tar")
	l.tool("tar", "-C", filepath.Dir(own), "-cf", backup, "own.tar")
	l.cacheFails("there is no /etc at its top", "import", "--suite", "trixie", backup)
	l.cacheFails("compressed with zstd", "import", "--suite", "trixie", l.compressed(own))
	l.cache("import", "--suite", "trixie", own)
	if log := l.create(); !strings.Contains(log, "using "+l.tar()+" as it is") {
		t.Errorf("create doesn't use it:\n%s", log)
	}
	l.cacheFails("--force", "import", "--suite", "trixie", own)
	l.cache("import", "--suite", "trixie", "--force", own)
}

func (l *lab) compressed(path string) string {
	l.tool("zstd", "-q", path, "-o", path+".zst")
	return path + ".zst"
}

func TestTheLeastRecentlyUsedGoWhenTheCacheIsFullAndNeverOneInUse(t *testing.T) {
	l := newCacheLab(t)
	build := func(pkg string) string {
		before := l.tars()
		l.cache("warm", "--extra-pkgs", pkg, "--filesystem", "xfs") // no image
		for _, name := range l.tars() {
			if !strings.Contains(strings.Join(before, " "), name) {
				return filepath.Join(base, "cache", name)
			}
		}
		t.Fatalf("no tree was built for %s", pkg)
		return ""
	}
	first, second, third, fourth := build("aaa"), build("bbb"), build("ccc"), build("ddd")
	sidecar := func(tar string) string { return strings.TrimSuffix(tar, ".tar") + ".json" }
	for i, tar := range []string{first, second, third, fourth} {
		l.ageEntry(tar, 9)
		l.age(sidecar(tar), 9-i) // last used
	}
	must(t, os.Chmod(second, 0o444))
	// Another process has the first one in use, as a create does while it copies.
	holder := exec.Command("flock", "--shared", first, "sleep", "30")
	must(t, holder.Start())
	defer func() { holder.Process.Kill(); holder.Wait() }()
	for try := 0; try < 100 && !strings.Contains(l.cache("list"), "in use"); try++ {
		time.Sleep(20 * time.Millisecond)
	}
	// Room for nothing of all that: a file of the cache is larger than 1 MiB.
	must(t, os.WriteFile(filepath.Join(base, "cache/cache-big-amd64.tar"), make([]byte, 2<<20), 0o644))
	l.setting("CACHE_MAX_SIZE=1M")
	dry := l.cache("prune", "--dry-run")
	if len(l.tars()) != 5 || !strings.Contains(dry, filepath.Base(third)) || !strings.Contains(dry, filepath.Base(fourth)) || strings.Contains(dry, filepath.Base(first)) {
		t.Errorf("dry run:\n%s", dry)
	}
	l.cache("prune")
	left := strings.Join(l.tars(), " ")
	for tar, stays := range map[string]bool{first: true, second: true, third: false, fourth: false, "cache-big-amd64.tar": true} {
		if strings.Contains(left, filepath.Base(tar)) != stays {
			t.Errorf("%s: stays is %v, left are %s", filepath.Base(tar), !stays, left)
		}
	}
}

func TestOnlyAsManyGoAsAreTooMany(t *testing.T) {
	l := newCacheLab(t)
	for _, pkg := range []string{"aaa", "bbb", "ccc"} {
		l.cache("warm", "--extra-pkgs", pkg, "--filesystem", "xfs")
	}
	for i, name := range l.tars() {
		side := filepath.Join(base, "cache", strings.TrimSuffix(name, ".tar")+".json")
		path := filepath.Join(base, "cache", name)
		must(t, os.Truncate(path, 0)) // 600 KiB each
		must(t, os.WriteFile(path, make([]byte, 600<<10), 0o600))
		l.ageEntry(path, 9)
		l.age(side, 9-i)
	}
	oldest := l.tars()[0]
	l.setting("CACHE_MAX_SIZE=1M")
	l.cache("prune")
	if left := l.tars(); len(left) != 1 || left[0] == oldest {
		t.Errorf("left are %q", left)
	}
}

func TestPruneRemovesWhatIsOfNoUse(t *testing.T) {
	l := newCacheLab(t)
	l.cache("warm", "--disk-size", "600M")
	tar := l.theTar()
	images, _ := filepath.Glob(base + "/cache/*.img")
	if len(images) != 1 {
		t.Fatalf("images: %q", images)
	}
	gone := "cache-gone-amd64-0123456789abcdef"
	for _, name := range []string{gone + ".json", gone + ".ext4-01234567.img", gone + ".tar.corrupt", "." + gone + ".tar.tmp", "cache-sid-amd64.tar.Xy12ab"} {
		l.write("cache/"+name, "x", 0o600)
		l.age(filepath.Join(base, "cache", name), 2)
	}
	l.write("cache/README", "the admin's", 0o600)
	out, exit := l.run("instance-debootstrap", "cache", "prune")
	if exit != 0 || strings.Count(out, "\n") != 5 {
		t.Errorf("prune: exit status %d\n%s", exit, out)
	}
	left, _ := filepath.Glob(base + "/cache/*")
	if len(left) != 4 { // the tar, its sidecar, its image, README
		t.Errorf("left are %q", left)
	}
	must(t, os.Remove(filepath.Join(base, "cache/README")))
	l.ageEntry(tar, 50)
	l.cache("prune")
	if left, _ := filepath.Glob(base + "/cache/*"); len(left) != 0 {
		t.Errorf("of an expired entry there is left %q", left)
	}
}

func TestWarmAndCreateAtOnceBuildOneTree(t *testing.T) {
	l := newCacheLab(t)
	runs := filepath.Join(l.fakes, "runs")
	script, err := os.ReadFile(filepath.Join(l.fakes, "debootstrap"))
	must(t, err)
	l.fake("debootstrap", `case "$1" in --version) ;; *) echo run >>`+runs+`; sleep 1;; esac`+"\n"+string(script))
	type outcome struct {
		out string
		err error
	}
	outcomes := make(chan outcome, 2)
	for _, cmd := range []*exec.Cmd{l.command("create"), l.command("instance-debootstrap", "cache", "warm")} {
		go func() { out, err := cmd.CombinedOutput(); outcomes <- outcome{string(out), err} }()
	}
	for range 2 {
		if o := <-outcomes; o.err != nil {
			t.Errorf("%v\n%s", o.err, o.out)
		}
	}
	l.clean(0)
	l.theTar()
	if text, _ := os.ReadFile(runs); strings.Count(string(text), "run") != 1 {
		t.Errorf("bootstrapped %d times", strings.Count(string(text), "run"))
	}
}
