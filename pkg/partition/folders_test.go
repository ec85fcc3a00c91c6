package partition

import (
	"crypto/rand"
	"strings"
	"testing"
)

const gib = int64(1) << 30

func planned(t *testing.T, sizeBytes int64, folders []string, sizes []int64) Layout {
	t.Helper()
	l, err := PlanParts(sizeBytes, 2048, Boot{BIOS: true, UEFI: true}, FolderParts("amd64", folders, sizes), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheRootIsNumberOneWhereverItLies(t *testing.T) {
	l := planned(t, 8*gib, []string{"/boot", "", "/", "/var", "/opt"}, []int64{gib / 2, gib, 2 * gib, gib, 0})
	var got []string
	for i, p := range l.Partitions {
		if i > 0 && p.StartSector < l.Partitions[i-1].StartSector+l.Partitions[i-1].Sectors {
			t.Errorf("%+v lies over the one before", p)
		}
		got = append(got, p.Name, p.TypeName())
	}
	if want := "BIOS boot,BIOS boot,EFI system,EFI system,/boot,Linux boot,swap,Linux swap,root,Linux root,/var,Linux /var,/opt,Linux"; strings.Join(got, ",") != want {
		t.Errorf("%s, not %s", strings.Join(got, ","), want)
	}
	root, err := l.GuestRoot()
	if err != nil || root.Number != 1 || root.SizeBytes() != 2*gib {
		t.Errorf("%+v, %v", root, err)
	}
	if _, err := l.RootPartition(); err == nil {
		t.Error("it can be taken apart")
	}
	beside := l.Beside()
	if len(beside) != 3 || beside[0].Folder() != "/boot" || beside[2].Folder() != "/var" {
		t.Errorf("%+v", beside)
	}
	last, err := l.Growing()
	if err != nil || last.Folder() != "/opt" {
		t.Errorf("%+v, %v", last, err)
	}
	larger := l
	larger.SizeBytes = 10 * gib
	grown, err := larger.Grow()
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := grown.Growing(); now.SizeBytes() != last.SizeBytes()+2*gib || now.StartSector != last.StartSector {
		t.Errorf("%+v from %+v", now, last)
	}
}

func TestPartitionsThatDoNotFitAreRefused(t *testing.T) {
	for _, rest := range []int64{0, gib} {
		_, err := PlanParts(2*gib, 2048, Boot{}, FolderParts("amd64", []string{"/var", "/"}, []int64{2 * gib, rest}), rand.Reader)
		if err == nil || !strings.Contains(err.Error(), "more than the disk's 2048 MiB") {
			t.Error(err)
		}
	}
}

func TestALayoutOfOthersHasNoKnownRoot(t *testing.T) {
	for what, change := range map[string]func(*Layout){
		"another's type":                    func(l *Layout) { l.Partitions[3].Type = "E6D6D379-F507-44C2-A23C-238F2A3DF928" },
		"another's name":                    func(l *Layout) { l.Partitions[2].Name = "data" },
		"two roots":                         func(l *Layout) { l.Partitions[2].Name = "root" },
		"no root":                           func(l *Layout) { l.Partitions[4].Name = "/x" },
		"a hybrid":                          func(l *Layout) { l.HybridMBR = true },
		"a name that a terminal would obey": func(l *Layout) { l.Partitions[2].Name = "/\x1b[2J" },
		"a name that leads elsewhere":       func(l *Layout) { l.Partitions[2].Name = "/../x" },
	} {
		l := planned(t, 8*gib, []string{"/boot", "", "/"}, []int64{gib / 2, gib, 0})
		change(&l)
		if root, err := l.GuestRoot(); err == nil {
			t.Errorf("%s: the root is %+v", what, root)
		}
	}
}

func TestASwapAtTheEndDoesNotGrow(t *testing.T) {
	l := planned(t, 8*gib, []string{"/", "/var", ""}, []int64{2 * gib, gib, gib})
	if _, err := l.Grow(); err == nil || !strings.Contains(err.Error(), "is no filesystem (Linux swap)") {
		t.Error(err)
	}
}

// A guest writes its own table. Two filesystems over the same blocks, both mounted for writing,
// change each other behind the kernel's back, also after they were checked.
func TestPartitionsThatOverlapAreNoLayoutOfOurs(t *testing.T) {
	for name, change := range map[string]func(root, folder *Partition){
		"the same":   func(root, folder *Partition) { folder.StartSector, folder.Sectors = root.StartSector, root.Sectors },
		"within":     func(root, folder *Partition) { folder.StartSector, folder.Sectors = root.StartSector+8, 8 },
		"by a block": func(root, folder *Partition) { root.Sectors = folder.StartSector - root.StartSector + 1 },
	} {
		l := planned(t, 4*gib, []string{"/", "/var"}, []int64{gib, 0})
		if _, err := l.GuestRoot(); err != nil {
			t.Fatal(err)
		}
		change(&l.Partitions[2], &l.Partitions[3])
		_, rootErr := l.GuestRoot()
		_, growErr := l.Growing()
		const want = "partitions 1 and 2 overlap"
		if rootErr == nil || growErr == nil || rootErr.Error() != want || growErr.Error() != want || len(l.Beside()) > 0 {
			t.Errorf("%s: %v, %v, %v", name, rootErr, growErr, l.Beside())
		}
	}
}

func TestTwoPartitionsOfOneFolderAreNamed(t *testing.T) {
	l := planned(t, 8*gib, []string{"/", "/var", "/srv"}, []int64{gib, gib, 0})
	l.Partitions[len(l.Partitions)-1].Name = "/var"
	if _, err := l.GuestRoot(); err == nil || err.Error() != "partitions 2 and 3 are both called /var: which one is meant can't be told" {
		t.Error(err)
	}
}
