package qemu

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Firmwares are the names of what a machine can be started with: SeaBIOS, OVMF,
// and OVMF with Secure Boot and the vendors' keys. An arm64 machine has UEFI alone.
var Firmwares = []string{"bios", "uefi", "secure"}

// model is the machine of an architecture.
type model struct {
	program, pkg string // the emulator, and Debian's package of it
	node         string // GOARCH of nodes that run it under KVM
	cpu          string // where it is emulated
	video        []string
	firmwarePkg  string
	firmwares    map[string][]firmware // by name, newest first
	probe        probe
}

// probe is what an empty machine says on its serial port, and by which firmware.
type probe struct{ firmware, marker string }

// firmware is what a machine is started with. Code and variables are files; a BIOS
// comes with QEMU.
type firmware struct {
	machine    string // QEMU's type of machine
	code, vars string
	secure     bool
}

// models are those that a guest of an architecture runs on; i386's is a PC too. The files
// are those of Debian's and Ubuntu's packages.
var models = map[string]model{
	"amd64": {
		program: "qemu-system-x86_64", pkg: "qemu-system-x86", node: "amd64", cpu: "max", video: []string{"-vga", "std"}, firmwarePkg: "ovmf",
		probe: probe{"bios", "No bootable device"},
		firmwares: map[string][]firmware{
			"bios": {{machine: "pc"}},
			"uefi": {
				{machine: "q35", code: "/usr/share/OVMF/OVMF_CODE_4M.fd", vars: "/usr/share/OVMF/OVMF_VARS_4M.fd"},
				{machine: "q35", code: "/usr/share/OVMF/OVMF_CODE.fd", vars: "/usr/share/OVMF/OVMF_VARS.fd"},
			},
			"secure": {
				{machine: "q35,smm=on", code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", vars: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", secure: true},
				{machine: "q35,smm=on", code: "/usr/share/OVMF/OVMF_CODE.secboot.fd", vars: "/usr/share/OVMF/OVMF_VARS.ms.fd", secure: true},
			},
		},
	},
	"arm64": {
		program: "qemu-system-aarch64", pkg: "qemu-system-arm", node: "arm64", cpu: "cortex-a72", firmwarePkg: "qemu-efi-aarch64",
		probe: probe{"uefi", "UEFI firmware"},
		firmwares: map[string][]firmware{
			"uefi": {{machine: "virt", code: "/usr/share/AAVMF/AAVMF_CODE.fd", vars: "/usr/share/AAVMF/AAVMF_VARS.fd"}},
		},
	},
}

// Emulates tells whether there is a machine for guests of an architecture.
func Emulates(arch string) bool { return modelOf(arch).program != "" }

func modelOf(arch string) model {
	if arch == "i386" {
		arch = "amd64"
	}
	return models[cmp.Or(arch, "amd64")]
}

func (m model) find(name string) (firmware, error) {
	known, ok := m.firmwares[name]
	if !ok {
		var names []string
		for _, name := range Firmwares {
			if _, ok := m.firmwares[name]; ok {
				names = append(names, name)
			}
		}
		return firmware{}, fmt.Errorf("firmware %q: %s has %s", name, m.program, strings.Join(names, ", "))
	}
	at := slices.IndexFunc(known, func(f firmware) bool { return f.code == "" || isFile(f.code) && isFile(f.vars) })
	if at < 0 {
		return firmware{}, fmt.Errorf("firmware %s: no %s on this node: install the package %s", name, known[0].code, m.firmwarePkg)
	}
	return known[at], nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// args are QEMU's for the flash with code and variables. What the guest writes to
// its variables is lost.
func (f firmware) args() []string {
	if f.code == "" {
		return nil
	}
	var args []string
	if f.secure { // only code in system management mode may change the variables
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	return append(args, "-drive", "if=pflash,format=raw,readonly=on,file="+f.code,
		"-drive", "if=pflash,format=raw,snapshot=on,file="+f.vars)
}
