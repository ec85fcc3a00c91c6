// Package node finds out what a new guest on this node can take over from it: its
// release and archive, its network, and how its admin likes the clock, the
// language and the keyboard. Everything is read; what can't be found is left
// empty.
package node

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// Value is something that was found, and where.
type Value struct{ Text, Origin string }

// set gives v a text, once.
func (v *Value) set(text, origin string) {
	if v.Text == "" && text != "" {
		*v = Value{text, origin}
	}
}

// Facts are a node's.
type Facts struct {
	Release Value // the suite's codename
	Mirror  Value // the archive's URL, without a slash at the end

	Bridge    Value // the first bridge
	Address   netip.Prefix
	Netmask   Value
	Broadcast Value
	Gateway   Value

	Domain      Value
	Search      Value // domains, separated by blanks
	Nameservers Value // addresses, separated by blanks

	Timezone Value // as Europe/Berlin
	Locale   Value // as de_DE.UTF-8; "" where it is C or POSIX
	Charsets Value // of locale.gen(5), a line each
	Keyboard Value // /etc/default/keyboard, whole
	SSHKeys  Value // root's authorized_keys and own public keys, whole
}

// Read finds the facts out; bridge is the one whose network counts, "" is the
// first there is. root is where the node's files are, "/" but in tests.
func Read(ctx context.Context, root, bridge string) Facts {
	var f Facts
	r := reader{root}
	f.Release.set(r.assignment("etc/os-release", "VERSION_CODENAME"), "/etc/os-release")
	f.Mirror.set(mirror(ctx, f.Release.Text), "apt's sources")
	f.network(r, bridge)
	f.resolver(r)
	f.habits(r)
	f.keys(r)
	return f
}

type reader struct{ root string }

// maxFile bounds, in bytes, what is read of one file.
const maxFile = 1 << 20

func (r reader) file(name string) string {
	text, err := os.ReadFile(filepath.Join(r.root, name))
	if err != nil || len(text) > maxFile {
		return ""
	}
	return string(text)
}

// assignment returns the value of NAME=value or NAME="value" in a file.
func (r reader) assignment(file, name string) string {
	for line := range strings.Lines(r.file(file)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return ""
}

// targets is apt's own list of what it has fetched (apt-get(8), indextargets).
const targets = "$(LABEL)|$(COMPONENT)|$(CODENAME)|$(REPO_URI)"

// mirror returns the archive that apt takes a suite's main component from.
func mirror(ctx context.Context, suite string) string {
	out, err := command.Output(ctx, "apt-get", "indextargets", "--format", targets, "Identifier: Packages")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) == 4 && (f[0] == "Debian" || f[0] == "Ubuntu") && f[1] == "main" && f[2] == suite && strings.HasPrefix(f[3], "http") {
			return strings.TrimRight(f[3], "/")
		}
	}
	return ""
}

// network reads the bridge's address and the default route (proc(5),
// /proc/net/route).
func (f *Facts) network(r reader, bridge string) {
	if bridge == "" {
		bridge = r.firstBridge()
	}
	if bridge != "" {
		f.Bridge.set(bridge, "the node's interfaces")
		f.Address = address(bridge)
	}
	if f.Address.IsValid() {
		origin := "the address of " + bridge
		f.Netmask.set(Netmask(f.Address), origin)
		f.Broadcast.set(Broadcast(f.Address).String(), origin)
	}
	if gw := gateway(r.file("proc/net/route")); gw.IsValid() {
		f.Gateway.set(gw.String(), "the node's default route")
	}
}

func (r reader) firstBridge() string {
	names, _ := filepath.Glob(filepath.Join(r.root, "sys/class/net/*/bridge"))
	slices.Sort(names)
	for _, name := range names {
		name = filepath.Base(filepath.Dir(name))
		if !strings.HasPrefix(name, "virbr") && !strings.HasPrefix(name, "docker") {
			return name
		}
	}
	return ""
}

// address returns an interface's first IPv4 address and the bits of its network.
func address(name string) netip.Prefix {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Prefix{}
	}
	addresses, _ := nic.Addrs()
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p
		}
	}
	return netip.Prefix{}
}

// Broadcast is the last address of an IPv4 network.
func Broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i, m := range net.CIDRMask(p.Bits(), 32) {
		b[i] |= ^m
	}
	return netip.AddrFrom4(b)
}

// gateway returns the next hop of the default route; addresses are hexadecimal,
// in the machine's byte order, which is little-endian on what we run on.
func gateway(table string) netip.Addr {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" || len(f[2]) != 8 || f[2] == "00000000" {
			continue
		}
		n, _ := strconv.ParseUint(f[2], 16, 32)
		return netip.AddrFrom4([4]byte(binary.LittleEndian.AppendUint32(nil, uint32(n))))
	}
	return netip.Addr{}
}

// resolver reads resolv.conf(5). A resolver on the node's own loopback address is
// of no use to a guest: then the servers count that systemd-resolved asks.
func (f *Facts) resolver(r reader) {
	name := "etc/resolv.conf"
	servers, search := resolvConf(r.file(name))
	if uplink := "run/systemd/resolve/resolv.conf"; len(servers) == 0 && r.file(uplink) != "" {
		name = uplink
		servers, search = resolvConf(r.file(uplink))
	}
	f.Nameservers.set(strings.Join(servers, " "), "/"+name)
	f.Search.set(strings.Join(search, " "), "/"+name)
	if host := strings.TrimSpace(r.file("etc/hostname")); host != "" {
		_, domain, _ := strings.Cut(fqdn(r, host), ".")
		f.Domain.set(domain, "the node's name (hostname -d)")
	}
	if len(search) > 0 {
		f.Domain.set(search[0], "/"+name)
	}
}

func resolvConf(text string) (servers, search []string) {
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		switch w[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(w[1]); err == nil && !a.IsLoopback() {
				servers = append(servers, w[1])
			}
		case "search", "domain":
			search = w[1:]
		}
	}
	return servers, search
}

// fqdn returns the node's full name: the first name with a dot of its line in
// /etc/hosts, as hostname -f mostly does.
func fqdn(r reader, host string) string {
	if strings.Contains(host, ".") {
		return host
	}
	for line := range strings.Lines(r.file("etc/hosts")) {
		line, _, _ = strings.Cut(line, "#")
		w := strings.Fields(line)
		if len(w) > 1 && slices.Contains(w[1:], host) {
			for _, name := range w[1:] {
				if strings.HasPrefix(name, host+".") {
					return name
				}
			}
		}
	}
	return host
}

var zone = pattern.New(`^[A-Za-z0-9+_-]+(/[A-Za-z0-9+_-]+)*$`)

// habits reads what Debian's packages keep of the admin's answers.
func (f *Facts) habits(r reader) {
	if text := strings.TrimSpace(r.file("etc/timezone")); zone().MatchString(text) {
		f.Timezone.set(text, "/etc/timezone")
	}
	if to, err := os.Readlink(filepath.Join(r.root, "etc/localtime")); err == nil {
		if _, text, ok := strings.Cut(to, "/zoneinfo/"); ok && zone().MatchString(text) {
			f.Timezone.set(text, "/etc/localtime")
		}
	}
	for _, file := range []string{"etc/default/locale", "etc/locale.conf"} {
		if lang := r.assignment(file, "LANG"); needsLocale(lang) {
			f.Locale.set(lang, "/"+file)
		}
	}
	var lines []string
	for line := range strings.Lines(r.file("etc/locale.gen")) {
		if w := strings.Fields(line); len(w) == 2 && !strings.HasPrefix(w[0], "#") {
			lines = append(lines, w[0]+" "+w[1])
		}
	}
	f.Charsets.set(strings.Join(lines, "\n"), "/etc/locale.gen")
	f.Keyboard.set(r.file("etc/default/keyboard"), "/etc/default/keyboard")
}

var locale = pattern.New(`^[a-z]{2,3}(_[A-Z]{2})?(\.[A-Za-z0-9-]+)?(@[a-z]+)?$`)

// needsLocale reports whether a locale has to be made first: C and POSIX are
// always there, and so is C.UTF-8 in Debian.
func needsLocale(lang string) bool { return locale().MatchString(lang) }

// keys gathers who may log in as root on the node, and root's own keys: both may
// log in to its guests.
func (f *Facts) keys(r reader) {
	var text strings.Builder
	var origins []string
	own, _ := filepath.Glob(filepath.Join(r.root, "root/.ssh/id_*.pub"))
	for i, name := range own {
		own[i], _ = filepath.Rel(r.root, name)
	}
	for _, name := range append([]string{"root/.ssh/authorized_keys"}, own...) {
		keys := strings.TrimSpace(r.file(name))
		if keys != "" {
			text.WriteString(keys + "\n")
			origins = append(origins, "/"+name)
		}
	}
	f.SSHKeys.set(text.String(), strings.Join(origins, ", "))
}
