package doctor

import "testing"

// TestAFindingHasNothingThatATerminalObeys: a file over which somebody left a loop device, and
// more that doctor finds, may be called anything.
func TestAFindingHasNothingThatATerminalObeys(t *testing.T) {
	var d diagnosis
	d.add("loop devices", Warning, "/dev/loop0 keeps %s", "/srv/\x1b[2J\r\u009bx\ny")
	if want := `/dev/loop0 keeps /srv/\x1b[2J\x0d\x9bx; y`; d.findings[0].Text != want {
		t.Errorf("%q, not %q", d.findings[0].Text, want)
	}
}
