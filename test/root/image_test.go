//go:build root

package root

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// images lists the filesystem images in the cache.
func images() []string {
	found, _ := filepath.Glob(filepath.Join(base, "cache/*.img"))
	return found
}

// copied must be the log of a create that copied an image.
func (l *lab) copied(log string) {
	l.Helper()
	if !strings.Contains(log, "copy the filesystem image:") || strings.Contains(log, "unpacked instead") {
		l.Errorf("no image was copied:\n%s", log)
	}
}

// soil fills the disk with garbage: all of it up to 700 MiB, else its beginning
// and its end, and a MiB in each 128.
func (l *lab) soil() {
	l.Helper()
	f, err := os.OpenFile(l.disk, os.O_RDWR, 0)
	must(l, err)
	defer f.Close()
	st, err := f.Stat()
	must(l, err)
	junk := bytes.Repeat([]byte{0xa5, 0x81, 'j', 'u', 'n', 'k', 0, 1}, 1<<17)
	write := func(at int64) {
		if at >= 0 && at < st.Size() {
			_, err := f.WriteAt(junk[:min(int64(len(junk)), st.Size()-at)], at)
			must(l, err)
		}
	}
	for at := int64(0); at < 700<<20; at += 1 << 20 {
		write(at)
	}
	for at := int64(0); at < 10<<30; at += 128 << 20 {
		write(at)
		write(at + 1<<20)
	}
	write(st.Size() - 1<<20)
}

// richTar makes the admin's own tar of a small guest with a rich tree in /rich,
// and returns the tree's manifest.
func (l *lab) richTar() []string {
	l.Helper()
	l.tinyTree()
	scratch, dir := filepath.Join(l.TempDir(), "scratch"), l.TempDir()
	must(l, os.WriteFile(scratch, nil, 0o600))
	must(l, os.Truncate(scratch, 200<<20))
	l.tool("mke2fs", "-q", "-t", "ext4", "-b", "4096", scratch)
	l.tool("mount", "-o", "loop", scratch, dir)
	defer l.tool("umount", dir)
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	must(l, os.Mkdir(dir+"/rich", 0o755))
	richTree(l.T, dir+"/rich")
	l.tool("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sparse", "--format=posix", "--exclude=./lost+found", "-cf", l.tar(), "-C", dir, ".")
	return manifest(l.T, dir+"/rich", without{sockets: true})
}

func TestACopiedRootHasExactlyTheTreeOfTheTar(t *testing.T) {
	l := newLab(t, 600)
	want := l.richTar()
	for _, fstype := range []string{"ext4", "ext3", "ext2"} {
		for _, style := range []string{"none", "msdos", "gpt"} {
			t.Run(fstype+"/"+style, func(t *testing.T) {
				l := &lab{T: t, disk: l.disk, env: l.env, fakes: l.fakes}
				l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = style, fstype
				l.soil()
				l.copied(l.create())
				l.checkFilesystem(fstype)
				l.mounted(func(tree string) {
					l.checkGuest(tree, fstype)
					sameManifest(t, want, manifest(t, tree+"/rich", without{sockets: true}))
				})
			})
		}
	}
}

func TestACopiedRootIsCleanOnDisksOfAllSizes(t *testing.T) {
	for _, size := range []int64{511 << 20, 512 << 20, 513 << 20, 2 << 30, 8<<30 - 512, 100 << 30, 1 << 40} {
		for i, style := range []string{"none", "msdos", "gpt"} {
			for _, used := range []bool{false, true} {
				if size > 1<<30 && used == (i%2 == 0) || size == 1<<40 && style != "gpt" {
					continue // the large ones take their time: half of them do, and one of a tebibyte
				}
				t.Run(fmt.Sprintf("%d bytes/%s/used %v", size, style, used), func(t *testing.T) {
					l := newLab(t, 511)
					must(t, os.Truncate(l.disk, size))
					l.tinyTree()
					l.env["OSP_PARTITION_STYLE"] = style
					if used {
						l.soil()
					}
					l.copied(l.create())
					l.checkFilesystem("ext4")
					l.mounted(func(tree string) { l.checkGuest(tree, "ext4") })
				})
			}
		}
	}
}

func TestACacheWithoutRoomForAnImageIsNoFailure(t *testing.T) {
	l := newLab(t, 600)
	dir := filepath.Join(base, "cache")
	l.tool("mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "small", dir)
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	l.tinyTree()
	log := l.create()
	if !strings.Contains(log, "the tree is unpacked instead") || !strings.Contains(log, "unpack the files:") || len(images()) != 0 {
		t.Errorf("images %v\n%s", images(), log)
	}
	l.checkFilesystem("ext4")
	l.mounted(func(tree string) { l.checkGuest(tree, "ext4") })
}

// TestADamagedImageIsFoundOnTheWay damages what the samples don't see.
func TestADamagedImageIsFoundOnTheWay(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	dir := t.TempDir()
	l.tool("sh", "-e", "-c", fmt.Sprintf("tar -xf %s -C %s; head -c 80000000 /dev/urandom > %[2]s/usr/share/noise; tar -cf %[1]s -C %[2]s .", l.tar(), dir))
	l.copied(l.create())
	if len(images()) != 1 {
		t.Fatalf("images %v", images())
	}
	f, err := os.OpenFile(images()[0], os.O_RDWR, 0)
	must(t, err)
	for _, extent := range strings.Fields(l.tool("sh", "-c", "xfs_io -r -c 'seek -a -r 0' "+images()[0]+" | awk '$1 == \"DATA\" {print $2}'")) {
		var at int64
		fmt.Sscan(extent, &at)
		for _, off := range []int64{1<<20 + 1<<19, 7<<20 + 1<<19, 30<<20 + 1<<19} {
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, at+off); err == nil && b[0] != 0 {
				_, err := f.WriteAt([]byte{b[0] ^ 1}, at+off)
				must(t, err)
			}
		}
	}
	must(t, f.Close())
	log := l.create()
	if !strings.Contains(log, "the image is damaged") {
		t.Errorf("the damage was not seen:\n%s", log)
	}
	l.checkFilesystem("ext4")
	l.mounted(func(tree string) {
		l.checkGuest(tree, "ext4")
		l.tool("cmp", dir+"/usr/share/noise", tree+"/usr/share/noise")
	})
	l.copied(l.create()) // a new one
	l.mounted(func(tree string) { l.tool("cmp", dir+"/usr/share/noise", tree+"/usr/share/noise") })
}

func TestCreatesAtOnceShareOneImage(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	var wg sync.WaitGroup
	made := make([]string, 4)
	for i := range made {
		disk := filepath.Join(filepath.Dir(l.disk), fmt.Sprintf("disk-%c", 'a'+i))
		must(t, os.WriteFile(disk, nil, 0o600))
		must(t, os.Truncate(disk, 600<<20))
		env := map[string]string{}
		for k, v := range l.env {
			env[k] = v
		}
		env["DISK_0_PATH"] = disk
		one := &lab{T: t, disk: disk, env: env, fakes: l.fakes}
		cmd := one.command("create")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		wg.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("create: %v\n%s", err, out.String())
			}
			made[i] = out.String()
		})
	}
	wg.Wait()
	builders := 0
	for i, log := range made {
		l.copied(log)
		builders += strings.Count(log, "making a filesystem image")
		l.disk = filepath.Join(filepath.Dir(l.disk), fmt.Sprintf("disk-%c", 'a'+i))
		l.checkFilesystem("ext4")
	}
	if builders != 1 || len(images()) != 1 {
		t.Errorf("%d made an image; there are %v", builders, images())
	}
	l.clean(0)
}

// TestDiskOnTheCachesOwnFilesystemSharesItsBlocks counts the blocks that creates
// take from a filesystem with reflinks.
func TestDiskOnTheCachesOwnFilesystemSharesItsBlocks(t *testing.T) {
	for fstype, mkfs := range map[string]string{"xfs": "mkfs.xfs -q -m reflink=1", "btrfs": "mkfs.btrfs -q"} {
		t.Run(fstype, func(t *testing.T) {
			l := newLab(t, 600)
			store, dir := filepath.Join(t.TempDir(), "store"), filepath.Join(base, "cache")
			must(t, os.WriteFile(store, nil, 0o600))
			must(t, os.Truncate(store, 2<<30))
			l.tool("sh", "-e", "-c", mkfs+" "+store+" && mount -o loop "+store+" "+dir)
			t.Cleanup(func() {
				l.tool("sh", "-c", "for i in $(seq 100); do umount "+dir+" && exit; sleep 0.1; done; umount -l "+dir)
			})
			l.tinyTree()
			tree := t.TempDir()
			l.tool("sh", "-e", "-c", fmt.Sprintf("tar -xf %s -C %s; head -c 80000000 /dev/urandom > %[2]s/usr/share/noise; tar -cf %[1]s -C %[2]s .", l.tar(), tree))
			must(t, os.Mkdir(dir+"/disks", 0o755))
			t.Cleanup(func() { os.RemoveAll(dir + "/disks") })
			create := func(name string) (log string, tookMiB int64) {
				l.disk = dir + "/disks/" + name
				must(t, os.WriteFile(l.disk, nil, 0o600))
				must(t, os.Truncate(l.disk, 700<<20))
				l.env["DISK_0_PATH"] = l.disk
				free := l.freeMiB(dir)
				if log, exit := l.run("create"); exit != 0 {
					t.Fatalf("exit status %d\n%s", exit, log)
				} else {
					l.copied(log)
					l.checkFilesystem("ext4")
					l.mounted(func(root string) { l.tool("cmp", tree+"/usr/share/noise", root+"/usr/share/noise") })
					return log, free - l.freeMiB(dir)
				}
				return "", 0
			}
			create("first") // which makes the image
			for _, style := range []string{"none", "msdos", "gpt"} {
				l.env["OSP_PARTITION_STYLE"] = style
				log, took := create(style)
				if took > 20 || !strings.Contains(log, "shares the image's blocks") {
					t.Errorf("%s: took %d MiB\n%s", style, took, log)
				}
			}
			l.write("default", "REFLINK=no\n", 0o644)
			if log, took := create("copied"); took < 70 || strings.Contains(log, "shares") {
				t.Errorf("REFLINK=no: took %d MiB\n%s", took, log)
			}
			l.tool("sh", "-e", "-c", "rm -r "+dir+"/disks/* && sync -f "+dir)
		})
	}
}

// freeMiB is what a filesystem has left once all is written.
func (l *lab) freeMiB(dir string) int64 {
	l.Helper()
	l.tool("sync", "-f", dir)
	var n int64
	fmt.Sscan(l.tool("stat", "-f", "-c", "%a %S", dir), &n)
	return n * 4096 >> 20
}

func TestNothingOfAnEarlierGuestIsLeftOnAFileDisk(t *testing.T) {
	for _, style := range []string{"none", "msdos", "gpt"} {
		t.Run(style, func(t *testing.T) {
			l := newLab(t, 600)
			l.tinyTree()
			l.env["OSP_PARTITION_STYLE"] = style
			l.soil()
			l.copied(l.create())
			start, size := int64(0), int64(600<<20)
			if style != "none" {
				start, size = l.partition(1)
			}
			if out, err := exec.Command("sh", "-c", fmt.Sprintf("tail -c +%d %s | head -c %d | grep -qa junk", start+1, l.disk, size)).CombinedOutput(); err == nil {
				t.Errorf("the new guest can read what was on the disk %s", out)
			}
			var took int64
			fmt.Sscan(l.tool("du", "-m", l.disk), &took)
			if took > 90 {
				t.Errorf("the disk takes %d MiB", took)
			}
			l.checkFilesystem("ext4")
		})
	}
}

func TestANewFileIsNotWipedByCreate(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs"} {
		l := newLab(t, 600)
		l.tinyTree()
		l.fake("wipefs", "exit 5")
		l.env["OSP_FILESYSTEM"] = fstype
		l.create()
		l.checkFilesystem(fstype)
	}
}
