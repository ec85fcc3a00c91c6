package settings

import (
	"flag"
	"os"
	"os/exec"
	"testing"
)

var update = flag.Bool("update", false, "write the files that are made from the table")

func TestInstalledFilesAreMadeFromTheTable(t *testing.T) {
	for path, want := range map[string]string{
		"../../parameters.list":                      ParametersList(nil),
		"../../defaults/ganeti-instance-debootstrap": DefaultsFile(),
	} {
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%s is not what the table says (%v): go test ./pkg/settings -update", path, err)
		}
	}
}

func TestDefaultsFileIsGoodBash(t *testing.T) {
	if out, err := exec.Command("bash", "-n", "../../defaults/ganeti-instance-debootstrap").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	// Every line of it, uncommented, is taken too.
	text, err := os.ReadFile("../../defaults/ganeti-instance-debootstrap")
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	l.defaults(uncomment(string(text)))
	l.env("DISK_1_PATH=/dev/disk1")
	if _, err := l.load(); err != nil {
		t.Error(err)
	}
}
