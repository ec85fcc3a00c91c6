package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/pkg/settings"
)

func TestFurtherSourcesComeWithTheirKeysAndPins(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, other := write("a.gpg", "\x99\x01key", 0o644), write("b.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----", 0o644)
	stanza := "Types: deb\nURIs: http://a.example/\nSuites: ./\nSigned-By: " + key + ", /usr/share/keyrings/debian-archive-keyring.gpg\n"
	line := "deb [arch=amd64 signed-by=" + key + "," + other + "] http://a.example x main\n# deb [signed-by=/nowhere] http://b x main\n"
	folded := "types: deb\nURIs: http://a.example/\nSuites: x\nComponents: main\nSigned-By:\n " + key + "\n# " + dir + "/none.gpg\n\t" + other + "\n\n" +
		"Types: deb\nURIs: http://b.example/\nSuites: x\nComponents: main\nEnabled: No\nSigned-By: " + dir + "/none.gpg\n"
	whole := "Types: deb\nURIs: http://a.example/\nSuites: x\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n /9j4AAQ\n -----END PGP PUBLIC KEY BLOCK-----\n\n" + stanza
	quoted := "\t deb [ arch=amd64 \"signed-by=" + strings.Replace(key, "a.gpg", "%61.gpg", 1) + "\" ] http://a.example x main\n" +
		"  deb-src [signed-by=\"" + other + "\"] http://a.example y main # [signed-by=/nowhere]\n"
	for name, c := range map[string]struct {
		file, text string
		want       []string
	}{
		"in stanzas":                  {"site.sources", stanza, []string{"/etc/apt/preferences.d/site.pref", "/etc/apt/sources.list.d/site.sources", key}},
		"folded, and one that is off": {"folded.sources", folded, []string{"/etc/apt/sources.list.d/folded.sources", key, other}},
		"a key in the stanza itself":  {"whole.sources", whole, []string{"/etc/apt/sources.list.d/whole.sources", key}},
		"quoted and indented":         {"quoted.list", quoted, []string{"/etc/apt/sources.list.d/quoted.list", key, other}},
		"in lines":                    {"more.list", line, []string{"/etc/apt/sources.list.d/more.list", key, other}},
	} {
		write("site.pref", "Package: *\n", 0o644)
		files, err := moreSources(t.Context(), &settings.Settings{ExtraSources: write(c.file, c.text, 0o644)})
		var got []string
		for path := range files {
			got = append(got, path)
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if err != nil || !slices.Equal(got, c.want) || files[key] != "\x99\x01key" {
			t.Errorf("%s: %v %q, want %q", name, err, got, c.want)
		}
	}
	for name, c := range map[string]struct {
		path string
		want string
	}{
		"no such file":           {dir + "/none.list", "no such file"},
		"no such key":            {write("c.list", "deb [signed-by=/no/such/key.gpg] http://a x main\n", 0o644), "Signed-By: "},
		"no key in it":           {write("e.list", "deb [signed-by=/etc/hostname] http://a x main\n", 0o644), "holds no public key"},
		"no suite":               {write("f.list", "deb http://a.example/debian\n", 0o644), "Malformed entry 1"},
		"no source":              {write("g.list", "# deb http://a x main\n", 0o644), "there is no source in it"},
		"off":                    {write("l.sources", "Types: deb\nURIs: http://a/\nSuites: x\nComponents: main\nEnabled: no\n", 0o644), "there is no source in it that is in use"},
		"a line in stanzas":      {write("h.sources", "deb http://a x main\n", 0o644), "Malformed stanza 1"},
		"misspelt":               {write("i.sources", "Type: deb\nURI: http://a/\nSuite: x\nComponents: main\n", 0o644), "Malformed stanza 1"},
		"a relative key":         {write("j.sources", "Types: deb\nURIs: http://a/\nSuites: x\nComponents: main\nSigned-By: rel/path.gpg\n", 0o644), "not a fingerprint"},
		"a password":             {write("k.list", "deb http://user:secret@a.example/ x main\n", 0o644), "every user of the guest could read"},
		"for everybody to write": {write("d.list", line, 0o666), "can be written by everybody"},
	} {
		if _, err := moreSources(t.Context(), &settings.Settings{ExtraSources: c.path}); err == nil || !strings.Contains(err.Error(), "EXTRA_SOURCES: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), ">/etc") {
			t.Errorf("%s: what it advises overwrites the file: %v", name, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: a password is in the message: %v", name, err)
		}
	}
}

// Keys of other bytes stand for other trees, though they are no text.
func TestEachKeyOfFurtherSourcesHasACacheKeyOfItsOwn(t *testing.T) {
	a, b := keyText(map[string]string{"/k": "\xff\x01"}), keyText(map[string]string{"/k": "\xfe\x01"})
	if a["/k"] == b["/k"] || keyText(map[string]string{"/k": "text"})["/k"] != "text" {
		t.Errorf("%q and %q", a, b)
	}
}
