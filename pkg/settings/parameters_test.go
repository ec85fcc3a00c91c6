package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// siteList writes a site's list and reads it.
func siteList(t *testing.T, text string) ([]Parameter, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "parameters.list")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return SiteParameters(path)
}

func TestASitesParametersFollowTheProgramsOwn(t *testing.T) {
	site, err := siteList(t, "# of our hooks\n\nrole  What the guest is for\nPuppet-Server\tIts address; é is fine")
	if want := []Parameter{{"role", "What the guest is for"}, {"Puppet-Server", "Its address; é is fine"}}; err != nil || !slices.Equal(site, want) {
		t.Fatalf("%q, %v", site, err)
	}
	if v := site[1].Variable(); v != "OSP_PUPPET_SERVER" {
		t.Error(v)
	}
	list := ParametersList(site)
	if want := ParametersList(nil) + "role What the guest is for\nPuppet-Server Its address; é is fine\n"; list != want {
		t.Error(list)
	}
	if none, err := SiteParameters(filepath.Join(t.TempDir(), "none")); none != nil || err != nil {
		t.Error(none, err)
	}
}

// Ganeti makes the name upper case and each - a _, so two names can be one to a hook.
func TestASitesParameterThatCannotBeIsRefusedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"role What\nsuite Ours\n":             ":2: OS parameter suite is taken: instance-debootstrap itself has suite",
		"ROOT-Password Ours\n":                "instance-debootstrap itself has root_password",
		"a-b What\nA_B What\n":                "OS parameter A_B is taken: ",
		"role\n":                              "role has no description",
		"# a comment\n1st What\n":             `:2: "1st" is not an OS parameter's name`,
		"with=sign What\n":                    "not an OS parameter's name",
		"r\xf4le What\n":                      "not UTF-8",
		"role What\x1b[2J\n":                  "control character",
		strings.Repeat("n", 65) + " too long": "not an OS parameter's name",
	} {
		if site, err := siteList(t, text); err == nil || !strings.Contains(err.Error(), want) || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%q: %q, %v; want %q", text, site, err, want)
		}
	}
	if _, err := siteList(t, "suite x\nrole\n"); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("not all faults at once: %v", err)
	}
}

func TestASitesListThatOthersCanWriteIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "parameters.list")
	if err := os.WriteFile(path, []byte("role What\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := SiteParameters(path); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Error(err)
	}
}
