package tell

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func TestAWaitIsToldAfterTwoSecondsAndThenEveryThirty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		ctx := zerolog.New(&log).WithContext(t.Context())
		var wait Wait
		for range 70 {
			wait.For(ctx, "%s to be free", "/dev/a")
			time.Sleep(time.Second)
		}
		want := `{"level":"info","waits":true,"message":"waiting for /dev/a to be free (2 s so far)"}
{"level":"info","waits":true,"message":"waiting for /dev/a to be free (32 s so far)"}
{"level":"info","waits":true,"message":"waiting for /dev/a to be free (62 s so far)"}
`
		if got := log.String(); got != want {
			t.Errorf("%s", strings.ReplaceAll(got, `"`, `'`))
		}
	})
}

func TestACopyIsToldEveryTenSecondsOrFiveTimesASecondWhereSomebodyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := func(ctx context.Context, a *Amount, pause time.Duration) string {
			var log bytes.Buffer
			ctx = zerolog.New(&log).WithContext(ctx)
			to := a.Writer(ctx, io.Discard)
			for range 25 {
				to.Write(make([]byte, 4<<20))
				time.Sleep(pause)
			}
			return log.String()
		}
		want := `{"level":"info","copied":true,"message":"wrote 44 MiB so far"}
{"level":"info","copied":true,"message":"wrote 84 MiB so far"}
`
		if got := told(t.Context(), &Amount{What: "wrote"}, time.Second); got != want {
			t.Errorf("%s", got)
		}
		want = `{"level":"info","copied":true,"message":"copied 24 of 50 MiB (48 %)"}
{"level":"info","copied":true,"message":"copied 44 of 50 MiB (88 %)"}
{"level":"info","copied":true,"message":"copied 64 of 50 MiB (100 %)"}
{"level":"info","copied":true,"message":"copied 84 of 50 MiB (100 %)"}
`
		if got := told(Watched(t.Context()), &Amount{What: "copied", TotalBytes: 50 << 20}, 40*time.Millisecond); got != want {
			t.Errorf("%s", got)
		}
	})
}
