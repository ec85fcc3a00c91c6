// Package tell writes messages for the admin to the log of a context.
package tell

import (
	"context"
	"fmt"

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

// MiB writes a size in bytes, with two decimals when it isn't a whole number of MiB.
func MiB(bytes int64) string {
	if bytes%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%.2f MiB", float64(bytes)/(1<<20))
}
