package debootstrap

import "testing"

func TestWhichDisplaysReachBeyondTheNode(t *testing.T) {
	for bind, want := range map[string]bool{
		"": false, "None": false, "127.0.0.1": false, "127.0.0.5": false, "::1": false, "lo": false, "/var/run/vnc": false,
		"0.0.0.0": true, "192.0.2.1": true, "::": true, "eth0": true,
	} {
		if reachesFurther(bind) != want {
			t.Errorf("%q: %v", bind, !want)
		}
	}
}
