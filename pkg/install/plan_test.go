package install

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

var update = flag.Bool("update", false, "write the golden files anew")

// planned is what a create would do, as far as nothing has to be looked at for it.
type planned struct {
	Layout string // of the disk
	Needed string // steps, in order
	Left   string // steps that aren't needed, and why
}

// TestWhatACreateDoesIsDecidedByTheOrder holds the recipe of create against a golden file,
// for each kind of table, filesystem, boot loader and further disk. `go test -update`
// writes it anew: read the difference.
func TestWhatACreateDoesIsDecidedByTheOrder(t *testing.T) {
	plans := map[string]planned{}
	for _, style := range []string{"none", "msdos", "gpt"} {
		for _, fs := range []string{"ext4", "xfs", "btrfs"} {
			for _, loader := range []string{"auto", "grub", "none"} {
				for _, firmware := range []string{"auto", "bios", "uefi"} {
					o := order(t, style, fs)
					o.Settings.BootLoader, o.Settings.Firmware = loader, firmware
					plans[fmt.Sprintf("%s %s, BOOTLOADER=%s FIRMWARE=%s", style, fs, loader, firmware)] = plan(t, o)
				}
			}
		}
	}
	more := order(t, "msdos", "ext4")
	more.Request.Disks = append(more.Request.Disks, osapi.Disk{Index: 1, Name: "swap", Path: "/dev/vg0/swap"}, osapi.Disk{Index: 2, Name: "data1", Path: "/dev/vg0/data1"})
	more.Settings.DataDisks = []settings.DataDisk{{Name: "data1", Folder: "/srv", Filesystem: "xfs"}, {Name: "data2", Folder: "/opt", Filesystem: "ext4"}}
	more.Settings.SwapFileMiB, more.Settings.Network, more.Settings.BootTest = 512, "dhcp", true
	plans["further disks, a swap file that isn't needed, DHCP, a boot test"] = plan(t, more)
	swapFile := order(t, "gpt", "ext4")
	swapFile.Settings.SwapFileMiB = 512
	if err := os.WriteFile(filepath.Join(swapFile.Settings.CustomizeDir, "hook"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	plans["a swap file and a hook"] = plan(t, swapFile)
	vm := order(t, "none", "ext4")
	vm.BootPath, vm.Fresh = "/srv/pool/web1-boot", true
	plans["a /boot of its own"] = plan(t, vm)
	parts := order(t, "gpt", "xfs")
	parts.Settings.Layout = "server"
	parts.parts = []settings.LayoutLine{{Bytes: 512 << 20, Filesystem: "ext4", Folder: "/boot"}, {Bytes: 1 << 30, Filesystem: "swap"}, {Filesystem: "xfs", Folder: "/"}}
	plans["a layout with /boot and swap"] = plan(t, parts)
	golden(t, "plans.json", plans)
}

func order(t *testing.T, style, fs string) *Order {
	return &Order{
		Request: &osapi.Request{
			InstanceName: "web1.example", BlockDev: "/dev/vg0/web1", Hypervisor: "kvm", HV: map[string]string{"serial_console": "True"},
			Disks: []osapi.Disk{{Index: 0, Path: "/dev/vg0/web1"}},
		},
		Settings: &settings.Settings{
			Suite: "trixie", Arch: "amd64", PartitionStyle: style, PartitionAlignment: 2048, Filesystem: fs, CustomizeDir: t.TempDir(),
			BootLoader: "auto", KernelPkg: "auto", Firmware: "auto", Network: "auto", GuestServices: []string{"power", "clock"}, RootPassword: "blank",
		},
	}
}

func plan(t *testing.T, o *Order) (p planned) {
	t.Helper()
	c, err := Choice{Order: o, Arch: "amd64", Tool: bootstrap.Tool{Name: "mmdebstrap"}}.withBoot()
	if err != nil {
		return planned{Layout: "refused: " + err.Error()}
	}
	layout, err := c.layout(4 << 30)
	if err != nil {
		return planned{Layout: "refused: " + err.Error()}
	}
	for _, part := range layout.Partitions {
		p.Layout += fmt.Sprintf("%d: %d+%d %s; ", part.Number, part.StartSector, part.Sectors, part.Type)
	}
	r := Begin(&session.Session{}, c)
	steps := slices.Concat([]session.Step{r.ClaimStep(), r.TreeStep()}, r.DiskSteps(), r.GuestSteps(), []session.Step{r.ReleaseStep()}, r.LastSteps())
	for _, step := range steps {
		needed, why := true, ""
		if step.When != nil {
			needed, why = step.When(t.Context())
		}
		if why = strings.ReplaceAll(why, o.Settings.CustomizeDir, "HOOKS"); needed {
			p.Needed += step.Name + "; "
		} else {
			p.Left += step.Name + ": " + why + "; "
		}
	}
	return p
}

// golden compares a value, as JSON, with a file of testdata.
func golden(t *testing.T, name string, value any) {
	t.Helper()
	text, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	text, path := append(text, '\n'), filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) == string(want) {
		return
	}
	got, lines := strings.Split(string(text), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(got), len(lines)) {
		if got[i] != lines[i] {
			t.Fatalf("%s, line %d: %s, where the file has %s: if that is meant, go test ./pkg/install -update, and read the difference", path, i+1, got[i], lines[i])
		}
	}
	t.Fatalf("%s has %d lines, and now there are %d", path, len(lines), len(got))
}

func TestAPlanHasEachFilesystemAtItsOwnDisk(t *testing.T) {
	o := order(t, "gpt", "xfs")
	o.parts = []settings.LayoutLine{
		{Bytes: 512 << 20, Filesystem: "ext4", Folder: "/boot"}, {Filesystem: "xfs", Folder: "/"},
		{Disk: 1, Bytes: 1 << 30, Filesystem: "swap"}, {Disk: 1, Filesystem: "ext4", Folder: "/srv"},
	}
	if got := o.describeFilesystems(); got != "xfs, ext4 /boot" {
		t.Errorf("the root's disk: %s", got)
	}
	if got := o.describeFurther(); got != "disk 1 (swap, ext4 /srv)" {
		t.Errorf("the others: %s", got)
	}
}
