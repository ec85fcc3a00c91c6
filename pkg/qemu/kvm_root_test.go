//go:build root

package qemu

import (
	"testing"
	"time"
)

func TestTheProbeOfKVMEndsSoonAndSaysWhy(t *testing.T) {
	start := time.Now()
	err := KVMWorks(t.Context(), t.TempDir())
	t.Logf("after %v: %v", time.Since(start), err)
	if time.Since(start) > 2*kvmProbeTime || err != nil && err.Error() == "" {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
