package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Its boot would say "Invalid cloud-config provided": cloud-init 22.4 has no locale but text.
func TestTheSettingsOfCloudInitAreOnesThatDebian12TakesAsValid(t *testing.T) {
	var has struct{ Locale any }
	if err := yaml.Unmarshal([]byte(cloudSettings), &has); err != nil || has.Locale != "false" {
		t.Errorf("locale is %#v, %v", has.Locale, err)
	}
}

func TestCloudInitIsToldToMakeNoHostKeysWhereThereIsNoProgramForThem(t *testing.T) {
	for program, want := range map[string]string{"/usr/bin/ssh-keygen": "ssh_genkeytypes: [ed25519, ecdsa]", "/usr/bin/true": "ssh_keys: {}"} {
		dir := t.TempDir()
		at := filepath.Join(dir, program)
		err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, nil, 0o755), Edit(t.Context(), dir, func(root *Root) error {
			return WriteSeed(root, Seed{InstanceID: "1", HostName: "web1", UserData: "#cloud-config\n"})
		}))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, cloudConfig)); !strings.Contains(string(text), "\n"+want+"\n") || strings.Count(string(text), "\nssh_") != 2 {
			t.Errorf("%s: %v\n%s", program, err, text)
		}
	}
}
