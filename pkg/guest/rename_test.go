package guest

import "testing"

func TestHostsEntriesOfTheOldNameAreRenamed(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1\told.example old\n":                   "192.0.2.1\tnew.example new\n",
		"192.0.2.1 old.example  old # old.example\n":     "192.0.2.1 new.example  new # old.example\n",
		"192.0.2.2 old\n":                                "192.0.2.2 old\n",
		"192.0.2.3 gold.example old.example.org\n":       "192.0.2.3 gold.example old.example.org\n",
		"# 192.0.2.1 old.example\n127.0.0.1 localhost\n": "# 192.0.2.1 old.example\n127.0.0.1 localhost\n",
		"::1 x old.example":                              "::1 x new.example",
		"":                                               "",
	} {
		if got := renameInHosts(in, "old.example", "new.example"); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
