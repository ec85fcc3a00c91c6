package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv("CALLED_BY_THE_TEST") != "" {
		os.Exit(run(append([]string{os.Getenv("CALLED_BY_THE_TEST")}, os.Args[1:]...)))
	}
	os.Exit(m.Run())
}

// call runs the program in a process of its own, by one of its names.
func call(t *testing.T, name string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, messages bytes.Buffer
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "CALLED_BY_THE_TEST="+name, "LIBVIRT_DEFAULT_URI=", "VIRSH_DEFAULT_CONNECT_URI=")
	cmd.Stdout, cmd.Stderr = &out, &messages
	err = cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatal(err)
	}
	return out.String(), messages.String(), cmd.ProcessState.ExitCode()
}

func TestACommandThatDoesntExistIsWrongUsage(t *testing.T) {
	for line, see := range map[string]string{
		"vmm":                "instance-debootstrap --help",
		"vm crate web":       "instance-debootstrap vm --help",
		"vm crate web --yes": "",
		"cache lst":          "instance-debootstrap cache --help",
		"plan verify":        "instance-debootstrap plan --help",
		"help vmm":           "--help",
		"vm help crate":      "instance-debootstrap vm --help",
	} {
		stdout, stderr, status := call(t, "instance-debootstrap", strings.Fields(line)...)
		if status != 2 || stdout != "" || see != "" && (!strings.Contains(stderr, "unknown command") || !strings.Contains(stderr, see)) {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", line, status, stdout, stderr)
		}
	}
	for _, line := range []string{"", "vm", "cache", "plan", "help", "vm help", "help vm", "vm help create", "help vm create", "vm create --help", "vm create web1 -h", "vm create -h web1"} {
		if stdout, stderr, status := call(t, "instance-debootstrap", strings.Fields(line)...); status != 0 || stderr != "" || !strings.Contains(stdout, "USAGE:") || strings.Contains(line, "create") && !strings.Contains(stdout, "--wait-time") || strings.Contains(line, "vm") && !strings.Contains(line, "create") && !strings.Contains(stdout, "COMMANDS:") {
			t.Errorf("%q: exit status %d, stdout %q, stderr %q", line, status, stdout, stderr)
		}
	}
}

func TestOptionsStandBeforeOrBehindArguments(t *testing.T) {
	app := (&program{}).toolApp()
	for line, want := range map[string]string{
		"vm create web1 --wait":                         "vm create --wait web1",
		"vm create web1 --ip 192.0.2.5/24 --wait":       "vm create --ip 192.0.2.5/24 --wait web1",
		"vm create --memory=2G web1 --network lan":      "vm create --memory=2G --network lan web1",
		"-v vm --json remove web1 -y":                   "-v vm --json remove -y web1",
		"--log-format json vm grow web1 --root-size +1": "--log-format json vm grow --root-size +1 web1",
		"mount a.img /mnt -r":                           "mount -r a.img /mnt",
		"install a.img --size 2G --force":               "install --size 2G --force a.img",
		"cache import - --suite trixie":                 "cache import --suite trixie -",
		"vm show web1 --nonsense":                       "vm show --nonsense web1",
		"vm create web1 --ip":                           "vm create --ip", // cli says what it lacks
		"vm create web1 -h":                             "vm create -h",
		"vm help create":                                "vm create --help",
		"vm show -- --json":                             "vm show -- --json",
		"vm show a -- --json":                           "vm show -- a --json",
		"vm ssh -i key web1 ls --color -- x":            "vm ssh -i key web1 ls --color -- x",
		"vm ssh web1 -- ls -l":                          "vm ssh web1 -- ls -l",
		"vmm --wait web1":                               "vmm --wait web1",
	} {
		args := strings.Fields(line)
		got := optionsFirst(app.Flags, app.Commands, args)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q", line, got)
		}
		if again := optionsFirst(app.Flags, app.Commands, got); !slices.Equal(again, got) {
			t.Errorf("%s: %q, and once more %q", line, got, again)
		}
	}
	image := filepath.Join(t.TempDir(), "empty.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"install " + image + " --size 2G":    "is empty", // so both were read
		"boot-test " + image + " --memory 1": "--memory 1",
		"vm remove Web1 --yes":               `guest "Web1"`,
		"vm create a b --wait":               `create: expected one GUEST, got ["a" "b"]`,
		"version --nonsense":                 "nonsense",
		"vm create web1 --ip":                "--ip needs a value; see instance-debootstrap vm create --help",
	} {
		if stdout, stderr, status := call(t, "instance-debootstrap", strings.Fields(line)...); status != 2 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q; want %q", line, status, stdout, stderr, want)
		}
	}
}

func TestHelpIsANameForAGuest(t *testing.T) {
	for _, name := range []string{"help", "h"} {
		if stdout, _, status := call(t, "instance-debootstrap", "boot-test", name, "--memory", "1"); status != 2 || stdout != "" {
			t.Errorf("%s: exit status %d, stdout %q", name, status, stdout)
		}
	}
}

func TestVmbootstrapTakesOptionsBehindItsArguments(t *testing.T) {
	app := (&program{}).oldApp()
	if got := optionsFirst(app.Flags, app.Commands, strings.Fields("vg0 web1 -i 192.0.2.5 --remove")); strings.Join(got, " ") != "-i 192.0.2.5 --remove vg0 web1" {
		t.Errorf("%q", got)
	}
}

func TestAWrongOptionIsToldAsItWasWritten(t *testing.T) {
	for line, want := range map[string]string{
		"vm create web1 --memroy 1G":         "instance-debootstrap: unknown option --memroy; see instance-debootstrap vm create --help",
		"--nonsense":                         "instance-debootstrap: unknown option --nonsense; see instance-debootstrap --help",
		"cache list -x":                      "instance-debootstrap: unknown option -x; see instance-debootstrap cache list --help",
		"vm create web1 --wait-time 5":       `instance-debootstrap: --wait-time "5": must be a time with its unit, as 90s or 10m`,
		"vm stop web1 --stop-time a: b":      `instance-debootstrap: --stop-time "a:": must be a time with its unit, as 90s or 10m`,
		"boot-test a.img --memory 1G":        `instance-debootstrap: --memory "1G": must be a number`,
		"vm remove web1 --yes=perhaps":       `instance-debootstrap: --yes "perhaps": it takes no value but true and false`,
		"vm create web1 --network lan,foo=3": `instance-debootstrap: --network "lan,foo=3": "foo=3": known are network, bridge, ip, gateway, mac`,
		"install a.img --size":               "instance-debootstrap: --size needs a value; see instance-debootstrap install --help",
	} {
		stdout, stderr, status := call(t, "instance-debootstrap", strings.Fields(line)...)
		if status != 2 || stdout != "" || stderr != want+"\n" {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", line, status, stdout, stderr)
		}
	}
}

func TestWhatMakesNoSenseIsToldWithWhatWould(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"--log-format xml":                                   `--log-format "xml": text or json`,
		"boot-test a.img --arch vax":                         `--arch "vax": no machine is known here but for amd64, i386 and arm64`,
		"boot-test a.img --firmware open":                    `--firmware "open": `,
		"boot-test a.img --timeout 0s":                       "--timeout 0s: more than nothing",
		"cache export":                                       "cache export: expected KEY and perhaps FILE, got 0 arguments; see instance-debootstrap cache export --help",
		"cache warm --all --variant web":                     "cache warm: --all is every variant: leave out --variant",
		"cache show":                                         "cache show: expected one KEY, got none; see instance-debootstrap cache show --help",
		"cache diff a":                                       `cache diff: expected OLD and NEW, got ["a"]; see instance-debootstrap cache diff --help`,
		"inspect http://a.example/b":                         `DISK "http://a.example/b": URIs that begin with http:// are not taken, only rbd:, gluster:, nbd: and file:`,
		"install a.img --size 10":                            `--size "10": that is so many bytes: give a unit, such as 10G`,
		"install a.img --size 2Q":                            `--size "2Q": must be a number, with K, M, G or T behind it or without, such as 2G`,
		"install " + image + " --size 2G":                    "install: " + image + " exists already: leave out --size to install onto it",
		"vm grow web1":                                       "vm grow: give --",
		"vm grow web1 --root-size 1G --size":                 "--size needs a value; see instance-debootstrap vm grow --help",
		"vm grow web1 --root-size 1G --disk data1 --size 2G": "vm grow: --root-size is the same as --disk root --size, and goes with neither",
	} {
		stdout, stderr, status := call(t, "instance-debootstrap", strings.Fields(line)...)
		if status != 2 || stdout != "" || !strings.HasPrefix(stderr, "instance-debootstrap: "+want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", line, status, stdout, stderr)
		}
	}
}
