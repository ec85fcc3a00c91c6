//go:build root

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAThousandLinksToOneFileAreNotReadAThousandTimes has a guest of a few KiB that
// would cost minutes: 1,000 links to one file of 4 MiB.
func TestAThousandLinksToOneFileAreNotReadAThousandTimes(t *testing.T) {
	r, top, _ := tree(t, "etc/default/grub.d")
	dir := filepath.Join(top, "etc/default/grub.d")
	must(t, os.WriteFile(dir+"/000", []byte(strings.Repeat("a ", 2<<20)), 0o644))
	for i := 1; i < 1000; i++ {
		must(t, os.Link(dir+"/000", fmt.Sprintf("%s/%03d", dir, i)))
	}
	begin := time.Now()
	_, err := ReplaceIDs(r, map[string]string{"11111111-2222-3333-4444-555555555555": "x"})
	fails(t, err, "more than 32 MiB")
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	must(t, os.Link(dir+"/000", dir+"/1000"))
	_, err = ReplaceIDs(r, nil)
	fails(t, err, "more than 1000")
}

func TestWhatIsDoneToAGuestEndsWithItsContext(t *testing.T) {
	_, top, _ := tree(t, "etc/hostname=guest", "etc/acpi/events/power=x", "usr/sbin/acpid=")
	ctx, cancel := context.WithCancelCause(t.Context())
	r, err := OpenRoot(ctx, top)
	must(t, err)
	defer r.Close()
	ended := errors.New("interrupted by SIGTERM")
	cancel(ended)
	for name, look := range map[string]func() error{
		"read":   func() error { _, err := r.ReadFile("/etc/hostname", 10); return err },
		"folder": func() error { _, err := r.ReadDir("/etc"); return err },
		"write":  func() error { return r.WriteFile("/etc/hostname", nil, 0o644) },
		"ids":    func() error { _, err := ReplaceIDs(r, map[string]string{"a": "b"}); return err },
		"rename": func() error { return Rename(r, "guest", "other") },
	} {
		if err := look(); !errors.Is(err, ended) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAllThatIsReadOfOneGuestHasABound(t *testing.T) {
	r, _, _ := tree(t, "file=12345")
	r.read.Store(maxRead - 9)
	_, err := r.ReadFile("/file", 10)
	must(t, err)
	_, err = r.ReadFile("/file", 10)
	fails(t, err, "more than 512 MiB")
	r.paths.Store(maxPaths - 1)
	_, err = r.Stat("/file")
	must(t, err)
	_, err = r.Stat("/file")
	fails(t, err, "more than 200000 paths")
	many, top, _ := tree(t, "etc")
	for i := range 10_001 {
		must(t, os.Symlink("x", fmt.Sprintf("%s/etc/%d", top, i)))
	}
	_, err = many.ReadDir("/etc")
	fails(t, err, "more than 10000 entries")
}

func TestAHostNameOfAMegabyteIsNotRepeatedInAMessage(t *testing.T) {
	for _, name := range []string{strings.Repeat("a", 900_000), "\x1b[2J" + strings.Repeat("\a", 1000)} {
		r, _, _ := tree(t, "etc/hostname="+name)
		err := Rename(r, "guest", "other")
		fails(t, err, "it was renamed inside")
		if text := err.Error(); len(text) > 1500 || strings.ContainsAny(text, "\x1b\a") {
			t.Errorf("%d bytes: %.400q", len(text), text)
		}
	}
}

func TestUnitsThatNameEachOtherAreEachEnabledOnce(t *testing.T) {
	all := ""
	for i := range 12 {
		all += fmt.Sprintf(" u%d.service", i)
	}
	var files []string
	for i := range 12 {
		files = append(files, fmt.Sprintf("usr/lib/systemd/system/u%d.service=[Install]\nAlso=%s\n", i, all))
	}
	r, _, _ := tree(t, files...)
	begin := time.Now()
	must(t, EnableUnit(r, "u0.service"))
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestARenameThatWasCutOffIsFinishedByTheNext(t *testing.T) {
	r, top, _ := tree(t, "etc/hostname=new.example\n", "etc/hosts=127.0.1.1 old.example old\n", "etc/mailname=old.example\n")
	must(t, Rename(r, "old.example", "new.example"))
	for name, want := range map[string]string{"hostname": "new.example\n", "hosts": "127.0.1.1 new.example new\n", "mailname": "new.example\n"} {
		if got, err := os.ReadFile(top + "/etc/" + name); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
