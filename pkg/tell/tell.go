// Package tell writes messages for the admin to the log of a context.
package tell

import (
	"context"

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
