package boot

import (
	"bytes"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const espBytes = 62 << 20

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestTheEFISystemPartitionIsWhatOtherToolsRead(t *testing.T) {
	device := filepath.Join(t.TempDir(), "esp")
	if err := os.WriteFile(device, bytes.Repeat([]byte{0x5a}, espBytes), 0o600); err != nil { // a used disk
		t.Fatal(err)
	}
	if err := MakeESP(device, espBytes, 0x1234abcd); err != nil {
		t.Fatal(err)
	}
	run(t, "fsck.vfat", "-n", device)
	if id := strings.TrimSpace(run(t, "blkid", "-p", "-o", "value", "-s", "UUID", device)); id != "1234-ABCD" || id != FATUUID(0x1234abcd) {
		t.Errorf("blkid reads the UUID %s", id)
	}
	if used, err := ESPInUse(device); used || err != nil {
		t.Errorf("an empty one is in use: %v, %v", used, err)
	}
	program := make([]byte, 3<<20+17)
	rand.Read(program)
	files := map[string][]byte{
		"/EFI/BOOT/BOOTX64.EFI": program, "/EFI/BOOT/grubx64.efi": program[:1000], "/EFI/debian/grub.cfg": espConfig("0b9f6ef4-6e9b-4b0e-8a2b-3c1f0f1d2e3f", "/grub"),
	}
	if err := fillESP(device, files); err != nil {
		t.Fatal(err)
	}
	run(t, "fsck.vfat", "-n", device)
	for name, data := range files {
		if got := run(t, "mtype", "-i", device, "::"+name); got != string(data) {
			t.Errorf("%s has %d bytes, not %d, or others", name, len(got), len(data))
		}
	}
	if used, err := ESPInUse(device); !used || err != nil {
		t.Errorf("a filled one is empty: %v, %v", used, err)
	}
}

// Ubuntu's key manager is signed too, and isn't called so.
func TestUbuntusKeyManagerIsFoundAndDebiansUnsignedOneIsNotTaken(t *testing.T) {
	files := map[string]string{
		"usr/lib/shim/shimx64.efi.signed":                   "shim",
		"usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "grub",
		"usr/lib/shim/mmx64.efi":                            "mm",
	}
	for _, want := range []string{"mm", "mm, signed"} {
		if want != "mm" {
			files["usr/lib/shim/mmx64.efi.signed"] = want
		}
		got, err := efiFiles(tree(t, files), "amd64", "ubuntu")
		if err != nil || string(got["/EFI/BOOT/mmx64.efi"]) != want || string(got["/EFI/ubuntu/mmx64.efi"]) != want {
			t.Errorf("%q: %q, %v", want, got, err)
		}
	}
}
