package settings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"instance-debootstrap/pkg/settings/bash"
)

// VMKey is a key of ~/.vmbootstrap.
type VMKey struct {
	Name    string
	Default string // "" is what is found out from the node
	Text    string
}

// VMKeys returns the keys, in the order in which they are shown.
func VMKeys() []VMKey { return slices.Clone(vmKeys) }

var vmKeys = []VMKey{
	{"debian_release", "", "the suite; the node's own"},
	{"debian_mirror", "", "the archive; the node's own"},
	{"kernelpkg", "", "the kernel's package; the suite's metapackage for virtual machines"},
	{"boot_size", "512M", "size of GUEST-boot"},
	{"root_size", "20G", "size of GUEST-root"},
	{"swap_size", "1G", "size of GUEST-swap"},
	{"libvirt_mem", "1048576", "memory in KiB"},
	{"libvirt_vcpu", "1", "virtual CPUs"},
	{"libvirt_arch", "x86_64", "the machine: x86_64 or i686"},
	{"interface", "eth0", "the guest's name of its NIC"},
	{"netmask", "", "of the guest's address; that of the node's bridge"},
	{"broadcast", "", "of the guest's address; that of the node's bridge"},
	{"gateway", "", "the next hop; the node's own"},
	{"dns_nameservers", "", "addresses, separated by blanks; the node's own"},
	{"dns_search", "", "domains, separated by blanks; the node's own"},
	{"domain", "", "the guest's domain; the node's own"},
}

// VMValue is a key's value in force, and where it comes from.
type VMValue struct{ Text, Origin string }

// LoadVM evaluates ~/.vmbootstrap, in bash syntax as it always was, over
// inferred, which are the values that the node gives; the keys' own defaults come
// last. A file that isn't there is none. Other names than the keys are the file's
// own helpers; warn is told of those that are almost a key's, or that it doesn't use.
func LoadVM(ctx context.Context, path string, environ []string, inferred map[string]VMValue, stderr io.Writer, warn func(string)) (map[string]VMValue, error) {
	sh := bash.New(bash.Config{Environ: environ, Stderr: stderr, ReadFile: readTrusted})
	defer sh.Close()
	for _, k := range vmKeys { // the file may refer to them
		if v := inferred[k.Name]; v.Text != "" {
			sh.Set(k.Name, v.Text)
		} else {
			sh.Set(k.Name, k.Default)
		}
	}
	if err := sh.Source(ctx, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("settings: %w", err)
	}
	out := map[string]VMValue{}
	for _, k := range vmKeys {
		text, _ := sh.Get(k.Name)
		origin := "the default"
		if at, ok := sh.SetBy(k.Name); ok {
			origin = at
		} else if v := inferred[k.Name]; v.Text != "" {
			origin = v.Origin
		}
		out[k.Name] = VMValue{text, origin}
	}
	for _, name := range sh.Assigned() {
		if near := nearestKey(name); near != "" && near != name {
			at, _ := sh.SetBy(name)
			warn(fmt.Sprintf("%s: %s is not a key: did you mean %s?", at, name, near))
		} else if at, _ := sh.SetBy(name); near == "" && strings.HasPrefix(at, path+":") && !usedIn(path, name) { // bash has some of its own
			warn(fmt.Sprintf("%s: %s is not a key, and nothing in the file uses it: it has no effect", at, name))
		}
	}
	return out, nil
}

// usedIn tells whether the file has a parameter of that name, as $NAME or ${NAME: it is
// a helper of the file's own then.
func usedIn(path, name string) bool {
	text, err := os.ReadFile(path)
	return err == nil && regexp.MustCompile(`\$\{?[#!]?`+regexp.QuoteMeta(name)+`\b`).Match(text)
}

// nearestKey returns the key that a name is, or is at most two letters from; "" is
// none.
func nearestKey(name string) (near string) {
	best := 3
	for _, k := range vmKeys {
		if d := distance(name, k.Name); d < best && (d == 0 || len(name) > 4) {
			best, near = d, k.Name
		}
	}
	return near
}
