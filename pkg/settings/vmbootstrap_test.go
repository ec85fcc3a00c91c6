package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func loadVM(t *testing.T, text string, mode os.FileMode) (map[string]VMValue, []string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".vmbootstrap")
	if text != "" {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, mode)
	}
	var warned []string
	inferred := map[string]VMValue{"debian_release": {"bookworm", "/etc/os-release"}, "domain": {"example.org", "the node"}}
	got, err := LoadVM(t.Context(), path, []string{"PATH=/usr/bin:/bin", "domain=of.the.environment"}, inferred, nil, func(s string) { warned = append(warned, s) })
	return got, warned, err
}

func TestEachKeyOfTheOldFileIsRead(t *testing.T) {
	var text strings.Builder
	for _, k := range VMKeys() {
		text.WriteString(k.Name + "=\"of-$HOSTNAME-" + k.Name + "\"\n")
	}
	got, _, err := loadVM(t, "HOSTNAME=file\n"+text.String(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range VMKeys() {
		if v := got[k.Name]; v.Text != "of-file-"+k.Name || !strings.HasSuffix(v.Origin, ".vmbootstrap:"+string(rune('2'+i))) && i < 8 {
			t.Errorf("%s: %+v", k.Name, v)
		}
	}
}

func TestTheNodesValuesCountWhereTheFileHasNone(t *testing.T) {
	got, _, err := loadVM(t, "root_size=5G\ndomain=vm.$domain\n", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"root_size": "5G", "domain": "vm.example.org", "debian_release": "bookworm", "boot_size": "512M", "gateway": ""} {
		if got[name].Text != want {
			t.Errorf("%s=%q, want %q", name, got[name].Text, want)
		}
	}
	if got["debian_release"].Origin != "/etc/os-release" || got["boot_size"].Origin != "the default" {
		t.Errorf("origins: %+v", got)
	}
	if got, _, err := loadVM(t, "", 0); err != nil || got["libvirt_mem"].Text != "1048576" {
		t.Errorf("without a file: %v %v", got["libvirt_mem"], err)
	}
}

func TestAFileThatOthersCanWriteIsNotRun(t *testing.T) {
	if _, _, err := loadVM(t, "root_size=5G\n", 0o666); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("err = %v", err)
	}
}

func TestAMistypedKeyIsToldOf(t *testing.T) {
	_, warned, err := loadVM(t, "rootsize=5G\nmine=1\nroot_size=${mine}G\n", 0o600)
	if err != nil || len(warned) != 1 || !strings.Contains(warned[0], "did you mean root_size?") {
		t.Errorf("%v %v", warned, err)
	}
}

func TestANameThatIsNoKeyAndNoHelperIsToldOf(t *testing.T) {
	_, warned, err := loadVM(t, "colour=red\n", 0o600)
	if err != nil || len(warned) != 1 || !strings.HasSuffix(warned[0], ".vmbootstrap:1: colour is not a key, and nothing in the file uses it: it has no effect") {
		t.Errorf("%v %v", warned, err)
	}
}
