package tell

import (
	"bytes"
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
