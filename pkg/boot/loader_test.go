package boot

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"instance-debootstrap/pkg/partition"
)

// gpt's types (UEFI 2.10, 5.3.3; GRUB's manual, "BIOS installation").
const (
	typeBIOSBoot = "21686148-6449-6E6F-744E-656564454649"
	typeESP      = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
)

func TestTheLoaderIsNamedByTheBootRecordAndThePartitions(t *testing.T) {
	const linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	sector0 := func(at int, text string) []byte {
		b := make([]byte, 512)
		copy(b[at:], text)
		return b
	}
	grub, other, empty := sector0(0x180, "GRUB \x00Geom\x00"), sector0(0, "\xfa\xb8"), make([]byte, 512)
	for _, c := range []struct {
		name    string
		sector0 []byte
		style   partition.Style
		types   []string
		want    string
	}{
		{"a blank msdos disk", empty, partition.StyleMSDOS, []string{"83"}, ""},
		{"GRUB on msdos", grub, partition.StyleMSDOS, []string{"83"}, "grub-bios"},
		{"GRUB on gpt", grub, partition.StyleGPT, []string{typeBIOSBoot, linux}, "grub-bios"},
		{"GRUB and an empty ESP", grub, partition.StyleGPT, []string{typeBIOSBoot, typeESP, linux}, "grub-bios"},
		{"an empty ESP alone", empty, partition.StyleGPT, []string{typeESP, linux}, ""},
		{"another's boot code", other, partition.StyleMSDOS, []string{"83"}, "unknown"},
		{"a disk id and a table are no boot code", sector0(440, "GRUB"), partition.StyleMSDOS, []string{"83"}, ""},
		{"a filesystem on the whole disk", sector0(0, "XFSB"), partition.StyleNone, nil, ""},
		{"nothing read", nil, partition.StyleMSDOS, []string{"83"}, ""},
	} {
		l := partition.Layout{Style: c.style}
		for i, kind := range c.types {
			l.Partitions = append(l.Partitions, partition.Partition{Number: i + 1, Type: kind})
		}
		if got, _, err := Loader(bytes.NewReader(c.sector0), l); err != nil || got != c.want {
			t.Errorf("%s: %q, want %q (%v)", c.name, got, c.want, err)
		}
	}
}

// What mkfs.vfat and mtools write, and what this program writes, is seen alike.
func TestAnEFISystemPartitionCountsByWhatIsOnIt(t *testing.T) {
	const start, sectors = 2048, 64 << 11
	for name, c := range map[string]struct {
		files   map[string][]byte
		removed bool
		record  string
		want    string
		arch    string
	}{
		"nothing":                  {nil, false, "", "", ""},
		"nothing, GRUB for BIOS":   {nil, false, "GRUB ", "grub-bios", ""},
		"GRUB's":                   {map[string][]byte{"EFI/debian/grubx64.efi": []byte("its text says GRUB"), "EFI/debian/grub.cfg": []byte("x")}, false, "", "grub-efi", "amd64"},
		"GRUB's, GRUB for BIOS":    {map[string][]byte{"EFI/BOOT/BOOTX64.EFI": []byte("its text says GRUB")}, false, "GRUB ", "grub-bios+efi", "amd64"},
		"GRUB's of arm64":          {map[string][]byte{"EFI/BOOT/BOOTAA64.EFI": []byte("its text says GRUB")}, false, "", "grub-efi", "arm64"},
		"another's":                {map[string][]byte{"EFI/systemd/systemd-bootx64.efi": []byte("systemd")}, false, "", "efi", ""},
		"a configuration alone":    {map[string][]byte{"EFI/debian/grub.cfg": []byte("GRUB")}, false, "", "", ""},
		"GRUB's, which is removed": {map[string][]byte{"EFI/debian/grubx64.efi": []byte("GRUB")}, true, "", "", ""},
	} {
		for _, lower := range []string{"", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"} {
			dir := t.TempDir()
			esp, disk := filepath.Join(dir, "esp"), filepath.Join(dir, "disk")
			run := func(args ...string) {
				t.Helper()
				if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
			}
			run("truncate", "-s", "64M", esp)
			if lower == "" {
				if err := MakeESP(esp, sectors*512, 1); err != nil {
					t.Fatal(err)
				}
				if err := fillESP(esp, c.files); err != nil {
					t.Fatal(err)
				}
			} else {
				run("mkfs.vfat", "-F", "32", esp)
				for path, content := range c.files {
					file := filepath.Join(dir, "file")
					if err := os.WriteFile(file, content, 0o644); err != nil {
						t.Fatal(err)
					}
					parts := strings.Split(path, "/")
					for i := 1; i < len(parts); i++ {
						exec.Command("mmd", "-i", esp, "-D", "s", "::"+strings.Join(parts[:i], "/")).Run() // it may be there
					}
					run("mcopy", "-i", esp, file, "::"+path)
				}
			}
			if c.removed && lower == "" {
				continue // mtools doesn't read the FAT that MakeESP makes
			}
			if c.removed {
				run("mdel", "-i", esp, "::EFI/debian/grubx64.efi")
			}
			run("sh", "-c", "printf '"+c.record+"' >"+disk+" && dd status=none if="+esp+" of="+disk+" bs=1M seek=1 conv=sparse && truncate -s 66M "+disk)
			f, err := os.Open(disk)
			if err != nil {
				t.Fatal(err)
			}
			l := partition.Layout{Style: partition.StyleGPT, Partitions: []partition.Partition{{Number: 1, Type: cmp.Or(lower, typeESP), StartSector: start, Sectors: sectors}}}
			got, arch, err := Loader(f, l)
			if err != nil || got != c.want {
				t.Errorf("%s: %q, want %q (%v)", name, got, c.want, err)
			}
			if arch != c.arch {
				t.Errorf("%s is for %q, want %q", name, arch, c.arch)
			}
			f.Close()
		}
	}
}
