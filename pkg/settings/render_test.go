package settings

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"instance-debootstrap/test/manual"
)

var update = flag.Bool("update", false, "write the files that are made from the table")

func TestInstalledFilesAreMadeFromTheTable(t *testing.T) {
	for path, want := range map[string]string{
		"../../parameters.list":                      ParametersList(nil),
		"../../defaults/ganeti-instance-debootstrap": defaultsFile(),
		"../../docs/instance-debootstrap.conf.5.in":  manualPage(),
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

// defaultsFile returns the annotated defaults file: every setting commented
// out, with its default or an example.
func defaultsFile() string {
	var b strings.Builder
	b.WriteString(`# Settings of instance-debootstrap, the Ganeti OS definition "debootstrap".
#
# This file is read as bash, for each instance that is installed: it sees what
# Ganeti says of the instance (INSTANCE_NAME, DISK_1_PATH, …), and what it
# exports reaches the hooks. A command in it that fails stops the installation.
# A variant's file, variants/VARIANT.conf, is read after it and wins, and OS
# parameters (gnt-instance add -O suite=…) win over both.
#
# Only root may be able to write to this file.
`)
	for _, s := range Table() {
		b.WriteString("\n")
		name := s.Name
		if s.Param != "" {
			name += " (OS parameter " + s.Param + ")"
		}
		values := s.Range
		if s.Default != "" {
			values += "; the default is " + s.Default
		}
		for _, line := range manual.Wrap(name+": "+s.Text+" Values: "+values+".", 76) {
			b.WriteString("# " + line + "\n")
		}
		value := s.Default
		if s.Example != "" {
			value = s.Example
		}
		fmt.Fprintf(&b, "#%s=\"%s\"\n", s.Name, value)
	}
	return b.String()
}
