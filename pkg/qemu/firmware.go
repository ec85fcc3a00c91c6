package qemu

import (
	"fmt"
	"os"
	"strings"
)

// Firmwares are the names of what a machine can be started with: SeaBIOS, OVMF,
// and OVMF with Secure Boot and the vendors' keys.
var Firmwares = []string{"bios", "uefi", "secure"}

// firmware is what a machine is started with. Code and variables are files; a BIOS
// comes with QEMU.
type firmware struct {
	machine    string // QEMU's type of machine
	code, vars string
	secure     bool
}

const ovmfDir = "/usr/share/OVMF/"

// ovmfFiles are the names of code and variables in Debian's and Ubuntu's package
// ovmf, newest first.
var ovmfFiles = map[string][][2]string{
	"uefi":   {{"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"}, {"OVMF_CODE.fd", "OVMF_VARS.fd"}},
	"secure": {{"OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"}, {"OVMF_CODE.secboot.fd", "OVMF_VARS.ms.fd"}},
}

func findFirmware(name string) (firmware, error) {
	if name == "bios" {
		return firmware{machine: "pc"}, nil
	}
	for _, files := range ovmfFiles[name] {
		code, vars := ovmfDir+files[0], ovmfDir+files[1]
		if isFile(code) && isFile(vars) {
			f := firmware{machine: "q35", code: code, vars: vars, secure: name == "secure"}
			if f.secure {
				f.machine += ",smm=on"
			}
			return f, nil
		}
	}
	if _, known := ovmfFiles[name]; !known {
		return firmware{}, fmt.Errorf("firmware %q: one of %s", name, strings.Join(Firmwares, ", "))
	}
	return firmware{}, fmt.Errorf("firmware %s: no %s%s on this node: install the package ovmf", name, ovmfDir, ovmfFiles[name][0][0])
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// args are QEMU's for the firmware. The variables, which the firmware writes to,
// begin as the package has them, each time.
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
