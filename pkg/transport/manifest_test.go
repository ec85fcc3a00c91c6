package transport

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func manifests() map[string]Manifest {
	return map[string]Manifest{"files": filesManifest(), "blocks": blocksManifest(), "swap": swapManifest()}
}

func TestAManifestComesBackAsItWas(t *testing.T) {
	for name, m := range manifests() {
		b, err := m.Encode()
		must(t, err)
		got, err := ParseManifest(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: %v\n%+v became\n%+v", name, err, m, got)
		}
	}
}

func TestAManifestMayHaveFieldsOfALaterTool(t *testing.T) {
	b, err := blocksManifest().Encode()
	must(t, err)
	later := strings.Replace(string(b), `"disk": {`, `"colour": ["blue"], "disk": {"shape": 3,`, 1)
	if m, err := ParseManifest([]byte(later)); err != nil || m.Disk.SizeBytes != diskBytes {
		t.Errorf("%+v, %v", m, err)
	}
}

// faultyManifests are changes that make a manifest a wrong one, and what the
// error says of it.
var faultyManifests = map[string]struct {
	change func(m *Manifest)
	want   string
}{
	"no content":               {func(m *Manifest) { m.Content = "" }, "content"},
	"an unknown role":          {func(m *Manifest) { m.Role = "boot" }, "role"},
	"files with holes":         {func(m *Manifest) { m.Holes = "zero" }, "holes"},
	"blocks without holes":     {func(m *Manifest) { m.Content = "blocks" }, "holes"},
	"files without filesystem": {func(m *Manifest) { m.Filesystem = nil }, "without a filesystem"},
	"files of a swap area":     {func(m *Manifest) { m.Filesystem.Type = "swap" }, "of a filesystem"},
	"swap of an ext4":          {func(m *Manifest) { m.Content = "swap" }, "of a filesystem"},
	"another filesystem":       {func(m *Manifest) { m.Filesystem.Type = "ntfs" }, "filesystem"},
	"a UUID with an option":    {func(m *Manifest) { m.Filesystem.UUID = "-" + someUUID }, "UUID"},
	"a UUID with a newline":    {func(m *Manifest) { m.Filesystem.UUID += "\n" }, "UUID"},
	"a label like an option":   {func(m *Manifest) { m.Filesystem.Label = "-F" }, "label"},
	"a label with a newline":   {func(m *Manifest) { m.Filesystem.Label = "a\nb" }, "label"},
	"a label that is too long": {func(m *Manifest) { m.Filesystem.Label = strings.Repeat("x", 256) }, "label"},
	"a suite like a path":      {func(m *Manifest) { m.Filesystem.Suite = "../x" }, "suite"},
	"a negative size":          {func(m *Manifest) { m.Filesystem.UsedBytes = -1 }, "size"},
	"an enormous size":         {func(m *Manifest) { m.Filesystem.SizeBytes = 1<<60 + 1 }, "size"},
	"inodes below zero":        {func(m *Manifest) { m.Filesystem.Inodes = -1 }, "size"},
	"another partition":        {func(m *Manifest) { m.Filesystem.Partition = 2 }, "not one of the disk's"},
	"no partition of several":  {func(m *Manifest) { m.Filesystem.Partition = 0 }, "not one of the disk's"},
	"a negative disk":          {func(m *Manifest) { m.Disk.SizeBytes = -1 }, "disk size"},
	"an enormous disk":         {func(m *Manifest) { m.Disk.SizeBytes = 1<<60 + 1 }, "disk size"},
	"a negative index":         {func(m *Manifest) { m.Disk.Index = -1 }, "index"},
	"an unknown table":         {func(m *Manifest) { m.Disk.Style = "sun" }, "style"},
	"partitions of no table":   {func(m *Manifest) { m.Disk.Style = "none" }, "style"},
	"a msdos id that is long":  {func(m *Manifest) { m.Disk.ID += "0" }, "id"},
	"a gpt id that is short":   {func(m *Manifest) { m.Disk.Style = "gpt" }, "a UUID"},
	"partition 0":              {func(m *Manifest) { m.Disk.Partitions[0].Number = 0 }, "partition number"},
	"partition 129":            {func(m *Manifest) { m.Disk.Partitions[0].Number = 129 }, "partition number"},
	"a partition at 0":         {func(m *Manifest) { m.Disk.Partitions[0].StartSector = 0 }, "isn't on the disk"},
	"a partition of nothing":   {func(m *Manifest) { m.Disk.Partitions[0].Sectors = 0 }, "isn't on the disk"},
	"a partition beyond":       {func(m *Manifest) { m.Disk.Partitions[0].Sectors++ }, "isn't on the disk"},
	"a start that overflows":   {func(m *Manifest) { m.Disk.Partitions[0].StartSector = 1<<63 - 1 }, "isn't on the disk"},
	"a partition's name":       {func(m *Manifest) { m.Disk.Partitions[0].Name = "a\x1b[2J" }, "name"},
	"a partition's type":       {func(m *Manifest) { m.Disk.Partitions[0].Type = "8300" }, "type"},
	"a partition's id":         {func(m *Manifest) { m.Disk.Partitions[0].UUID = "1" }, "UUID"},
	"too many partitions":      {func(m *Manifest) { m.Disk.Partitions = make([]Partition, 129) }, "129 partitions"},
	"too many siblings":        {func(m *Manifest) { m.Siblings = make([]Sibling, 257) }, "257 siblings"},
	"a sibling's UUID":         {func(m *Manifest) { m.Siblings[0].UUID = "$(reboot)" }, "sibling 0"},
	"a sibling's label":        {func(m *Manifest) { m.Siblings[1].Label = "\x7f" }, "sibling 1"},
	"a tool of odd bytes":      {func(m *Manifest) { m.Tool = "a\nb" }, "tool"},
	"a boot loader's name":     {func(m *Manifest) { m.BootLoader = strings.Repeat("g", 129) }, "boot_loader"},
}

func TestAFaultyManifestIsNeitherWrittenNorRead(t *testing.T) {
	for name, c := range faultyManifests {
		m := filesManifest()
		c.change(&m)
		if _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: written: %v, want %q", name, err, c.want)
		}
		b, err := json.Marshal(m)
		must(t, err)
		if got, err := ParseManifest(b); err == nil || !strings.Contains(err.Error(), c.want) || !reflect.DeepEqual(got, Manifest{}) {
			t.Errorf("%s: read: %v, want %q", name, err, c.want)
		}
	}
}

func TestWhatIsNoManifestIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "JSON",
		"null":                          "format 0",
		"[]":                            "cannot unmarshal",
		"{}":                            "format 0",
		`{"format":3}`:                  "newer",
		`{"format":-1}`:                 "newer",
		`{"format":1}`:                  "content",
		`{"format":1}x`:                 "invalid character",
		`{"disk":{"size_bytes":"10"}}`:  "cannot unmarshal",
		`{"disk":{"size_bytes":1e99}}`:  "cannot unmarshal",
		strings.Repeat("[", 32<<10):     "manifest",
		strings.Repeat(" ", 64<<10+1):   "65537 bytes",
		`{"format":1,"content":"files"`: "JSON",
	} {
		if m, err := ParseManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, %v, want %q", text, m, err, want)
		}
	}
}

func TestAllFaultsOfAManifestAreInOneError(t *testing.T) {
	m := filesManifest()
	m.Role, m.Disk.Index, m.Filesystem.UUID = "boot", -1, "x"
	_, err := m.Encode()
	for _, want := range []string{"role", "index", "UUID"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v: nothing of the %s", err, want)
		}
	}
}

func TestAManifestsFaultsAreToldInPrintableText(t *testing.T) {
	const odd = "\x1b[2J\nroot: done\u009b31m"
	for name, change := range map[string]func(m *Manifest){
		"content of no filesystem": func(m *Manifest) { m.Content, m.Filesystem = odd, nil },
		"content of swap":          func(m *Manifest) { m.Content, m.Filesystem.Type = odd, "swap" },
		"filesystem":               func(m *Manifest) { m.Content, m.Filesystem.Type = "swap", odd },
		"everything else": func(m *Manifest) {
			m.Tool, m.Role, m.Holes, m.BootLoader, m.Disk.Style, m.Disk.ID = odd, odd, odd, odd, odd, odd
			m.Disk.Partitions[0].Type, m.Disk.Partitions[0].Name = odd, odd
			m.Filesystem.UUID, m.Filesystem.Label, m.Filesystem.Suite = odd, odd, odd
			m.Siblings[0].Type, m.Siblings[0].Label = odd, odd
		},
	} {
		m := filesManifest()
		change(&m)
		if _, err := m.Encode(); err == nil || !printable(err.Error()) {
			t.Errorf("%s: %q", name, err)
		}
	}
}

func TestALabelWithAControlCharacterIsRefused(t *testing.T) {
	for _, label := range []string{"a\x00", "a\r", "a\x7f", "a\u0085", "a\u009b2J"} {
		m := filesManifest()
		m.Filesystem.Label = label
		if _, err := m.Encode(); err == nil {
			t.Errorf("%q is taken", label)
		}
	}
	m := filesManifest()
	m.Filesystem.Label = "Größe <&> 根"
	if b, err := m.Encode(); err != nil {
		t.Error(err)
	} else if got, err := ParseManifest(b); err != nil || got.Filesystem.Label != m.Filesystem.Label {
		t.Errorf("%+v, %v", got.Filesystem, err)
	}
}
