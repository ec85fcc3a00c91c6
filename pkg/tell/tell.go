// Package tell writes messages for the admin to the log of a context.
package tell

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
)

// Warn tells of what the admin should look at, though the run goes on.
func Warn(ctx context.Context, format string, args ...any) {
	zerolog.Ctx(ctx).Warn().Msgf(format, args...)
}

// Info tells what was found or done.
func Info(ctx context.Context, format string, args ...any) {
	zerolog.Ctx(ctx).Info().Msgf(format, args...)
}

// Times of Wait.
const (
	waitFirst = 2 * time.Second
	waitAgain = 30 * time.Second
)

// Wait is one that goes on; its zero value begins with the first call.
type Wait struct{ began, told time.Time }

// For tells for what a run waits, after 2 s and then every 30 s. It is called again and
// again while it does.
func (w *Wait) For(ctx context.Context, format string, args ...any) {
	now := time.Now()
	if w.began.IsZero() {
		w.began = now
	}
	if now.Sub(w.began) < waitFirst || now.Sub(w.told) < waitAgain {
		return
	}
	w.told = now
	text := fmt.Sprintf(format, args...)
	zerolog.Ctx(ctx).Info().Bool(Waits, true).Msgf("waiting for %s (%d s so far)", text, int(now.Sub(w.began).Seconds()))
}

// Waits is the field of events that tell for what a run waits.
const Waits = "waits"

// MiB writes a size in bytes, with two decimals when it isn't a whole number of MiB.
func MiB(bytes int64) string {
	if bytes%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%.2f MiB", float64(bytes)/(1<<20))
}
