package bootstrap

import (
	"slices"
	"testing"
)

func TestSourcesAreReadInBothOfAptsFormats(t *testing.T) {
	got := append(listSources(ParseSources("x.list", "# deb http://a/x no main\ndeb [arch=amd64 signed-by=/k] http://a/debian trixie main contrib # x\ndeb-src http://a/debian trixie main\n\tdeb\thttp://b/ ./\n")),
		listSources(ParseSources("x.sources", "Types: deb deb-src\nURIs: http://a/debian\nSuites: trixie\n trixie-updates\nComponents: main\nSigned-By:\n -----BEGIN\n .\n\nTypes: deb\nURIs: http://c\nSuites: x\nEnabled: no\n\nTypes: deb-src\nURIs: http://d\nSuites: x\n"))...)
	want := []string{"http://a/debian trixie main contrib", "http://b/ ./", "http://a/debian trixie main", "http://a/debian trixie-updates main"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}
