package bootstrap

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// silence is how long a tool may say nothing before the log says how far it is, and patience
// how long where nothing is written either.
const (
	silence  = 5 * time.Second
	patience = 30 * time.Second
)

// beat tells how far a tool is that says nothing for a while, as mmdebstrap while it
// downloads, or what makes an initramfs, by what it has written to the target's filesystem.
type beat struct {
	target string
	mu     sync.Mutex
	text   string // its last line
	since  time.Time
	at     time.Time // when the log had the last
}

// line takes what the tool says.
func (b *beat) line(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text, b.since = withoutScript(text), time.Now()
	b.at = b.since
}

// withoutScript is a line of mmdebstrap's without the script of a hook that it runs.
func withoutScript(text string) string {
	if before, _, found := strings.Cut(text, "-hook in shell: "); found && strings.HasPrefix(before, "I: running --") {
		return before + "-hook"
	}
	return text
}

// start begins to look, until stop is called.
func (b *beat) start(ctx context.Context, tool string) (stop func()) {
	b.line("at work")
	before, told := used(b.target), int64(0)
	quit := make(chan struct{})
	go func() {
		tick := time.NewTicker(silence / 5)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			written := (used(b.target) - before) >> 20
			b.mu.Lock()
			if passed := time.Since(b.at); passed >= silence && written > told || passed >= patience {
				told, b.at = max(told, written), time.Now()
				zerolog.Ctx(ctx).Info().Str("tool", tool).Msgf("%s (for %d s, %d MiB so far)", b.text, int(time.Since(b.since).Seconds()), told)
			}
			b.mu.Unlock()
		}
	}()
	return func() { quit <- struct{}{} }
}

// used is how many bytes are in use on a folder's filesystem.
func used(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0
	}
	return int64(st.Blocks-st.Bfree) * int64(st.Bsize)
}
