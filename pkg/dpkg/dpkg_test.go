package dpkg

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func parse(t *testing.T, text string) []Package {
	t.Helper()
	list, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestNoMorePackagesThanThereAre(t *testing.T) {
	if list, err := Parse([]byte(strings.Repeat("Package: a\nStatus: a b installed\n\n", maxPackages+1))); err == nil {
		t.Errorf("%d packages", len(list))
	}
}

const status = `Package: zlib1g
Status: install ok installed
Architecture: amd64
Source: zlib (1:1.2.13.dfsg-1)
Version: 1:1.2.13.dfsg-1+b1
Description: compression library
 Package: not-a-field

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.134

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
`

func TestInstalledPackagesAreListedInOrder(t *testing.T) {
	got := fmt.Sprintf("%+v", parse(t, status))
	if want := "[{Name:adduser Version:3.134 Arch:all Source:adduser} {Name:zlib1g Version:1:1.2.13.dfsg-1+b1 Arch:amd64 Source:zlib}]"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if got, want := Lines(parse(t, status)), "adduser 3.134 all\nzlib1g 1:1.2.13.dfsg-1+b1 amd64\n"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestDiffNamesWhatCameWentAndChanged(t *testing.T) {
	old := []Package{{"a", "1", "all", "a"}, {"b", "1", "amd64", "b"}, {"c", "1", "all", "c"}, {"d", "1", "amd64", "d"}, {"d", "1", "i386", "d"}}
	current := []Package{{"a", "1", "all", "a"}, {"b", "2", "amd64", "b"}, {"d", "1", "amd64", "d"}, {"e", "1", "all", "e"}}
	want := "[{b amd64 1 2} {c all 1 } {d i386 1 } {e all  1}]"
	if got := fmt.Sprint(Diff(old, current)); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// TestABillNamesEachPackageByItsURL, read by another reader than what writes it.
func TestABillNamesEachPackageByItsURL(t *testing.T) {
	var out, again bytes.Buffer
	for _, b := range []*bytes.Buffer{&out, &again} {
		if err := WriteBill(b, Tree{"cache-bookworm-amd64-0", "debian", "bookworm", "1"}, parse(t, status)); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != again.String() {
		t.Error("the same packages give two bills")
	}
	var bill struct {
		BOMFormat   string
		SpecVersion string
		Components  []struct{ Name, Version, Purl, Type string }
	}
	if err := json.Unmarshal(out.Bytes(), &bill); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(bill)
	for _, want := range []string{"{CycloneDX 1.", "{adduser 3.134 pkg:deb/debian/adduser@3.134?arch=all&distro=bookworm library}", "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1%2Bb1?arch=amd64&distro=bookworm"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s isn't in %s", want, got)
		}
	}
}
