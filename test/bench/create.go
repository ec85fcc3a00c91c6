package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// creation is how a guest is created in a row.
type creation struct {
	settings []string                 // beside those that all have
	disks    []string                 // one guest on each, all at once
	fresh    bool                     // the disks are new sparse files each time
	sizeGiB  int64                    // of a fresh disk; 0 is the usual size
	tar      string                   // the tree that the shell provider has in its cache; "" is none
	cache    string                   // our cache folder; "" is the usual one
	reset    func(cache string) error // what is done to our cache before each run; nil is nothing
}

func (b *bench) common(p provider) []string {
	return []string{"SUITE=" + b.suite, "MIRROR=" + b.mirror, "SECURITY_MIRROR=none", "PARTITION_STYLE=" + b.style, "CLEAN_CACHE=3650", "CUSTOMIZE_DIR=" + b.hooks(p)}
}

// hooks is the folder of a provider's hooks.
func (b *bench) hooks(p provider) string { return b.work + "/" + p.name + "/hooks" }

// shellCreates is the shell provider's create.
func (b *bench) shellCreates(how creation) contender { return b.shellOf(b.shell, how) }

func (b *bench) shellOf(p provider, how creation) contender {
	return b.creates(p, how, func() error {
		old, err := filepath.Glob(p.cache + "/*")
		if err != nil {
			return err
		}
		for _, path := range old {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
		if how.tar == "" {
			return nil
		}
		// One file, so that neither side has the advantage of the page cache.
		into := p.cache + "/cache-" + b.suite + "-" + b.arch + ".tar"
		if err := os.Link(how.tar, into); err == nil {
			return nil
		}
		return copyDir(how.tar, into)
	})
}

// weCreate is ours.
func (b *bench) weCreate(how creation) contender {
	if how.cache == "" {
		how.cache = b.ours.cache
	}
	how.settings = append([]string{"CACHE_DIR=" + how.cache}, how.settings...)
	return b.creates(b.ours, how, func() error {
		if how.reset == nil {
			return nil
		}
		return how.reset(how.cache)
	})
}

func (b *bench) creates(p provider, how creation, cache func() error) contender {
	c := contender{name: p.name, dir: filepath.Dir(how.disks[0])}
	c.before = func() error {
		if err := errors.Join(p.settings(append(b.common(p), how.settings...)...), cache()); err != nil {
			return err
		}
		size := how.sizeGiB
		if size == 0 {
			size = b.diskGiB
		}
		for _, disk := range how.disks {
			if _, err := os.Stat(disk); err == nil && !how.fresh {
				continue
			}
			if err := newDisk(disk, size<<30); err != nil {
				return err
			}
		}
		return nil
	}
	c.op = func() error {
		var cmds []*exec.Cmd
		for _, disk := range how.disks {
			cmds = append(cmds, p.command("create", disk))
		}
		if err := p.run(cmds...); err != nil {
			return err
		}
		for _, disk := range how.disks {
			if err := syncFile(disk); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// limit is what the disk can take: the same bytes, to all disks at once, written
// past the page cache in requests of 4 MiB.
func (b *bench) limit(tar string, fresh bool, disks ...string) contender {
	c := contender{name: "limit", dir: filepath.Dir(disks[0])}
	c.before = func() error {
		for _, disk := range disks {
			if _, err := os.Stat(disk); err == nil && !fresh {
				continue
			}
			if err := newDisk(disk, b.diskGiB<<30); err != nil {
				return err
			}
		}
		return nil
	}
	c.op = func() error {
		faults := make([]error, len(disks))
		var wg sync.WaitGroup
		for i, disk := range disks {
			wg.Go(func() {
				_, faults[i] = tool("dd", "if="+tar, "of="+disk, "bs=4M", "oflag=direct", "conv=notrunc,fsync", "status=none")
			})
		}
		wg.Wait()
		return errors.Join(faults...)
	}
	return c
}

// disk is the path of a disk in the work folder.
func (b *bench) disk(name string) string { return b.work + "/disks/" + name }

var treePath = regexp.MustCompile(`root tree: (/\S+)`)

// tree returns the tar of a tree by these settings, which is built where our cache
// hasn't got it yet.
func (b *bench) tree(settings ...string) (string, error) {
	c := b.weCreate(creation{settings: settings, disks: []string{b.disk("tree")}, fresh: true})
	if err := errors.Join(c.before(), c.op()); err != nil {
		return "", err
	}
	log, err := os.ReadFile(b.ours.log)
	if err != nil {
		return "", err
	}
	m := treePath.FindSubmatch(log)
	if m == nil {
		return "", fmt.Errorf("our create doesn't say which tree it took:\n%s", log)
	}
	return string(m[1]), os.Remove(b.disk("tree"))
}

// usedDisk makes a disk that was written from its beginning to its end.
func (b *bench) usedDisk(disk string) error {
	_, err := tool("dd", "if=/dev/zero", "of="+disk, "bs=4M", fmt.Sprintf("count=%d", b.diskGiB<<8), "oflag=direct", "conv=fsync", "status=none")
	return err
}

// sameGuests fails unless the guests' filesystems are sound and have the same
// packages. It returns how many.
func (b *bench) sameGuests(disks ...string) (int, error) {
	var first string
	for i, disk := range disks {
		where, err := rootOf(disk)
		if err != nil {
			return 0, err
		}
		if _, err := tool("e2fsck", "-fn", where); err != nil {
			return 0, err
		}
		status, err := tool("debugfs", "-R", "cat /var/lib/dpkg/status", where)
		if err != nil {
			return 0, err
		}
		list := packages(status)
		if i == 0 {
			first = list
		} else if list != first {
			return 0, fmt.Errorf("the guests on %s and %s have not the same packages:\n%s\n%s", disks[0], disk, first, list)
		}
	}
	return len(strings.Fields(first)), nil
}

// packages are the names and versions in a dpkg status file.
func packages(status string) string {
	var out []string
	name := ""
	for line := range strings.Lines(status) {
		field, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch field {
		case "Package":
			name = value
		case "Version":
			out = append(out, name+"="+value)
		}
	}
	return strings.Join(out, " ")
}

var startSector = regexp.MustCompile(`start= *([0-9]+)`)

// rootOf names a disk's root filesystem as e2fsck and debugfs take it.
func rootOf(disk string) (string, error) {
	if kind, _ := tool("blkid", "-p", "-s", "PTTYPE", "-o", "value", disk); kind == "" {
		return disk, nil
	}
	dump, err := tool("sfdisk", "--dump", disk)
	if err != nil {
		return "", err
	}
	m := startSector.FindStringSubmatch(dump)
	if m == nil {
		return "", fmt.Errorf("no partition on %s: %s", disk, dump)
	}
	sectors, err := strconv.ParseInt(m[1], 10, 64)
	return fmt.Sprintf("%s?offset=%d", disk, sectors*512), err
}
