//go:build root

package bootstrap

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
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
