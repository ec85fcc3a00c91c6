package dpkg

import (
	"io"
	"net/url"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
)

// Tree is what a bill of materials is of.
type Tree struct {
	Name         string // what it is called
	Distribution string // debian, ubuntu
	Suite        string
	Tool         string // that writes the bill, with its version
}

// WriteBill writes a bill of materials of a tree's packages, as CycloneDX in JSON. The same
// packages give the same bytes: it has no time and no number of its own.
func WriteBill(out io.Writer, tree Tree, packages []Package) error {
	components := make([]cyclonedx.Component, len(packages))
	for i, p := range packages {
		purl := purl(tree, p)
		components[i] = cyclonedx.Component{BOMRef: purl, Type: cyclonedx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, PackageURL: purl}
		if p.Source != p.Name {
			components[i].Properties = &[]cyclonedx.Property{{Name: "dpkg:source", Value: p.Source}}
		}
	}
	bill := cyclonedx.NewBOM()
	bill.Metadata = &cyclonedx.Metadata{
		Component: &cyclonedx.Component{BOMRef: tree.Name, Type: cyclonedx.ComponentTypeOS, Name: tree.Name},
		Tools:     &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{{Type: cyclonedx.ComponentTypeApplication, Name: "instance-debootstrap", Version: tree.Tool}}},
	}
	bill.Components = &components
	return cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).Encode(bill)
}

// purl is a package's URL (the purl specification, type deb).
func purl(tree Tree, p Package) string {
	query := url.Values{"arch": {p.Arch}}
	if tree.Suite != "" {
		query.Set("distro", tree.Suite)
	}
	return "pkg:deb/" + tree.Distribution + "/" + url.QueryEscape(p.Name) + "@" + url.QueryEscape(p.Version) + "?" + query.Encode()
}
