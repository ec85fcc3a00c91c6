package ubuntu

import "testing"

func TestASuiteIsBeforeOneOrSinceIt(t *testing.T) {
	for _, c := range []struct {
		suite, first  string
		before, since bool
	}{
		{"noble", "noble", false, true},
		{"jammy", "noble", true, false},
		{"resolute", "noble", false, true},
		{"warty", "hoary", true, false},
		{"bookworm", "noble", false, false}, // Debian's
		{"zzz", "noble", false, false},
	} {
		if before, since := Before(c.suite, c.first), Since(c.suite, c.first); before != c.before || since != c.since {
			t.Errorf("%s is before %s: %v, since it: %v", c.suite, c.first, before, since)
		}
	}
}
