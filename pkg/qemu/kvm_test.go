package qemu

import "testing"

func TestAKVMOfSoftwareIsNotTakenForTheProcessors(t *testing.T) {
	for text, want := range map[string]bool{
		"processor\t: 0\nflags\t\t: fpu vme vmx est\nvmx flags\t: ept\n":     true,
		"processor\t: 0\nflags\t\t: fpu 3dnowprefetch svm\nbugs\t\t:\n":      true,
		"processor\t: 0\nflags\t\t: fpu hypervisor svm_lock\nbugs\t: vmx \n": false,
		"": false,
	} {
		if got := virtualizes().MatchString(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
