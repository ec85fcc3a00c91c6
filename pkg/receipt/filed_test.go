package receipt

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"instance-debootstrap/pkg/dpkg"
)

func filed(instance string, packages ...dpkg.Package) Filed {
	return Filed{Instance: instance, Receipt: Receipt{Format: 1, Instance: instance, Nodes: &Nodes{Primary: "node1"}}, Packages: packages}
}

func names[T any](all []T, name func(T) string) (out []string) {
	for _, x := range all {
		out = append(out, name(x))
	}
	return out
}

func TestWhatANodeKeepsOfGuestsFollowsTheirNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.test", "b.test", "b.test"} {
		if err := filed(name).Keep(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := RenameFiled(dir, "", "a.test", "c.test"); err != nil {
		t.Fatal(err)
	}
	if err := RenameFiled(dir, "", "nobody.test", "b.test"); err != nil { // b.test is another guest now
		t.Fatal(err)
	}
	all, err := ReadFiled(dir)
	if got := names(all, func(k Filed) string { return k.Instance }); err != nil || !slices.Equal(got, []string{"c.test"}) {
		t.Fatalf("kept are %q, %v", got, err)
	}
	for range 2 {
		if err := Forget(dir, "c.test"); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := filepath.Glob(dir + "/receipts/*"); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
}

// An import of a backup of a.test, as b.test, calls rename from the one name to the other.
func TestAnImportUnderAnotherNameTakesNoReceiptFromTheInstanceThatWasExported(t *testing.T) {
	dir := t.TempDir()
	for name, uuid := range map[string]string{"a.test": "1", "b.test": "2"} {
		k := filed(name)
		k.UUID = uuid
		if err := k.Keep(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, rename := range [][4]string{{"2", "a.test", "b.test", "a.test"}, {"1", "a.test", "c.test", "c.test"}} { // then that instance itself
		if err := RenameFiled(dir, rename[0], rename[1], rename[2]); err != nil {
			t.Fatal(err)
		}
		all, err := ReadFiled(dir)
		if got := names(all, func(k Filed) string { return k.Instance }); err != nil || !slices.Equal(got, rename[3:]) {
			t.Fatalf("kept are %q, %v", got, err)
		}
	}
}

func TestADamagedReceiptIsNamedAndTheOthersAreRead(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.test", "b.test"} {
		if err := filed(name).Keep(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/receipts/a.test.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := ReadFiled(dir)
	if len(all) != 1 || all[0].Instance != "b.test" || err == nil {
		t.Errorf("read are %v, %v", all, err)
	}
}

func TestAuditFindsWhatIsOlder(t *testing.T) {
	old := dpkg.Package{Name: "libssl3", Source: "openssl", Version: "3.0.9-1", Arch: "amd64"}
	all := []Filed{
		filed("old.test", old),
		filed("new.test", dpkg.Package{Name: "libssl3", Source: "openssl", Version: "3.0.17-1~deb12u2", Arch: "amd64"}),
		filed("none.test", dpkg.Package{Name: "bash", Source: "bash", Version: "5.2-2+b1", Arch: "amd64"}),
		filed("odd.test", dpkg.Package{Name: "libssl3", Source: "openssl", Version: "::", Arch: "amd64"}),
	}
	for text, want := range map[string][]string{
		"openssl<3.0.17-1~deb12u2": {"old.test", "odd.test"},
		"libssl3<3.0.17-1":         {"old.test", "new.test", "odd.test"},
		"libssl3":                  {"old.test", "new.test", "odd.test"},
		"bash<5.2-2":               nil,
		"bash<5.2-2+b2":            {"none.test"},
	} {
		w, err := ParseWanted(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(Audit(all, []Wanted{w}), func(f Found) string { return f.Instance }); !slices.Equal(got, want) {
			t.Errorf("%s is found in %q, not in %q", text, got, want)
		}
	}
	if n := len(Audit(all, nil)); n != 4 {
		t.Errorf("nothing wanted finds %d of 4", n)
	}
	for _, text := range []string{"", "<1", "a<", "a<b c", "a=1", "a>1", "a<<1"} {
		if w, err := ParseWanted(text); err == nil {
			t.Errorf("%q is taken for %q", text, w)
		}
	}
	if got := Gone(all, []string{"new.test", "none.test", "odd.test"}); !slices.Equal(got, []string{"old.test"}) {
		t.Errorf("gone are %q", got)
	}
}

// A run that is killed would leave it for ever, where no other of the instance comes.
func TestAReceiptIsKeptWithoutAnotherNameMeanwhile(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/receipts/a.test.json.new/occupied", 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := filed("a.test").Keep(dir); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := ReadFiled(dir); len(all) != 1 || err != nil {
		t.Errorf("%v, %v", all, err)
	}
}
