// Package dpkg reads what is installed in a tree, from the text of dpkg's status file.
package dpkg

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// StatusFile is where a tree has it.
const StatusFile = "/var/lib/dpkg/status"

// MaxStatus bounds the file in bytes; one of 3000 packages has 3 MiB.
const MaxStatus = 64 << 20

// Package is one that is installed. All of it is text that the tree says.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"architecture"`
	Source  string `json:"source"` // the source package's name
}

// Parse lists the packages whose Status has "installed" as its third word, in byte order of
// their names, versions and architectures (deb-status(5), "dpkg's status file").
func Parse(status []byte) (list []Package, err error) {
	for paragraph := range bytes.SplitSeq(status, []byte("\n\n")) {
		var p Package
		installed := false
		for line := range strings.Lines(string(paragraph)) {
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			switch name {
			case "Package":
				p.Name = value
			case "Version":
				p.Version = value
			case "Architecture":
				p.Arch = value
			case "Source": // with its version behind it, where that is another
				p.Source, _, _ = strings.Cut(value, " ")
			case "Status":
				words := strings.Fields(value)
				installed = len(words) == 3 && words[2] == "installed"
			}
		}
		if installed {
			p.Source = cmp.Or(p.Source, p.Name)
			list = append(list, p)
		}
		if len(list) > maxPackages {
			return nil, fmt.Errorf("%s lists more than %d packages", StatusFile, maxPackages)
		}
	}
	slices.SortFunc(list, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version), strings.Compare(a.Arch, b.Arch))
	})
	return list, nil
}

// maxPackages is more than any archive has.
const maxPackages = 200000

// line is a package in one line.
func (p Package) line() string { return p.Name + " " + p.Version + " " + p.Arch + "\n" }

// Lines is a list of packages, a line "NAME VERSION ARCHITECTURE" for each, as
// dpkg-query(1) gives it:
//
//	dpkg-query -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture}\n' |
//		sed -n 's/^installed //p' | LC_ALL=C sort
func Lines(list []Package) string {
	var b strings.Builder
	for _, p := range list {
		b.WriteString(p.line())
	}
	return b.String()
}

// Change is a package that two trees don't have in the same version.
type Change struct {
	Name string `json:"name"`
	Arch string `json:"architecture"`
	Old  string `json:"old,omitempty"` // version; "" is that it has come
	New  string `json:"new,omitempty"` // "" is that it is gone
}

// Diff lists what has changed from one tree to another, by names.
func Diff(old, current []Package) (changes []Change) {
	type id struct{ name, arch string }
	versions := map[id][2]string{}
	for i, list := range [][]Package{old, current} {
		for _, p := range list {
			v := versions[id{p.Name, p.Arch}]
			v[i] = p.Version
			versions[id{p.Name, p.Arch}] = v
		}
	}
	for p, v := range versions {
		if v[0] != v[1] {
			changes = append(changes, Change{p.name, p.arch, v[0], v[1]})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch))
	})
	return changes
}
