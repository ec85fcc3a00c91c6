//go:build root

package qemu

import (
	"strings"
	"testing"
	"time"
)

// Why KVM doesn't work is no assertion of QEMU's source.
func TestTheProbeOfKVMEndsSoonAndSaysWhyInOneSentence(t *testing.T) {
	start := time.Now()
	err := KVMWorks(t.Context(), "amd64", t.TempDir())
	t.Logf("after %v: %v", time.Since(start), err)
	if time.Since(start) > 2*kvmProbeTime || err != nil && (!strings.Contains(err.Error(), kvmDevice) || strings.ContainsAny(err.Error(), "\n;")) {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
