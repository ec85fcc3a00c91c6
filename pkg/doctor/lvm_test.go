package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLVMsFirstExpressionThatMatchesDecides(t *testing.T) {
	for _, c := range []struct {
		filter  string
		rejects bool
	}{
		{`global_filter=["a|.*|"]`, false},
		{`global_filter="a|.*|"`, false},
		{`filter=["r|/dev/cdrom|","r|/dev/drbd[0-9]+|"]`, true},
		{`global_filter=["r|^/dev/drbd[0-9]+$|"]`, true},
		{`filter=["a|^/dev/sd|","r|.*|"]`, true},
		{`filter=["a/drbd/","r/.*/"]`, false},
		{`filter=["r(^/dev/drbd)"]`, true},
		{`filter=["r|/dev/drbd\\d+|"]`, true},
		{`filter=["r|[|","r|.|"]`, true},
		{`filter="r"`, false},
	} {
		if got := lvmRejects(c.filter, "/dev/drbd0"); got != c.rejects {
			t.Errorf("%s: %v", c.filter, got)
		}
	}
}

// TestLVMKeepsOffDRBDByAFilterOrAListOfItsDevices, of which older ones know only filters.
func TestLVMKeepsOffDRBDByAFilterOrAListOfItsDevices(t *testing.T) {
	devices := t.TempDir()
	listed := filepath.Join(devices, "site.devices")
	if err := os.WriteFile(listed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all, rejects, none := `=["a|.*|"]`, `=["r|^/dev/drbd[0-9]+$|"]`, errors.New("not found")
	byList := "it reads only the devices that are listed in " + listed
	for what, c := range map[string]struct {
		global, filter, file string
		err                  error
		want                 string
	}{
		"the filter of all commands": {rejects, all, "", none, "devices/global_filter keeps it from reading DRBD devices"},
		"the other filter":           {all, rejects, "", none, "devices/filter keeps it from reading DRBD devices"},
		"nothing":                    {all, all, "use_devicesfile=0\ndevicesfile=\"site.devices\"", nil, ""},
		"a list":                     {all, all, "use_devicesfile=1\ndevicesfile=\"site.devices\"", nil, byList},
		"a list that isn't there":    {all, all, "use_devicesfile=1\ndevicesfile=\"system.devices\"", nil, ""},
		"an LVM without lists":       {all, all, "", none, ""},
	} {
		how, err := lvmKeepsOff(func(options ...string) (string, error) {
			switch {
			case slices.Equal(options, []string{"devices/global_filter"}):
				return c.global, nil
			case slices.Equal(options, []string{"devices/filter"}):
				return c.filter, nil
			}
			return c.file, c.err
		}, devices)
		if err != nil || how != c.want {
			t.Errorf("%s: %q, %v", what, how, err)
		}
	}
	if how, err := lvmKeepsOff(func(...string) (string, error) { return "", none }, devices); !errors.Is(err, none) {
		t.Errorf("a configuration that can't be read: %q, %v", how, err)
	}
}
