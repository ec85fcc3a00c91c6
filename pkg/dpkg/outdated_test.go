package dpkg

import (
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatTheArchiveHasInALaterVersionIsOutdated(t *testing.T) {
	n := NewNewest("amd64")
	for _, list := range []string{
		"Package: a\nVersion: 1.0-1\nDescription: x\n Package: b\n\nPackage: b\nVersion: 1:0.9\n\nPackage: c\nVersion: 2.0~rc1\n\nPackage: d\nVersion: 3\n",
		"", "Package: a\nVersion: 1.0-1+deb12u1\n\nPackage: c\nVersion: 1\n\n\n",
	} {
		if err := n.Add(strings.NewReader(list)); err != nil {
			t.Fatal(err)
		}
	}
	installed := []Package{{"a", "1.0-1", "amd64", "a"}, {"b", "2.0", "all", "b"}, {"c", "2.0", "amd64", "c"}, {"d", "3", "i386", "d"}, {"e", "1", "all", "e"}, {"a", "\x1b[2J", "amd64", "a"}}
	want := Comparison{
		Outdated: []Outdated{{"a", "amd64", "1.0-1", "1.0-1+deb12u1"}, {"b", "all", "2.0", "1:0.9"}},
		Unknown:  []Package{{"d", "3", "i386", "d"}, {"e", "1", "all", "e"}, {"a", "\x1b[2J", "amd64", "a"}},
	}
	if diff := cmp.Diff(want, n.Compare(installed)); diff != "" {
		t.Error(diff)
	}
	if err := n.Add(strings.NewReader("Package: f\nVersion: none\n")); err == nil {
		t.Error("a version that is none is taken from an archive")
	}
}

// TestVersionsAreComparedAsDpkgDoes compares what is alike, and so most often wrong.
func TestVersionsAreComparedAsDpkgDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"0", "1", "10", "01", ".", "~", "+", "-", "a", "rc", "deb12u1", "~~", "2", "z", "A"}
	text := func() string {
		v := []string{"", "0:", "1:"}[r.IntN(3)] + "1"
		for range r.IntN(5) {
			v += pieces[r.IntN(len(pieces))]
		}
		return strings.TrimRight(v, "-")
	}
	for range 300 {
		a, b := text(), text()
		n := NewNewest("amd64")
		if err := n.Add(strings.NewReader("Package: p\nVersion: " + b + "\n")); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		older := len(n.Compare([]Package{{"p", a, "amd64", "p"}}).Outdated) == 1
		if dpkgs := exec.Command("dpkg", "--compare-versions", a, "lt", b).Run() == nil; older != dpkgs {
			t.Errorf("%s < %s: %v, dpkg says %v", a, b, older, dpkgs)
		}
	}
}
