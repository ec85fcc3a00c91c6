package receipt

import (
	"fmt"
	"slices"
	"strings"

	"instance-debootstrap/pkg/dpkg"
)

// Wanted is what audit looks for: a package, by its own name or its source's, that is older than
// a version; "" is any.
type Wanted struct{ Package, Older string }

// ParseWanted reads PACKAGE or PACKAGE<VERSION.
func ParseWanted(text string) (w Wanted, err error) {
	name, older, bounded := strings.Cut(text, "<")
	w = Wanted{strings.TrimSpace(name), strings.TrimSpace(older)}
	if w.Package == "" || strings.ContainsAny(w.Package, " =>") || bounded && w.Older == "" {
		return w, fmt.Errorf("%q is no PACKAGE or PACKAGE<VERSION, such as 'openssl<3.0.17-1~deb12u2'", text)
	}
	if _, err := dpkg.Older(w.Older, w.Older); bounded && err != nil {
		return w, fmt.Errorf("%q: %w", text, err)
	}
	return w, nil
}

// Found is a guest that has what is looked for.
type Found struct {
	Filed
	Packages []dpkg.Package `json:"packages"` // those that were looked for; all if none was
}

// Audit finds the guests that were installed with what is wanted; nothing wanted is all.
func Audit(all []Filed, wanted []Wanted) (found []Found) {
	for _, k := range all {
		f := Found{Filed: k, Packages: []dpkg.Package{}}
		for _, p := range k.Packages {
			if len(wanted) == 0 || slices.ContainsFunc(wanted, func(w Wanted) bool { return w.has(p) }) {
				f.Packages = append(f.Packages, p)
			}
		}
		if len(f.Packages) > 0 || len(wanted) == 0 {
			found = append(found, f)
		}
	}
	return found
}

// has tells whether a package is one that is wanted. One whose version is none is taken for old.
func (w Wanted) has(p dpkg.Package) bool {
	if p.Name != w.Package && p.Source != w.Package {
		return false
	}
	if w.Older == "" {
		return true
	}
	older, err := dpkg.Older(p.Version, w.Older)
	return older || err != nil
}

// Gone are those of Ganeti's instances that the cluster, which has these, doesn't have any more.
func Gone(all []Filed, instances []string) (gone []string) {
	for _, k := range all {
		if k.Receipt.Nodes != nil && !slices.Contains(instances, k.Instance) {
			gone = append(gone, k.Instance)
		}
	}
	return gone
}
