package bootstrap

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// mkinitramfs looks into /proc/swaps for where the machine resumes from.
func TestAnInitramfsDoesNotLookForTheNodesSwap(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	must(t, noResume(root))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("a tree without initramfs-tools got %v, %v", entries, err)
	}
	const conf = "etc/initramfs-tools/conf.d"
	must(t, errors.Join(root.MkdirAll(conf, 0o755), noResume(root)))
	if got, err := root.ReadFile(conf + "/resume"); err != nil || string(got) != "RESUME=none\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWhatMkinitramfsAsksIsAnsweredAsByThePrograms(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/a/b", 0o755))
	must(t, errors.Join(os.WriteFile(dir+"/a/file.ko", nil, 0o644), os.Symlink("a", dir+"/link"), os.Symlink("none", dir+"/dangling")))
	// Each line is run with the functions and without them; $d is the folder.
	const questions = `readlink -f /bin
readlink -f /sbin
readlink -f "$d/link/file.ko"
readlink -f /bin /bin
readlink
realpath -ms "//lib/modules/x/kernel/mii.ko"
realpath -ms "/$d/a/file.ko"
realpath -ms "/$d/link/file.ko"
realpath -ms "/$d/a/../a/./file.ko"
realpath -ms "/$d/a/.."
realpath -ms "/$d/a/."
realpath -ms "/$d/a/"
realpath -ms "/$d//a"
realpath -ms "///$d/a"
realpath -ms "/with a space/x"
realpath -ms relative/x
realpath -ms /
realpath -ms //
realpath -ms ""
realpath -ms /a /b
realpath -ms
realpath -s "$d/a/file.ko"
realpath -s "$d/link/file.ko"
realpath -s "/$d/a/file.ko"
realpath -s "$d/link"
realpath -s "$d/dangling"
realpath -s "$d/none"
realpath -s "$d/none/x"
realpath "$d/link/file.ko"
realpath
mkdir -p "$d/a/b"
mkdir -p "$d/new/er"
mkdir -p "$d/a/file.ko"
mkdir -p "$d/a" "$d/newest"
mkdir "$d/a"
mkdir -p
`
	byItself := 0
	for question := range strings.Lines(questions) {
		ask := func(functions string) string {
			sh := exec.Command("sh", "-c", functions+question+`echo "status $?"; ls "$d"`)
			sh.Env = append(os.Environ(), "d="+dir, "LC_ALL=C")
			out, err := sh.CombinedOutput()
			must(t, err)
			must(t, errors.Join(os.RemoveAll(dir+"/new"), os.RemoveAll(dir+"/newest")))
			return string(out)
		}
		if quick, slow := ask(quickFunctions), ask(""); quick != slow {
			t.Errorf("%s: %q, and by the programs %q", strings.TrimSpace(question), quick, slow)
		}
		if !strings.Contains(ask(quickFunctions+"PATH=/none; ls() { :; }\n"), "not found") {
			byItself++
		}
	}
	if byItself != 10 {
		t.Errorf("%d questions need no program", byItself)
	}
}
