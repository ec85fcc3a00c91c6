//go:build root

package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// aheadTree is an empty tree in memory, with its folders of packages.
func aheadTree(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	must(t, errors.Join(os.MkdirAll(dir+"/"+archives, 0o755), os.MkdirAll(dir+"/"+ready, 0o755)))
	return dir
}

// debPackage makes a package with some files, compressed as -Z says.
func debPackage(t *testing.T, compression string) (path string) {
	t.Helper()
	dir := t.TempDir()
	must(t, errors.Join(os.MkdirAll(dir+"/x/DEBIAN", 0o755), os.MkdirAll(dir+"/x/usr/share/x", 0o755),
		os.WriteFile(dir+"/x/DEBIAN/control", []byte("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"), 0o644),
		os.WriteFile(dir+"/x/usr/share/x/zeros", make([]byte, 300_001), 0o600),
		os.Symlink("zeros", dir+"/x/usr/share/x/link")))
	if out, err := exec.Command("dpkg-deb", "-Z"+compression, "--build", dir+"/x", dir+"/x.deb").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir + "/x.deb"
}

// asDpkgSees is what dpkg reads of a package.
func asDpkgSees(t *testing.T, path string) []byte {
	t.Helper()
	var all []byte
	for _, part := range []string{"--ctrl-tarfile", "--fsys-tarfile"} {
		out, err := exec.Command("dpkg-deb", part, path).Output()
		must(t, err)
		all = append(all, out...)
	}
	return all
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	must(t, errors.Join(err, os.WriteFile(to+".partial", raw, 0o644), os.Rename(to+".partial", to)))
}

// during does something while packages are decompressed, until until says that it is over.
func during(t *testing.T, tree string, do func(), until func() bool) {
	t.Helper()
	root, err := os.OpenRoot(tree)
	must(t, err)
	defer root.Close()
	stop := startAhead(t.Context(), root)
	defer stop()
	do()
	for begin := time.Now(); !until(); time.Sleep(tick) {
		if time.Since(begin) > 20*time.Second {
			t.Error("it took too long")
			return
		}
	}
}

func size(path string) int64 {
	st, err := os.Lstat(path)
	if err != nil {
		return -1
	}
	return st.Size()
}

func TestAPackageThatIsDecompressedAheadIsTheSameForDpkg(t *testing.T) {
	for _, compression := range []string{"xz", "gzip", "zstd"} {
		tree, from := aheadTree(t, "1G"), debPackage(t, compression)
		for _, folder := range []string{archives, later} {
			at := filepath.Join(tree, folder, compression+folder[len(folder)-5:]+".deb")
			to := at
			if folder == later { // beside it, since apt has yet to look at its size
				to = filepath.Join(tree, ready, filepath.Base(at))
			}
			during(t, tree, func() { copyTo(t, from, at) }, func() bool { return size(to) > 300_000 })
			if !bytes.Equal(asDpkgSees(t, to), asDpkgSees(t, from)) {
				t.Errorf("%s: dpkg sees another package", to)
			}
			if folder == later && size(at) != size(from) {
				t.Errorf("%s: of %d bytes, not %d", at, size(at), size(from))
			}
		}
		if left, _ := filepath.Glob(tree + "/" + scratchName + "/*.deb"); len(left) > 0 {
			t.Errorf("left is %q", left)
		}
	}
}

func TestAPackageThatIsReadyWhenDpkgIsAtWorkGoesWhereDpkgLooks(t *testing.T) {
	tree, from := aheadTree(t, "1G"), debPackage(t, "xz")
	must(t, os.Remove(tree+"/"+ready))
	copyTo(t, from, tree+"/"+archives+"/y.deb")
	root, err := os.OpenRoot(tree)
	must(t, err)
	defer root.Close()
	copyTo(t, from, tree+"/"+later+"/y.deb")
	a := &ahead{root: root, seen: map[string]bool{}}
	must(t, a.unpack(t.Context(), "y.deb", later))
	if at := tree + "/" + archives + "/y.deb"; size(at) < 300_000 || !bytes.Equal(asDpkgSees(t, at), asDpkgSees(t, from)) {
		t.Errorf("%s is of %d bytes", at, size(at))
	}
}

// apt-get removes a package whose size isn't the archive's, also where it only prints what it
// would fetch (pkgAcqArchive::QueueNext), as this stand-in does.
func TestWhatIsFetchedAheadLeavesTheEssentialPackagesAlone(t *testing.T) {
	tree, tools := aheadTree(t, "1G"), t.TempDir()
	plain := tree + "/" + archives + "/essential.deb"
	must(t, errors.Join(os.WriteFile(plain, []byte("plain"), 0o644), os.WriteFile(tree+"/"+pkgcache, nil, 0o644),
		os.WriteFile(tools+"/apt-get", []byte("#!/bin/sh\nat="+tree+"/"+archives+"\nfor a; do case $a in Dir::Cache::archives=*) at=${a#*=}; esac; done\necho called >>"+tools+"/calls\nrm -f \"$at\"/*.deb\n"), 0o755)))
	script := exec.Command("bash", "-c", Spec{Suite: "trixie", NodeArch: "amd64"}.fetchLater([]string{"ssh"}), "fetch", tree)
	script.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "MMDEBSTRAP_APT_CONFIG=/dev/null")
	out, err := script.CombinedOutput()
	must(t, err)
	if calls, err := os.ReadFile(tools + "/calls"); err != nil || string(calls) != "called\ncalled\n" {
		t.Errorf("%v: apt-get was %q\n%s", err, calls, out)
	}
	if size(plain) != 5 {
		t.Error("the essential package is gone")
	}
}

// Dir::Cache::pkgcache "", as in images for containers.
func TestMmdebstrapDoesNotWaitForAnAptThatKeepsNoCache(t *testing.T) {
	tree := aheadTree(t, "1G")
	must(t, os.WriteFile(tree+"/"+scratchName+"/"+fetchScript, []byte(Spec{Suite: "trixie", NodeArch: "amd64"}.fetchLater(nil)), 0o644))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, hook := range prefetch() {
		_, script, _ := strings.Cut(hook, "=")
		cmd := exec.CommandContext(ctx, "sh", "-c", script, "sh", tree)
		cmd.Env = append(os.Environ(), "MMDEBSTRAP_APT_CONFIG="+t.TempDir()+"/apt.conf")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// apt fetches a package again whose size isn't the archive's.
func TestAPackageThatAptHasYetToLookAtStaysAsItWasFetched(t *testing.T) {
	tree, from := aheadTree(t, "1G"), debPackage(t, "xz")
	fetched := tree + "/" + archives + "/z.deb"
	copyTo(t, from, tree+"/"+later+"/z.deb")
	_, script, _ := strings.Cut(prefetch()[1], "=")
	hook := exec.Command("sh", "-c", script, "sh", tree)
	hook.Env = append(os.Environ(), "MMDEBSTRAP_APT_CONFIG="+t.TempDir()+"/apt.conf")
	if out, err := hook.CombinedOutput(); err != nil || size(fetched) != size(from) {
		t.Fatalf("%v, of %d bytes\n%s", err, size(fetched), out)
	}
	during(t, tree, func() {}, func() bool { return size(tree+"/"+ready+"/z.deb") > 300_000 || size(fetched) != size(from) })
	if size(fetched) != size(from) {
		t.Errorf("it has %d bytes, not %d", size(fetched), size(from))
	}
}

func TestWhatCantBeDecompressedAheadIsLeftToDpkg(t *testing.T) {
	whole, err := os.ReadFile(debPackage(t, "xz"))
	must(t, err)
	plain, err := os.ReadFile(debPackage(t, "none"))
	must(t, err)
	broken := bytes.Clone(whole)
	copy(broken[len(broken)-200:], bytes.Repeat([]byte{0xff}, 150))
	for name, raw := range map[string][]byte{
		"empty": nil, "short": whole[:70], "no package": bytes.Repeat([]byte("x"), 1000), "endless": []byte(fmt.Sprintf("!<arch>\n%-48s%-10s`\n", "x", "-60")),
		"half": whole[:len(whole)/2], "broken": broken, "plain": plain,
	} {
		tree := aheadTree(t, "1G")
		at := tree + "/" + archives + "/x.deb"
		during(t, tree, func() {
			must(t, os.Symlink("/etc/passwd", tree+"/"+archives+"/link.deb"))
			must(t, errors.Join(os.WriteFile(at+".new", raw, 0o644), os.Rename(at+".new", at)))
			copyTo(t, debPackage(t, "xz"), tree+"/"+archives+"/next.deb")
		}, func() bool { return size(tree+"/"+archives+"/next.deb") > 300_000 })
		if now, err := os.ReadFile(at); err != nil || !bytes.Equal(now, raw) {
			t.Errorf("%s: %v, of %d bytes, not %d", name, err, len(now), len(raw))
		}
		if left, _ := filepath.Glob(tree + "/" + scratchName + "/*.deb"); len(left) > 0 {
			t.Errorf("%s: left is %q", name, left)
		}
	}
}

func TestNothingIsDecompressedAheadWhereThereIsLittleRoom(t *testing.T) {
	tree, from := aheadTree(t, "800M"), debPackage(t, "xz")
	must(t, os.WriteFile(tree+"/full", make([]byte, 300<<20), 0o644))
	root, err := os.OpenRoot(tree)
	must(t, err)
	defer root.Close()
	at := tree + "/" + archives + "/x.deb"
	copyTo(t, from, at)
	a := &ahead{root: root, seen: map[string]bool{}}
	if err := a.unpack(t.Context(), "x.deb", archives); !errors.Is(err, unix.ENOSPC) || size(at) != size(from) {
		t.Errorf("500 MiB are free: %v", err)
	}
	must(t, os.Remove(tree+"/full"))
	if err := a.unpack(t.Context(), "x.deb", archives); err != nil || size(at) == size(from) {
		t.Errorf("800 MiB are free: %v", err)
	}
}

func TestAnAptThatFailsBeforeItHasItsListsEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	spec := Spec{Tool: Mmdebstrap, Suite: "trixie", Mirror: "http://127.0.0.1:9/debian", NodeArch: "amd64", Security: SecurityNone,
		Files: map[string]string{"/etc/apt/sources.list.d/x.list": "garbage\n"}}
	tool, err := Choose(ctx, spec)
	must(t, err)
	if _, err = Run(ctx, tool, spec, t.TempDir()); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "x.list") {
		t.Error(err)
	}
}
