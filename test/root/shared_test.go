//go:build root

package root

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatEverybodyCanWriteComesIntoNoGuest makes each thing that ends in a guest, or
// runs as root, everybody's or a group's to write.
func TestWhatEverybodyCanWriteComesIntoNoGuest(t *testing.T) {
	for name, path := range map[string]func(*lab) string{
		"the cache folder": func(*lab) string { return base + "/cache" },
		"the admin's tar":  func(l *lab) string { return l.tar() },
		"a hook":           func(l *lab) string { l.hook("10-hook", "true"); return base + "/conf/hooks/10-hook" },
		"the hooks folder": func(l *lab) string { l.hook("10-hook", "true"); return base + "/conf/hooks" },
		"a folder above": func(l *lab) string {
			dir := filepath.Join(l.TempDir(), "shared")
			must(l, os.MkdirAll(dir+"/cache", 0o755))
			l.tool("cp", l.tar(), dir+"/cache")
			l.setting("CACHE_DIR=" + dir + "/cache")
			return dir
		},
		"the file of ssh keys": func(l *lab) string {
			file := filepath.Join(l.TempDir(), "keys")
			must(l, os.WriteFile(file, []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGqZ8kTg0qWn2Q9m3Yg7v0m9l7bO2wJ0S2n0nJY3c9Xy a@b\n"), 0o644))
			l.setting("SSH_AUTHORIZED_KEYS=" + file)
			return file
		},
		"the archive's keys":    func(l *lab) string { return l.siteFiles()[0] },
		"further sources":       func(l *lab) string { return l.siteFiles()[1] },
		"further sources' keys": func(l *lab) string { return l.siteFiles()[2] },
		"further sources' pins": func(l *lab) string { return l.siteFiles()[3] },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.write("default", "", 0o644)
			l.tinyTree()
			path := path(l)
			st, err := os.Stat(path)
			must(t, err)
			mode := st.Mode().Perm()
			must(t, os.Chmod(path, mode|0o002))
			t.Cleanup(func() { os.Chmod(path, mode) })
			l.fails(path + " can be written by everybody")
			l.untouched()
			must(t, os.Chmod(path, mode|0o020))
			l.setting("SHARED_FILES=refuse")
			l.fails(path + " can be written by its group")
			l.untouched()
			text, err := os.ReadFile(base + "/default")
			must(t, err)
			l.write("default", strings.ReplaceAll(string(text), "SHARED_FILES=refuse", ""), 0o644)
			log := l.create()
			if said := path + " can be written by its group"; strings.Count(log, said) != 1 {
				t.Errorf("it is not warned once, as %q\n%s", said, log)
			}
		})
	}
}

// siteFiles sets KEYRING and EXTRA_SOURCES to files, and returns them, and the key and
// the pins that belong to the latter.
func (l *lab) siteFiles() (paths []string) {
	l.Helper()
	dir := l.TempDir()
	for name, text := range map[string]string{
		"archive.gpg": "\x99\x01key", "site.gpg": "\x99\x01key", "site.pref": "Package: *\n",
		"site.sources": "Types: deb\nURIs: http://packages.example\nSuites: ./\nSigned-By: " + dir + "/site.gpg\n",
	} {
		must(l, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	l.setting("KEYRING="+dir+"/archive.gpg", "EXTRA_SOURCES="+dir+"/site.sources")
	return []string{dir + "/archive.gpg", dir + "/site.sources", dir + "/site.gpg", dir + "/site.pref"}
}

func TestVerifyAndDoctorWarnOfFilesThatAGroupCanWrite(t *testing.T) {
	l := newLab(t, 600)
	l.write("default", "BOOTLOADER=none\n", 0o644)
	l.tinyTree()
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	files := l.siteFiles()
	for _, path := range files {
		must(t, os.Chmod(path, 0o664))
	}
	for _, args := range [][]string{{"verify"}, {"instance-debootstrap", "doctor"}, {"create"}} {
		log, _ := l.run(args[0], args[1:]...)
		for i, path := range files {
			setting := map[bool]string{true: "KEYRING", false: "EXTRA_SOURCES"}[i == 0]
			if said := setting + ": " + path + " can be written by its group"; strings.Count(log, said) != 1 {
				t.Errorf("%v does not say once %q\n%s", args, said, log)
			}
		}
	}
}

func TestWhatOthersCanWriteIsRefusedInOneMessage(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.write("conf/hooks/10-net", "#!/bin/sh\n", 0o777)
	must(t, os.Chmod(base+"/cache", 0o777))
	t.Cleanup(func() { os.Chmod(base+"/cache", 0o755) })
	log := l.fails("/cache can be written by everybody")
	if !strings.Contains(log, "10-net can be written by everybody") {
		t.Error(log)
	}
	l.untouched()
}

func TestAKeyedTreeOrItsSidecarThatEverybodyCanWriteIsRefusedAndAnImageMadeAnew(t *testing.T) {
	l := newCacheLab(t)
	l.create()
	for _, glob := range []string{"cache-*.tar", "cache-*.json"} {
		path := l.oneFile(glob)
		must(t, os.Chmod(path, 0o666))
		l.fails(path + " can be written by everybody")
		must(t, os.Chmod(path, 0o600))
	}
	image := l.oneFile("cache-*.img")
	must(t, os.Chmod(image, 0o666))
	l.create()
	if st, err := os.Stat(image); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the image is still %v: %v", st.Mode(), err)
	}
}

// oneFile returns the one file of the cache that has such a name.
func (l *lab) oneFile(glob string) string {
	l.Helper()
	found, err := filepath.Glob(filepath.Join(base, "cache", glob))
	must(l, err)
	if len(found) != 1 {
		l.Fatalf("%s: %v", glob, found)
	}
	return found[0]
}
