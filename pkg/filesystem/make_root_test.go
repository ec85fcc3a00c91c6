//go:build root

package filesystem

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/pkg/tell"
)

// checkFilesystem asks the filesystem's own checker, blkid and the kernel.
func checkFilesystem(t *testing.T, dev string, kind Type, uuid string) {
	t.Helper()
	switch kind {
	case XFS:
		must(t, "xfs_repair", "-n", dev)
	case Btrfs:
		must(t, "btrfs", "check", "--readonly", dev)
	case Ext4:
		must(t, "e2fsck", "-fn", dev)
	default:
		// Of ext2 and ext3 e2fsck reads all inode tables: seconds on a large disk,
		// so there it looks at the superblock only.
		flag := "-fn"
		if sizeOf(t, dev) > 2*giB {
			flag = "-n"
		}
		must(t, "e2fsck", flag, dev)
	}
	info, err := Probe(t.Context(), dev)
	if err != nil || info.Type != string(kind) || info.UUID != uuid || info.Label != "root" || info.Usage != "filesystem" {
		t.Errorf("blkid: %+v, %v; want %s %s", info, err, kind, uuid)
	}
	dir := mountTemp(t, dev, kind)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Error(err)
	}
	if err := Unmount(dir); err != nil {
		t.Error(err)
	}
}

// extList returns the features that dumpe2fs sees.
func extList(t *testing.T, dev string) []string {
	for line := range strings.Lines(must(t, "dumpe2fs", "-h", dev)) {
		if list, ok := strings.CutPrefix(line, "Filesystem features:"); ok {
			return strings.Fields(list)
		}
	}
	return nil
}

func TestFilesystemsOfEverySizeAreCleanAndMountable(t *testing.T) {
	for _, kind := range Types() {
		for _, size := range []int64{511*miB - 512, 2 * giB, 100 * giB} {
			t.Run(string(kind)+" "+tell.MiB(size), func(t *testing.T) {
				t.Parallel()
				dev := loop(t, size)
				ctx, log := logged(t)
				uuid, err := Make(ctx, Spec{Type: kind, Device: dev, Suite: "trixie", Label: "root"})
				if err != nil {
					t.Fatal(err)
				}
				// mkfs.btrfs prints a note on its defaults, whatever it is told: for
				// the debug log.
				if out := log.String(); out != "" && (kind != Btrfs || strings.Contains(out, `"level":"info"`)) {
					t.Errorf("printed: %s", out)
				}
				checkFilesystem(t, dev, kind, uuid)
			})
		}
	}
}

func TestEverySuiteGetsExactlyItsFeatures(t *testing.T) {
	for _, row := range suiteTable {
		suite := strings.Fields(row.suites)[0]
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			dev := loop(t, 511*miB)
			for _, kind := range Types() {
				if kind == XFS && row.xfs == "" {
					continue
				}
				if err := Wipe(t.Context(), dev); err != nil {
					t.Fatal(err)
				}
				uuid, err := Make(t.Context(), Spec{Type: kind, Device: dev, Suite: suite, Label: "root"})
				if err != nil {
					t.Fatal(err)
				}
				if kind != XFS && kind != Btrfs {
					got, want := extList(t, dev), strings.Split(extFeatures(kind, suite), ",")
					slices.Sort(got)
					slices.Sort(want)
					if !slices.Equal(got, want) {
						t.Errorf("%s has %v\nwant %v", kind, got, want)
					}
				}
				checkFilesystem(t, dev, kind, uuid)
				if kind == XFS {
					checkXFS(t, dev, row.xfs)
				}
				if kind == Btrfs {
					checkBtrfs(t, dev, row)
				}
			}
		})
	}
}

// checkXFS reads the features with xfs_db, which names those that are on.
func checkXFS(t *testing.T, dev, on string) {
	out := strings.ToLower(must(t, "xfs_db", "-r", "-c", "version", dev))
	for name, shown := range map[string]string{"finobt": "finobt", "reflink": "reflink", "sparse": "sparse_inodes", "bigtime": "bigtime", "inobtcount": "inobtcnt", "rmapbt": "rmapbt", "nrext64": "nrext64"} {
		want := slices.Contains(strings.Fields(on), name)
		if got := strings.Contains(out, shown); got != want {
			t.Errorf("xfs: %s is %v, want %v: %s", name, got, want, out)
		}
	}
}

// checkBtrfs reads the superblock after a mount, which could have added to it.
func checkBtrfs(t *testing.T, dev string, row features) {
	out := must(t, "btrfs", "inspect-internal", "dump-super", dev)
	for name, shown := range map[string]string{"extref": "EXTENDED_IREF", "skinny-metadata": "SKINNY_METADATA", "no-holes": "NO_HOLES", "free-space-tree": "FREE_SPACE_TREE_VALID"} {
		want := slices.Contains(strings.Fields(row.btrfs), name)
		if got := strings.Contains(out, shown); got != want {
			t.Errorf("btrfs: %s is %v, want %v: %s", name, got, want, out)
		}
	}
}

func TestTheNodesMke2fsConfDecidesNothing(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "mke2fs.conf")
	if err := os.WriteFile(conf, []byte("[defaults]\n\tbase_features = sparse_super\n\tblocksize = 1024\n\tinode_ratio = 65536\n\tinode_size = 128\n\tdiscard = 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MKE2FS_CONFIG", conf)
	path := sparseFile(t, 600*miB)
	if _, err := Make(t.Context(), Spec{Type: Ext4, Device: path, Suite: "trixie"}); err != nil {
		t.Fatal(err)
	}
	out := must(t, "dumpe2fs", "-h", path)
	for _, want := range []string{"metadata_csum_seed", "Block size:               4096", "Inode size:	          256", "Inode count:              76800", "Total journal size:       16M", "user_xattr acl", "Maximum mount count:      -1"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

func TestAFilesystemCanBeSmallerThanItsDevice(t *testing.T) {
	for _, kind := range Types() {
		path := sparseFile(t, 1200*miB)
		if _, err := Make(t.Context(), Spec{Type: kind, Device: path, Suite: "trixie", SizeBytes: 600*miB + 5}); err != nil {
			t.Fatal(err)
		}
		out, want := "", ""
		switch kind {
		case XFS:
			out, want = must(t, "xfs_db", "-r", "-c", "sb", "-c", "print dblocks", path), "dblocks = 153600\n"
		case Btrfs:
			out, want = must(t, "btrfs", "inspect-internal", "dump-super", path), "total_bytes\t\t629145600"
		default:
			out, want = must(t, "dumpe2fs", "-h", path), "Block count:              153600\n"
		}
		if !strings.Contains(out, want) {
			t.Errorf("%s: no %q in %s", kind, want, out)
		}
	}
}

func TestMakeTouchesNothingWhenItCannotWork(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no-such-disk")
	for _, kind := range Types() {
		if _, err := Make(t.Context(), Spec{Type: kind, Device: missing, Suite: "trixie", SizeBytes: giB}); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := os.Lstat(missing); err == nil {
			t.Fatalf("%s made the file", kind)
		}
	}
	dev := loop(t, 600*miB)
	if _, err := Make(t.Context(), Spec{Type: Ext4, Device: dev, Suite: "trixie"}); err != nil {
		t.Fatal(err)
	}
	mountTemp(t, dev, Ext4)
	for _, kind := range Types() {
		_, err := Make(t.Context(), Spec{Type: kind, Device: dev, Suite: "trixie"})
		if err == nil || !regexp.MustCompile("mounted|in use|busy").MatchString(err.Error()) {
			t.Errorf("%s over a mounted filesystem: %v", kind, err)
		}
	}
	if _, err := Make(t.Context(), Spec{Type: XFS, Device: sparseFile(t, 600*miB), Suite: "wheezy"}); err == nil || !strings.Contains(err.Error(), "ext4") {
		t.Errorf("xfs for wheezy: %v", err)
	}
}
