package boot

import (
	"testing"

	"instance-debootstrap/pkg/partition"
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
		{"GRUB and an ESP", grub, partition.StyleGPT, []string{typeBIOSBoot, typeESP, linux}, "grub-bios+efi"},
		{"an ESP alone", empty, partition.StyleGPT, []string{typeESP, linux}, "grub-efi"},
		{"an ESP in lower case", empty, partition.StyleGPT, []string{"c12a7328-f81f-11d2-ba4b-00a0c93ec93b"}, "grub-efi"},
		{"another's boot code", other, partition.StyleMSDOS, []string{"83"}, "unknown"},
		{"a disk id and a table are no boot code", sector0(440, "GRUB"), partition.StyleMSDOS, []string{"83"}, ""},
		{"a filesystem on the whole disk", sector0(0, "XFSB"), partition.StyleNone, nil, ""},
		{"nothing read", nil, partition.StyleMSDOS, []string{"83"}, ""},
	} {
		l := partition.Layout{Style: c.style}
		for i, kind := range c.types {
			l.Partitions = append(l.Partitions, partition.Partition{Number: i + 1, Type: kind})
		}
		if got := Loader(c.sector0, l); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
