//go:build root

package bootstrap

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/filesystem"
)

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

func TestAToolThatSaysNothingWhileItDownloadsIsSeenToGoOn(t *testing.T) {
	dir := aheadTree(t, "1G") // a filesystem where nobody else removes anything
	var log lockedBuffer
	ctx := zerolog.New(&log).WithContext(t.Context())
	b := beat{target: dir}
	stop := b.start(ctx, Mmdebstrap)
	defer stop()
	b.line("I: downloading packages with apt...")
	want := regexp.MustCompile(`"tool":"mmdebstrap","message":"I: downloading packages with apt\.\.\. \(for \d+ s, \d+ MiB so far\)"`)
	f, err := os.Create(filepath.Join(dir, "package.deb"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for end := time.Now().Add(4 * silence); !want.MatchString(log.text()); time.Sleep(200 * time.Millisecond) {
		if _, err := f.Write(make([]byte, 2<<20)); err != nil {
			t.Fatal(err)
		}
		f.Sync()
		if time.Now().After(end) {
			t.Fatalf("the log has %q", log.text())
		}
	}
}

func TestTheLogGoesOnWhileAnInitramfsIsMade(t *testing.T) {
	dir := aheadTree(t, "1G")
	t.Cleanup(func() {
		if err := filesystem.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	const hook = "#!/bin/sh\necho 'update-initramfs: Generating it'\nfor i in 1 2 3 4 5 6 7; do dd if=/zeros of=/work$i bs=1M 2>&1; sleep 1; done >/dev/null\n"
	script := `set -e; cd "$1"; mkdir -p boot etc/kernel/postinst.d proc sys dev run tmp; touch boot/vmlinuz-9; head -c 2M /dev/zero >zeros
		for f in bin lib lib64; do mkdir -p usr/$f; ln -s usr/$f $f; done
		for p in sh run-parts dd sleep; do p=$(command -v $p); cp --parents -L "$p" $(ldd "$p" | grep -o '/[^ ]*') .; done
		printf %s "$2" >etc/kernel/postinst.d/initramfs-tools; chmod 755 etc/kernel/postinst.d/initramfs-tools`
	if out, err := exec.Command("bash", "-c", script, "-", dir, hook).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var log lockedBuffer
	if err := (Spec{}).makeInitramfs(zerolog.New(&log).WithContext(t.Context()), dir, nil); err != nil {
		t.Fatal(err)
	}
	if want := regexp.MustCompile(`Generating it \(for \d+ s, \d+ MiB so far\)`); !want.MatchString(log.text()) {
		t.Errorf("the log has %s", log.text())
	}
}
