//go:build root

package root

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// explained are the differences between a tree that was bootstrapped and one that was made
// of another. Packages that are configured in another order get their group numbers in
// another order, and ucf notes its files in it; an initramfs has the times of its making in it, and what is named "-old" or "-" is a copy of before the last change.
var explained = regexp.MustCompile(`^\./(boot/initrd\.img-[^ ]+|etc/(group|gshadow)-?|etc/(passwd|shadow)-|usr/bin/ssh-agent|var/lib/dpkg/status-old|var/lib/ucf/(hashfile|registry)(\.0)?|var/cache/debconf/(config|templates)\.dat-old|var/lib/apt/extended_states) `)

func TestATreeThatIsMadeOfAnotherIsWhatABootstrapMakes(t *testing.T) {
	l := newLab(t, 2048)
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	l.write("default", fmt.Sprintf("MIRROR=%s\nSUITE=%s\nKERNEL_PKG=cloud\nBOOTLOADER=grub\nPARTITION_STYLE=msdos\n", os.Getenv("TEST_MIRROR"), os.Getenv("TEST_SUITE")), 0o644)
	l.write("conf/variants.list", "default\nweb\n", 0o644)
	l.write("conf/variants/web.conf", "EXTRA_PKGS=less,openssh-server\n", 0o644)
	log := l.cache("warm")
	made := 0 // 0: dracut's
	for line := range strings.Lines(log) {
		if strings.Contains(line, "Generating /boot/initrd") && !strings.Contains(line, " MiB so far)") {
			made++
		}
	}
	if !strings.Contains(log, "making the initramfs of ") || made > 1 {
		t.Errorf("the initramfs was made %d times:\n%s", made, log)
	}
	plain := l.tars()[0]
	l.isMkinitramfsOwn(filepath.Join(base, "cache", plain))

	l.env["OS_VARIANT"], l.env["INSTANCE_OS"] = "web", "debootstrap+web"
	plan, _ := l.run("instance-debootstrap", "plan", "create")
	l.matches(plan, "not in the cache yet: to be made from .*/"+plain)
	l.matches(l.cache("warm", "--variant", "web"), "making the tree from a copy of .*/"+plain)
	derived := otherThan(l.tars(), plain)
	l.matches(l.cache("list", "--json"), `"derived_from": *{`)
	l.namesPackages(plain, derived)
	l.env["DERIVE_TREES"] = "no"
	byHTTP := strings.HasPrefix(os.Getenv("TEST_MIRROR"), "http:") // else nothing is kept
	if byHTTP {
		l.replacePackage("base-files_*.deb") // an essential one: of others apt tries another time
	}
	if log := l.cache("warm", "--variant", "web"); strings.Contains(log, "from a copy of") {
		t.Errorf("with DERIVE_TREES=no:\n%s", log)
	} else if byHTTP {
		l.matches(log, "(?s)warn: once more, with what it was given fetched anew: .*damaged, or others than the archive has now.*making the initramfs.* [1-9][0-9]* fetched .*published cache entry")
		first := filepath.Join(base, "cache", otherThan(l.tars(), plain, derived))
		sum := sumOf(l, first)
		must(t, os.Remove(first))
		l.env["TZ"], l.env["LC_ALL"] = "Pacific/Kiritimati", "C.UTF-8" // as another node may have it
		l.env["GOMAXPROCS"] = "1"                                      // and one of a single processor, where nothing is done ahead of dpkg
		l.matches(l.cache("warm", "--variant", "web"), `packages and their lists: [1-9][0-9]+ from the cache \([1-9][0-9]* MiB\), 0 fetched`)
		if sumOf(l, first) != sum {
			t.Error("two bootstraps of the same packages have not the same bytes")
		}
		delete(l.env, "TZ")
		delete(l.env, "LC_ALL")
		delete(l.env, "GOMAXPROCS")
	}
	bootstrapped := otherThan(l.tars(), plain, derived)
	for _, difference := range differences(treeLines(t, bootstrapped), treeLines(t, derived)) {
		t.Error(difference)
	}
	delete(l.env, "DERIVE_TREES")

	l.ageEntry(base+"/cache/"+plain, 20)
	before := treeLines(t, plain)
	l.matches(l.cache("warm", "--expired"), "making the tree from a copy of .*(\n.*)*renewed cache entry")
	for _, difference := range differences(before, treeLines(t, plain)) {
		t.Error("renewed: " + difference)
	}
	l.fake("mmdebstrap", `case "$1" in --version) exec /usr/bin/mmdebstrap --version;; esac; echo "E: not from another" >&2; exit 25`)
	l.cacheFails("the tree has to be bootstrapped: cron would go", "warm", "--extra-pkgs", "systemd-cron")
	l.matches(l.create(), `receipt=.*"derived_from":"`+strings.TrimSuffix(plain[len(plain)-20:], ".tar"))
}

// namesPackages: cache show and diff name the packages that dpkg-query(1) does.
func (l *lab) namesPackages(plain, derived string) {
	l.Helper()
	key := func(tar string) string { return strings.TrimSuffix(tar[len(tar)-20:], ".tar") }
	dir := l.TempDir()
	l.tool("tar", "-C", dir, "-xf", filepath.Join(base, "cache", derived), "./var/lib/dpkg")
	want := l.tool("sh", "-c", `dpkg-query --admindir="$1/var/lib/dpkg" -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture}\n' | sed -n 's/^installed //p' | LC_ALL=C sort`, "sh", dir)
	if got := strings.TrimSpace(l.cache("show", key(derived))); got != want {
		l.Errorf("cache show:\n%s\nnot\n%s", got, want)
	}
	diff := l.cache("diff", key(plain), key(derived))
	l.matches(diff, `(?m)^\+ openssh-client 1:[0-9]`)
	l.matches(diff, `(?m)^\+ openssh-server 1:[0-9]`)
	if strings.Contains(diff, "+ adduser ") || strings.Contains(diff, "- ") {
		l.Errorf("cache diff:\n%s", diff)
	}
	l.matches(l.cache("show", "--sbom", key(derived)), `"purl": "pkg:deb/debian/less@[0-9]+`)
}

// replacePackage puts another content in the place of a kept package, as if the archive had
// replaced it.
func (l *lab) replacePackage(pattern string) {
	l.Helper()
	found, err := filepath.Glob(filepath.Join(base, "cache/packages/*-"+pattern))
	if err != nil || len(found) == 0 {
		l.Fatalf("no package %s is kept: %v", pattern, err)
	}
	for _, path := range found {
		raw, err := os.ReadFile(path)
		must(l, err)
		raw[len(raw)/2] ^= 1
		parts := strings.SplitN(filepath.Base(path), "-", 3)
		parts[1] = fmt.Sprintf("%x", sha256.Sum256(raw))
		must(l, os.Remove(path))
		must(l, os.WriteFile(filepath.Join(filepath.Dir(path), strings.Join(parts, "-")), raw, 0o600))
	}
}

func TestATreeThatCannotBeMadeOfAnotherIsBootstrapped(t *testing.T) {
	l := newCacheLab(t) // whose trees have no apt
	l.setting("SECURITY_MIRROR=none")
	l.cache("warm")
	l.write("conf/variants.list", "default\nweb\n", 0o644)
	l.write("conf/variants/web.conf", "EXTRA_PKGS=nginx\n", 0o644)
	l.matches(l.cache("warm", "--variant", "web"), "warn: it is bootstrapped, and not made from .*: bootstrap trixie: .*policy-rc\\.d")
	if out := l.cache("list", "--json"); strings.Contains(out, "derived_from") || len(l.tars()) != 2 {
		t.Errorf("cache list:\n%s", out)
	}
}

func otherThan(names []string, known ...string) string {
	return names[slices.IndexFunc(names, func(name string) bool { return !slices.Contains(known, name) })]
}

// treeLines unpacks a tree and says of each file, after its name, its mode, owners, size or
// target, and the digest of its content.
func treeLines(t *testing.T, name string) (out []string) {
	t.Helper()
	dir := t.TempDir()
	script := `tar -C "$1" --numeric-owner -xf "$2" && cd "$1" && find . -type l -printf '%p %m %U:%G %y %l\n' -o -printf '%p %m %U:%G %y\n' && find . -type f -exec sha256sum {} + | sed 's|^\([0-9a-f]*\)  \(.*\)|\2 \1|'`
	text, err := exec.Command("sh", "-c", script, "sh", dir, filepath.Join(base, "cache", name)).Output()
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if !explained.MatchString(line) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	slices.Sort(out)
	if len(out) < 5000 {
		t.Fatalf("%s has %d files", name, len(out))
	}
	return out
}

// differences are the lines of either that the other hasn't.
func differences(want, got []string) (out []string) {
	for _, line := range want {
		if _, found := slices.BinarySearch(got, line); !found {
			out = append(out, "lacks "+line)
		}
	}
	for _, line := range got {
		if _, found := slices.BinarySearch(want, line); !found {
			out = append(out, "has "+line)
		}
	}
	return out[:min(len(out), 40)]
}

// A bootstrap asks the same archives, and takes minutes until it comes to the package.
func TestAPackageThatATreesOwnAptDoesNotFindIsNotBootstrappedFor(t *testing.T) {
	l := newCacheLab(t)
	l.setting("SECURITY_MIRROR=none")
	l.fake("debootstrap", `case "$1" in --version) echo "debootstrap 1.0.0"; exit;; esac
case "$*" in *ngnix*) echo "E: a bootstrap" >&2; exit 1;; esac
target=; for a; do case "$a" in `+base+`/*) target=$a;; esac; done
for f in /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*'); do mkdir -p "$target${f%/*}" && cp -L "$f" "$target$f" || exit; done
mkdir -p "$target"/{etc,proc,sys,run,usr/bin,usr/sbin}
echo 'root:x:0:0:root:/root:/bin/bash' >"$target/etc/passwd"; echo 'root:*:19000:0:99999:7:::' >"$target/etc/shadow"
printf '%s\n' '#!/bin/sh' 'case "$*" in *" install "*) echo "E: Unable to locate package ngnix"; exit 100;; esac' >"$target/usr/bin/apt-get"
chmod 755 "$target/usr/bin/apt-get"`)
	l.cache("warm")
	l.cacheFails("E: Unable to locate package ngnix; EXTRA_PKGS names ngnix: correct it", "warm", "--extra-pkgs", "ngnix")
}

// isMkinitramfsOwn holds the initramfs of a tree against the one that its mkinitramfs makes there
// without us.
func (l *lab) isMkinitramfsOwn(tar string) {
	l.Helper()
	dir := l.TempDir()
	const script = `set -e
mkdir root && tar --extract --file="$1" --directory=root && cd root
[ -x usr/sbin/mkinitramfs ] || exit 0 # dracut's
[ -z "$(ls usr/share/initramfs-tools/conf-hooks.d)" ] || { echo "this is left: $(ls usr/share/initramfs-tools/conf-hooks.d)"; exit 1; }
mount -t proc proc proc
trap 'umount proc' EXIT
kernel=$(ls lib/modules)
chroot . mkinitramfs -o /own "$kernel"
chroot . unmkinitramfs /own /unpacked-own
chroot . unmkinitramfs "/boot/initrd.img-$kernel" /unpacked
find unpacked -type f | wc -l >&2
diff --recursive --no-dereference unpacked unpacked-own`
	cmd := exec.Command("unshare", "--mount", "bash", "-c", script, "bash", tar)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		l.Errorf("its initramfs and mkinitramfs' own: %v: %s", err, out)
	} else {
		l.Logf("files in the initramfs: %s", out)
	}
}
