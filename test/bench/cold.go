package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Creates that make a tree. The shell provider always makes one by debootstrap; ours is given
// nothing, or some of what an earlier one has left.

func (b *bench) cold(r row) error {
	return b.coldCreates(r, nil, os.RemoveAll)
}

func (b *bench) coldWithPackages(r row) error {
	return b.coldCreates(r, nil, func(cache string) error {
		return removeIn(cache, func(name string) bool { return name != "packages" })
	})
}

// variant adds packages to a tree that is there.
func (b *bench) variant(r row) error {
	cache := b.disk("cold-cache")
	plainTree, err := b.warmed(cache)
	if err != nil {
		return err
	}
	return b.coldCreates(r, []string{"EXTRA_PKGS=less,lsof,tcpdump"}, func(cache string) error {
		return removeIn(cache, func(name string) bool { return name != "packages" && !strings.HasPrefix(name, plainTree) })
	})
}

// renewal has the tree grow old before each create.
func (b *bench) renewal(r row) error {
	if _, err := b.warmed(b.disk("cold-cache")); err != nil {
		return err
	}
	return b.coldCreates(r, []string{"CLEAN_CACHE=14"}, func(cache string) error {
		tars, err := filepath.Glob(cache + "/cache-*.tar")
		for _, tar := range tars {
			if err := publishedAt(tar, time.Now().AddDate(0, 0, -20)); err != nil {
				return err
			}
		}
		return err
	})
}

// publishedAt makes a tar one that was put into the cache then. Its sidecar has its time, so
// that one which somebody has edited since is known.
func publishedAt(tar string, then time.Time) error {
	if err := os.Chtimes(tar, then, then); err != nil {
		return err
	}
	path := strings.TrimSuffix(tar, ".tar") + ".json"
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var sidecar map[string]json.RawMessage
	if err := json.Unmarshal(raw, &sidecar); err != nil {
		return err
	}
	sidecar["mtime_ns"] = json.RawMessage(strconv.FormatInt(then.UnixNano(), 10))
	if raw, err = json.Marshal(sidecar); err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// coldCreates has the shell provider bootstrap, and ours begin with what reset leaves of a
// cache.
func (b *bench) coldCreates(r row, settings []string, reset func(cache string) error) error {
	if _, err := b.tree(append(settings, plain...)...); err != nil { // so that the archive is warmed up for both
		return err
	}
	shell, ours := b.disk("shell"), b.disk("ours")
	contenders := []contender{
		b.shellCreates(creation{disks: []string{shell}, fresh: true, settings: settings}),
		b.weCreate(creation{disks: []string{ours}, fresh: true, settings: append(settings, plain...), cache: b.disk("cold-cache"), reset: reset}),
	}
	if err := b.turns(r, 0, b.runs, contenders); err != nil {
		return err
	}
	return b.compareGuests(shell, ours)
}

// warmed fills an empty cache with the plain tree, and returns what its files' names begin with.
func (b *bench) warmed(cache string) (base string, err error) {
	c := b.weCreate(creation{disks: []string{b.disk("tree")}, fresh: true, settings: plain, cache: cache, reset: os.RemoveAll})
	for _, do := range []func() error{c.before, c.op, func() error { return os.Remove(b.disk("tree")) }} {
		if err := do(); err != nil {
			return "", err
		}
	}
	tars, err := filepath.Glob(cache + "/cache-*.tar")
	if len(tars) != 1 {
		return "", errors.Join(err, fmt.Errorf("a create has left the trees %q in its cache", tars))
	}
	return strings.TrimSuffix(filepath.Base(tars[0]), ".tar"), nil
}

// removeIn removes those of a folder's entries whose names are meant; a missing folder has
// none.
func removeIn(dir string, meant func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	for _, e := range entries {
		if meant(e.Name()) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return err
}
