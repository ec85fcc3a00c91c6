package doctor

import "testing"

func TestLVMsFirstExpressionThatMatchesDecides(t *testing.T) {
	for _, c := range []struct {
		filter  string
		rejects bool
	}{
		{`global_filter=["a|.*|"]`, false},
		{`global_filter="a|.*|"`, false},
		{`filter=["r|/dev/cdrom|","r|/dev/drbd[0-9]+|"]`, true},
		{`global_filter=["r|^/dev/drbd[0-9]+$|"]`, true},
		{`filter=["a|^/dev/sd|","r|.*|"]`, true},
		{`filter=["a/drbd/","r/.*/"]`, false},
		{`filter=["r(^/dev/drbd)"]`, true},
		{`filter=["r|/dev/drbd\\d+|"]`, true},
		{`filter=["r|[|","r|.|"]`, true},
		{`filter="r"`, false},
	} {
		if got := lvmRejects(c.filter, "/dev/drbd0"); got != c.rejects {
			t.Errorf("%s: %v", c.filter, got)
		}
	}
}
