//go:build root

package libvirt

import (
	"testing"
	"time"
)

func TestTheProbeOfKVMEndsSoonAndSaysWhy(t *testing.T) {
	start := time.Now()
	works, why := KVMWorks(t.Context(), t.TempDir())
	t.Logf("works: %v %s", works, why)
	if works == (why != "") || time.Since(start) > 2*probeTime {
		t.Errorf("works %v, why %q, after %v", works, why, time.Since(start))
	}
}
