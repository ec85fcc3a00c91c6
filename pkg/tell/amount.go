package tell

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
)

// Amount is a copy that goes on; its zero value begins with the first call.
type Amount struct {
	What       string // has been done with so much, such as "copied"
	TotalBytes int64  // 0 isn't known
	bytes      int64
	told       time.Time
}

// Times of Amount: in a log, and where somebody watches.
const (
	amountAgain = 10 * time.Second
	amountWhen  = 200 * time.Millisecond
)

// Copied is the field of events that tell how far a copy is.
const Copied = "copied"

type watchedKey struct{}

// Watched is a context whose log somebody watches, who is told more often.
func Watched(ctx context.Context) context.Context {
	return context.WithValue(ctx, watchedKey{}, true)
}

// Add tells how far it is now and then: every 10 s, and 5 times a second where somebody
// watches.
func (a *Amount) Add(ctx context.Context, bytes int64) {
	a.bytes += bytes
	now := time.Now()
	if a.told.IsZero() {
		a.told = now
	}
	again := amountAgain
	if ctx.Value(watchedKey{}) != nil {
		again = amountWhen
	}
	if now.Sub(a.told) < again {
		return
	}
	a.told = now
	zerolog.Ctx(ctx).Info().Bool(Copied, true).Msg(a.String())
}

// String says how far it is.
func (a *Amount) String() string {
	if a.TotalBytes <= 0 {
		return fmt.Sprintf("%s %d MiB so far", a.What, a.bytes>>20)
	}
	return fmt.Sprintf("%s %d of %d MiB (%d %%)", a.What, a.bytes>>20, a.TotalBytes>>20, 100*min(a.bytes, a.TotalBytes)/a.TotalBytes)
}

// Reader adds what is read.
func (a *Amount) Reader(ctx context.Context, r io.Reader) io.Reader { return amountReader{ctx, a, r} }

type amountReader struct {
	ctx context.Context
	a   *Amount
	r   io.Reader
}

func (r amountReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.a.Add(r.ctx, int64(n))
	return n, err
}

// Writer adds what is written.
func (a *Amount) Writer(ctx context.Context, w io.Writer) io.Writer { return amountWriter{ctx, a, w} }

type amountWriter struct {
	ctx context.Context
	a   *Amount
	w   io.Writer
}

func (w amountWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.a.Add(w.ctx, int64(n))
	return n, err
}
