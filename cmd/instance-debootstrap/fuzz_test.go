package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/receipt"
)

// FuzzInspection: whatever a guest's disk says of itself, inspect's text has no byte
// that a terminal acts on, and is a few lines long.
func FuzzInspection(f *testing.F) {
	real := guestdisk.Inspection{
		Disk: "/dev/vg0/web1", Style: "gpt", ID: "6c7b4cc2-6a3c-4a3a-9f8d-1b8f0c3a5a11", BootLoader: "grub-bios+efi",
		Partitions: []guestdisk.InspectedPartition{{
			Partition: receipt.Partition{Number: 1, StartSector: 131072, Sectors: 1900000, Name: "root"}, TypeName: "Linux",
			Filesystem: &guestdisk.InspectedFilesystem{Type: "ext4", Label: "a\x1b[2Jb", SizeBytes: 1 << 30},
		}},
		Receipt: &receipt.Receipt{Suite: "trixie", Boot: receipt.Boot{Firmware: []string{"bios", "\x07"}}},
	}
	text, err := json.Marshal(real)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.ReplaceAll(text, []byte(`"bios",`), []byte(strings.Repeat(`"bios",`, 10000))))
	f.Fuzz(func(t *testing.T, text []byte) {
		var in guestdisk.Inspection
		if json.Unmarshal(text, &in) != nil || len(in.Partitions) > 128 {
			return
		}
		// These are the program's own words.
		in.Disk, in.Style, in.BootLoader = "/dev/vg0/web1", "gpt", "none"
		var out bytes.Buffer
		if err := printInspection(&out, inspection{Inspection: &in}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%q in it", line)
			}
			if len(line) > 8<<10 {
				t.Errorf("a line of %d bytes: %.200s", len(line), line)
			}
		}
		if n := strings.Count(out.String(), "\n"); n > 1000 {
			t.Errorf("%d lines", n)
		}
	})
}
