package filesystem

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"instance-debootstrap/pkg/tell"
)

func TestTypesAreNamedAsInTheSettings(t *testing.T) {
	for _, want := range Types() {
		if got, err := ParseType(string(want)); err != nil || got != want {
			t.Errorf("%s: %q, %v", want, got, err)
		}
	}
	for _, bad := range []string{"", "ext5", "EXT4", "swap"} {
		if _, err := ParseType(bad); err == nil || !strings.Contains(err.Error(), "ext2, ext3, ext4, xfs, btrfs") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNoSuiteGetsWhatItsToolsCannotRead(t *testing.T) {
	without := func(suite, list string, names ...string) {
		t.Helper()
		for _, name := range names {
			if slices.Contains(regexp.MustCompile(`[, ]`).Split(list, -1), name) {
				t.Errorf("%s gets %s in %q", suite, name, list)
			}
		}
	}
	seen := map[string]bool{}
	for _, row := range suiteTable {
		for suite := range strings.FieldsSeq(row.suites) {
			if seen[suite] {
				t.Errorf("%s stands in two rows", suite)
			}
			seen[suite] = true
			without(suite, row.ext4, "orphan_file")
			without(suite, row.xfs, "nrext64", "exchange", "parent", "metadir", "rmapbt", "verity")
			without(suite, row.btrfs, "block-group-tree")
		}
	}
	for _, suite := range []string{"wheezy", "jessie", "trusty", "xenial", "precise"} {
		without(suite, lookup(suite).ext4, "metadata_csum", "metadata_csum_seed", "64bit")
	}
	for _, suite := range []string{"stretch", "buster", "bionic", "focal", "jammy"} {
		without(suite, lookup(suite).ext4, "metadata_csum_seed", "uninit_bg")
	}
	for _, suite := range []string{"bullseye", "bookworm", "trixie", "forky", "sid", "noble"} {
		if !strings.Contains(lookup(suite).ext4, "metadata_csum_seed") || !seen[suite] {
			t.Errorf("%s: %q", suite, lookup(suite).ext4)
		}
	}
	for _, suite := range []string{"xenial", "stretch", "buster", "bionic"} {
		without(suite, lookup(suite).xfs, "sparse", "reflink", "bigtime")
	}
	without("bullseye", lookup("bullseye").xfs, "bigtime", "inobtcount")
	without("bullseye", lookup("bullseye").btrfs, "no-holes", "free-space-tree")
	for _, list := range []string{extFeatures(Ext2, "sid"), extFeatures(Ext3, "sid")} {
		without("sid", list, "extent", "metadata_csum", "64bit", "uninit_bg")
	}
	without("sid", extFeatures(Ext2, "sid"), "has_journal")
}

func TestAnUnknownSuiteGetsTheNewestRow(t *testing.T) {
	if d := cmp.Diff(lookup("trixie").ext4, lookup("duke").ext4); d != "" {
		t.Error(d)
	}
	if lookup("").xfs != lookup("bookworm").xfs {
		t.Error("no suite: not the newest row")
	}
}

func TestXFSIsRefusedToSuitesThatReadTheOldFormatOnly(t *testing.T) {
	for _, suite := range []string{"wheezy", "jessie", "trusty"} {
		if err := Check(XFS, suite); err == nil || !strings.Contains(err.Error(), suite) || !strings.Contains(err.Error(), "ext4") {
			t.Errorf("%s: %v", suite, err)
		}
	}
	for _, suite := range []string{"xenial", "bullseye", "sid", "unheard-of"} {
		if err := Check(XFS, suite); err != nil {
			t.Errorf("%s: %v", suite, err)
		}
	}
}

func TestAMissingToolIsNamedWithItsPackage(t *testing.T) {
	nothing := func(name string) (string, error) { return "", errors.New(name + ": not found on this node") }
	for kind, pkg := range map[Type]string{Ext2: "e2fsprogs", Ext4: "e2fsprogs", XFS: "xfsprogs", Btrfs: "btrfs-progs"} {
		err := missingTools(kind, nothing)
		for _, want := range []string{makers[kind].name + ": not found", "install the package " + pkg, "blkid", "wipefs", "util-linux"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v doesn't say %q", kind, err, want)
			}
		}
	}
	if err := missingTools("zfs", nothing); err == nil || !strings.Contains(err.Error(), `"zfs"`) {
		t.Errorf("an unknown type: %v", err)
	}
	for _, kind := range Types() {
		if err := Tools(kind); err != nil {
			t.Error(err)
		}
	}
}

// The texts are cut from the usage of mkfs.xfs 4.9, 6.1, 6.13 and 7.2, whose -c isn't closed.
func TestXFSSwitchesAreThoseThatTheNodesToolKnows(t *testing.T) {
	const on = "crc finobt sparse reflink"
	for _, c := range []struct{ name, usage, want string }{
		{"4.9", "/* metadata */\t\t[-m crc=0|1,finobt=0|1,uuid=xxx,rmapbt=0|1,reflink=0|1]\n" +
			"/* inode size */\t[-i log=n|perblock=n|size=num,maxpct=n,attr=0|1|2,\n\t\t\t    projid32bit=0|1,sparse=0|1]\n",
			"-m crc=1 -m finobt=1 -m rmapbt=0 -m reflink=1 -i sparse=1"},
		{"6.1", "/* metadata */\t\t[-m crc=0|1,finobt=0|1,uuid=xxx,rmapbt=0|1,reflink=0|1,\n\t\t\t    inobtcount=0|1,bigtime=0|1]\n" +
			"/* data subvol */\t[-d agcount=n,agsize=n,file,name=xxx,size=num,\n\t\t\t    sectsize=num\n/* force overwrite */\t[-f]\n" +
			"/* inode size */\t[-i perblock=n|size=num,maxpct=n,attr=0|1|2,\n\t\t\t    projid32bit=0|1,sparse=0|1,nrext64=0|1]\n",
			"-m crc=1 -m finobt=1 -m rmapbt=0 -m reflink=1 -m inobtcount=0 -m bigtime=0 -i sparse=1 -i nrext64=0"},
		{"6.13", "[-m crc=0|1,finobt=0|1,autofsck=xxx,\n\t\tmetadir=0|1]\n[-i sparse=0|1,nrext64=0|1,\n exchange=0|1]\n[-n size=num,version=2|ci,ftype=0|1,parent=0|1]]\n",
			"-m crc=1 -m finobt=1 -m metadir=0 -i sparse=1 -i nrext64=0 -i exchange=0 -n parent=0"},
		{"7.2", "/* config file */\t[-c options=path,makecfg=path,defaults=path\n/* metadata */\t\t[-m crc=0|1,finobt=0|1,uuid=xxx,\n\t\t\t    metadir=0|1]\n",
			"-m crc=1 -m finobt=1 -m metadir=0"},
		{"none", "mkfs.xfs: command not found", ""},
	} {
		if got := strings.Join(xfsOptions(c.usage, on), " "); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestBtrfsFeaturesAreThoseThatTheNodesToolKnows(t *testing.T) {
	const old = "Filesystem features available:\nextref              - increased (compat=3.7, default=3.12)\nskinny-metadata     - x\nno-holes            - x\n"
	const oldR = "Runtime features available:\nquota               - x\nfree-space-tree     - x\n"
	const merged = old + "free-space-tree     - x\nblock-group-tree    - x\n"
	for _, c := range []struct{ name, list, runtime, on, want string }{
		{"4.x", "extref  - x\nskinny-metadata - x\n", "usage: mkfs.btrfs", "extref skinny-metadata no-holes", "-O extref -O skinny-metadata"},
		{"5.15", old, oldR, "extref", "-O extref -O ^skinny-metadata -O ^no-holes -R ^free-space-tree"},
		{"6.19", merged, oldR, "extref skinny-metadata no-holes free-space-tree", "-O extref -O skinny-metadata -O no-holes -O free-space-tree -O ^block-group-tree"},
	} {
		if got := strings.Join(btrfsOptions(c.list, c.runtime, c.on), " "); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestBlkidsExportIsUnderstood(t *testing.T) {
	out := "DEVNAME=/dev/loop0\nLABEL=my\\ \\\"root\\\"\\\\\nUUID=1-2\nTYPE=ext4\nUSAGE=filesystem\nPTTYPE=dos\nPART_ENTRY_TYPE=0x83\n"
	want := Info{Type: "ext4", UUID: "1-2", Label: `my "root"\`, PTType: "dos", Usage: "filesystem"}
	got, err := parseExport(out)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	for _, garbage := range []string{"\x1b[2J \"{<(\n", "TYPE=ext4\n-1 7:\t=\n", "ext4\n"} { // which isn't "nothing known"
		if got, err := parseExport(garbage); err == nil {
			t.Errorf("%q is taken for %v", garbage, got)
		}
	}
	if got := want.String(); got != `ext4 (label "my \"root\"\\") and a dos partition table` {
		t.Error(got)
	}
	if got := (Info{}).String(); got != "nothing known" {
		t.Error(got)
	}
}

func TestFstabOptionsAreTheFilesystemsOwn(t *testing.T) {
	for kind, want := range map[Type]string{Ext2: "defaults,errors=remount-ro 1", Ext3: "defaults,errors=remount-ro 1", Ext4: "defaults,errors=remount-ro 1", XFS: "defaults 0", Btrfs: "defaults 0"} {
		options, pass := FstabOptions(kind, false)
		if got := options + " " + string(rune('0'+pass)); got != want {
			t.Errorf("%s: %s", kind, got)
		}
		if options, pass := FstabOptions(kind, true); options != "ro" || pass != 0 {
			t.Errorf("%s, read-only: %s %d", kind, options, pass)
		}
		if options, pass := DataFstabOptions(kind, true); options != "ro,nofail" || pass != 0 {
			t.Errorf("%s, a read-only data disk: %s %d", kind, options, pass)
		}
	}
}

func TestMinDiskGrowsWithTheTreeAndNeverGoesBelowTheFloor(t *testing.T) {
	for _, kind := range Types() {
		if got := MinDiskBytes(kind, "trixie", 0, 0); got < floorBytes(kind) || got > 2*floorBytes(kind) {
			t.Errorf("%s: an empty tree needs %s", kind, tell.MiB(got))
		}
		last := int64(0)
		for content := int64(1 << 20); content < 4<<40; content *= 3 {
			got := MinDiskBytes(kind, "trixie", content, content/20000)
			if got < last || got < content || got%(1<<20) != 0 {
				t.Errorf("%s: %s of content need %d, less than before (%d), than itself, or no whole MiB", kind, tell.MiB(content), got, last)
			}
			last = got
		}
		if few, many := MinDiskBytes(kind, "trixie", 1<<30, 1000), MinDiskBytes(kind, "trixie", 1<<30, 400000); many <= few {
			t.Errorf("%s: inodes cost nothing", kind)
		}
	}
}

func TestUUIDsAreRandomAndOfVersion4(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 100 {
		u := NewUUID()
		if !form.MatchString(u) || seen[u] {
			t.Error(u)
		}
		seen[u] = true
	}
}

func TestSpecsThatDoNotFitAreRefused(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want []string
	}{
		{Spec{Type: XFS, SizeBytes: 200 << 20, Label: "a-label-of-xx"}, []string{"200 MiB is too small: at least 300 MiB", "allows 12"}},
		{Spec{Type: Ext4, SizeBytes: 2 << 30, Label: "a-label-of-xx-17x"}, []string{"2048 MiB wanted, but the device has 1024 MiB", "allows 16"}},
		{Spec{Type: Btrfs, Label: strings.Repeat("x", 256)}, []string{"allows 255"}},
	} {
		err := c.spec.complete(1 << 30)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v doesn't say %q", c.spec, err, want)
			}
		}
	}
	ok := Spec{Type: Ext4, Label: "root"}
	if err := ok.complete(1<<30 + 4095); err != nil || ok.SizeBytes != 1<<30 {
		t.Errorf("%+v, %v", ok, err)
	}
}
