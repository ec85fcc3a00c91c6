//go:build root

package root

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cluster is this node's network, and other nodes with a network, an sshd and a cache of their
// own.
type cluster struct {
	*lab
	dir   string // keys
	own   int    // process in whose network this node is
	nodes []otherNode
}

type otherNode struct {
	pid     int
	dir     string // its cache and lock folder are there
	address string
	link    string // this node's end of the cable
}

func newCluster(l *lab, count int) *cluster {
	l.Helper()
	c := &cluster{lab: l, dir: l.TempDir()}
	for _, name := range []string{"host", "admin"} {
		l.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(c.dir, name))
	}
	c.own = c.start("unshare", "--mount", "--net", "--propagation", "private", "sh", "-ec", "mount -t tmpfs own /var/lib; mkdir -p /var/lib/ganeti/of-the-test; exec sleep 3600")
	host, err := os.ReadFile(c.dir + "/host.pub")
	must(l, err)
	// All nodes go by the cluster's name, as Ganeti has it.
	ganeti := fmt.Sprintf("/proc/%d/root/var/lib/ganeti", c.own)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ganeti + "/of-the-test"); err == nil {
			break
		}
		if time.Now().After(end) {
			l.Fatal("there is no /var/lib of the test's own")
		}
	}
	must(l, os.WriteFile(ganeti+"/ssconf_cluster_name", []byte("cluster.example\n"), 0o644))
	must(l, os.WriteFile(ganeti+"/known_hosts", []byte("cluster.example "+string(host)), 0o644))
	must(l, os.WriteFile(c.dir+"/known", []byte("cluster.example "+string(host)), 0o600))
	for i := range count {
		n := otherNode{dir: l.TempDir(), address: fmt.Sprintf("192.0.2.%d", 4*i+2), link: fmt.Sprint("v", i)}
		config := strings.Join([]string{
			"Port 22", "HostKey " + c.dir + "/host", "AuthorizedKeysFile " + c.dir + "/admin.pub", "StrictModes no", "UsePAM no", "PidFile none",
			"PermitRootLogin prohibit-password", "SetEnv PATH=" + base + "/os:/usr/sbin:/usr/bin:/sbin:/bin", "MaxStartups 100",
		}, "\n")
		must(l, os.WriteFile(n.dir+"/sshd", []byte(config+"\n"), 0o600))
		n.pid = c.start("unshare", "--mount", "--net", "--propagation", "private", "sh", "-ec", `
			for d in cache lock; do mkdir -p "$1/$d"; mount --bind "$1/$d" "$2/$d"; done
			mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -f "$1/sshd"`, "sh", n.dir, base)
		l.tool("nsenter", "-t", fmt.Sprint(c.own), "-n", "ip", "link", "add", n.link, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(n.pid))
		for _, end := range [][]string{{fmt.Sprint(c.own), n.link, fmt.Sprintf("192.0.2.%d/30", 4*i+1)}, {fmt.Sprint(n.pid), "eth0", n.address + "/30"}} {
			l.tool("nsenter", "-t", end[0], "-n", "ip", "address", "add", end[2], "dev", end[1])
			l.tool("nsenter", "-t", end[0], "-n", "ip", "link", "set", end[1], "up")
		}
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes { // until its sshd answers
		for end := time.Now().Add(10 * time.Second); exec.Command(c.inNetwork("ssh", c.options(n, "true")...)[0], c.inNetwork("ssh", c.options(n, "true")...)[1:]...).Run() != nil; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				l.Fatalf("node %s doesn't answer: %s", n.address, l.tool("sh", "-c", `"$@" 2>&1 || :`, "sh", "nsenter", "-t", fmt.Sprint(c.own), "-n", "ssh", "-v", n.address))
			}
		}
	}
	return c
}

// start starts what ends with the test, and waits until it has namespaces of its own.
func (c *cluster) start(args ...string) int {
	c.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	must(c, cmd.Start())
	c.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if c.Failed() {
			c.Log(said.String())
		}
	})
	ours, err := os.Readlink("/proc/self/ns/net")
	must(c, err)
	for range 100 {
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)); err == nil && theirs != ours {
			return cmd.Process.Pid
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.Fatalf("%v doesn't start", args)
	return 0
}

func (c *cluster) inNetwork(name string, args ...string) []string {
	return append([]string{"nsenter", "-t", fmt.Sprint(c.own), "-m", "-n", name}, args...)
}

func (c *cluster) sshOptions() []string {
	return []string{"IdentityFile=" + c.dir + "/admin", "UserKnownHostsFile=/dev/null"}
}

func (c *cluster) options(n otherNode, command ...string) (args []string) {
	for _, o := range []string{"IdentityFile=" + c.dir + "/admin", "UserKnownHostsFile=" + c.dir + "/known", "HostKeyAlias=cluster.example", "BatchMode=yes"} {
		args = append(args, "-o", o)
	}
	return append(append(args, "-l", "root", n.address), command...)
}

// sync is cache sync on this node.
func (c *cluster) sync(args ...string) *exec.Cmd { return c.by("sync", args...) }

func (c *cluster) by(command string, args ...string) *exec.Cmd {
	all := []string{"cache", command}
	for _, o := range c.sshOptions() {
		all = append(all, "--ssh-option", o)
	}
	words := c.inNetwork(base+"/os/instance-debootstrap", append(all, args...)...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = []string{"PATH=/sbin:/bin:/usr/sbin:/usr/bin"}
	return cmd
}

func (c *cluster) syncs(want string, args ...string) {
	c.Helper()
	out, err := c.sync(args...).CombinedOutput()
	if err != nil {
		c.Fatalf("cache sync %v: %v\n%s", args, err, out)
	}
	c.matches(string(out), want)
	c.clean(0)
}

// wire is how many bytes have gone over the cable to a node, by the kernel's count.
func (c *cluster) wire(n otherNode) (bytes int64) {
	c.Helper()
	var links []struct {
		Stats struct {
			RX, TX struct{ Bytes int64 }
		} `json:"stats64"`
	}
	raw := c.tool(c.inNetwork("ip", "-s", "-j", "link", "show", "dev", n.link)...)
	must(c, json.Unmarshal([]byte(raw), &links))
	return links[0].Stats.RX.Bytes + links[0].Stats.TX.Bytes
}

// holds tells whether the node has the tar as it is here, whole and alone.
func (c *cluster) holds(n otherNode, tar string) {
	c.Helper()
	there := filepath.Join(n.dir, "cache", filepath.Base(tar))
	if _, err := os.Stat(there); err != nil || sumOf(c, there) != sumOf(c, tar) {
		c.Errorf("node %s hasn't got %s: %v", n.address, tar, err)
	}
	left, _ := filepath.Glob(n.dir + "/cache/.*")
	if len(left) > 0 {
		c.Errorf("node %s has %v", n.address, left)
	}
}

// packageFiles has the fake debootstrap install 40 packages, some of them in another version.
func (l *lab) packageFiles(dir string, version uint64, changed ...int) {
	l.Helper()
	for i := range 40 {
		name := filepath.Join(dir, fmt.Sprintf("package%02d", i))
		must(l, os.MkdirAll(name, 0o755))
		seed := uint64(i)
		for _, n := range changed {
			if n == i {
				seed += version * 1000
			}
		}
		r := rand.New(rand.NewPCG(seed, seed))
		for file := range 20 {
			b := make([]byte, 1000+r.IntN(60<<10))
			for j := range b {
				b[j] = byte(r.Uint32())
			}
			path := filepath.Join(name, fmt.Sprint(file))
			must(l, os.WriteFile(path, b, 0o644))
			made := time.Unix(1700000000+int64(seed), 0) // the package says it
			must(l, os.Chtimes(path, made, made))
		}
	}
	l.fakeDebootstrapAgain("0.01")
	script, err := os.ReadFile(l.fakes + "/debootstrap")
	must(l, err)
	l.fake("debootstrap", string(script)+"\ncp -a "+dir+` "$target/usr/share"`)
}

func TestAPointUpdateComesToOtherNodesByItsChangesAlone(t *testing.T) {
	l := newCacheLab(t)
	c := newCluster(l, 2)
	packages := t.TempDir()
	l.packageFiles(packages, 0)
	l.cache("warm", "--filesystem", "xfs")
	tar := l.theTar()
	first, second := c.nodes[0], c.nodes[1]
	c.syncs(`(?s)192\.0\.2\.2: cache-.*: of [0-9.]+ MiB it had all but [1-9].*192\.0\.2\.6: cache`, first.address, second.address)
	c.holds(first, tar)
	c.holds(second, tar)
	c.syncs(`192\.0\.2\.2: cache-.*: it has it`, first.address)

	l.ageEntry(tar, 20) // as it is on the nodes, then
	for _, n := range c.nodes {
		l.ageEntry(filepath.Join(n.dir, "cache", filepath.Base(tar)), 20)
	}
	l.packageFiles(packages, 1, 7, 23) // 5 % of the packages
	l.cache("warm", "--expired", "--filesystem", "xfs")
	size := fileSize(t, tar)
	before := c.wire(first)
	c.syncs("it had all but", "--key", keyOf(tar)[:6], first.address)
	c.holds(first, tar)
	wire := c.wire(first) - before
	t.Logf("%d bytes of %d went over the wire: %.1f %%", wire, size, float64(wire)*100/float64(size))
	if wire > size/4 {
		t.Errorf("%d bytes of %d went over the wire", wire, size)
	}
	// The node takes it for its own.
	out := l.tool("nsenter", "-t", fmt.Sprint(first.pid), "-m", program, "cache", "verify")
	l.matches(out, filepath.Base(tar)+": ok")

	// One that is killed in the middle, here or there, leaves no half entry, and the next goes on.
	for what, kill := range map[string]func(sync *exec.Cmd){
		"here": func(sync *exec.Cmd) { sync.Process.Kill() },
		"there": func(*exec.Cmd) {
			for _, pid := range receivers() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		},
	} {
		must(t, os.RemoveAll(second.dir+"/cache/"+filepath.Base(tar)))
		must(t, os.RemoveAll(second.dir+"/cache/"+strings.TrimSuffix(filepath.Base(tar), ".tar")+".json"))
		l.tool("nsenter", "-t", fmt.Sprint(c.own), "-n", "tc", "qdisc", "add", "dev", second.link, "root", "tbf", "rate", "40mbit", "burst", "32k", "latency", "400ms")
		sync := c.sync(second.address)
		var said bytes.Buffer
		sync.Stdout, sync.Stderr = &said, &said
		must(t, sync.Start())
		part := ""
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if found, _ := filepath.Glob(second.dir + "/cache/.cache-*"); len(found) == 1 && fileSize(t, found[0]) > size/4 {
				part = found[0]
				break
			}
			if time.Now().After(end) {
				t.Fatalf("nothing comes:\n%s", said.String())
			}
		}
		kill(sync)
		if err := sync.Wait(); err == nil {
			t.Errorf("killed %s: no error:\n%s", what, said.String())
		}
		l.tool("nsenter", "-t", fmt.Sprint(c.own), "-n", "tc", "qdisc", "del", "dev", second.link, "root")
		if tars, _ := filepath.Glob(second.dir + "/cache/cache-*"); len(tars) > 0 {
			t.Errorf("killed %s: half an entry is there: %v", what, tars)
		}
		got := fileSize(t, part)
		for end := time.Now().Add(10 * time.Second); len(receivers()) > 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the receiving end goes on")
			}
		}
		before := c.wire(second)
		c.syncs("it had all but", second.address)
		c.holds(second, tar)
		if wire := c.wire(second) - before; wire > size-got+size/10 {
			t.Errorf("killed %s after %d bytes of %d, and then %d were sent", what, got, size, wire)
		}
	}
}

// receivers are the receiving ends that run.
func receivers() (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		var pid int
		fmt.Sscan(filepath.Base(filepath.Dir(link)), &pid)
		exe, _ := os.Readlink(link)
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if exe == program && bytes.Contains(line, []byte("receive")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// pulls brings a tree back from a node.
func (l *lab) pulls(c *cluster, from otherNode, tar string) {
	l.Helper()
	sum := sumOf(l, tar)
	must(l, os.Remove(tar)) // the folder stays, or the nodes' mounts on it go
	for range 2 {           // the second finds it here
		out, err := c.by("pull", from.address, keyOf(tar)[:5]).CombinedOutput()
		if err != nil || sumOf(l, tar) != sum || !strings.Contains(string(out), "it is here") {
			l.Errorf("cache pull: %v\n%s", err, out)
		}
	}
	l.clean(0)
	out, err := c.by("pull", from.address, "ffff").CombinedOutput()
	if want := `no cache entry has a key that begins with "ffff"`; err == nil || !strings.Contains(string(out), want) {
		l.Errorf("cache pull of what isn't there: %v\n%s", err, out)
	}
	if out, err := c.by("pull", "192.0.2.9", "ffff").CombinedOutput(); err == nil || !strings.Contains(string(out), "node 192.0.2.9: ffff: ssh: ") {
		l.Errorf("cache pull from nobody: %v\n%s", err, out)
	}
	l.clean(0)
}

func TestANodeThatCantTakeAnEntryIsNamedAndTheOthersGetIt(t *testing.T) {
	l := newCacheLab(t)
	c := newCluster(l, 2)
	l.cache("warm", "--filesystem", "xfs")
	tar := l.theTar()
	fails := func(want string, args ...string) string {
		t.Helper()
		out, err := c.sync(args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("cache sync %v: %v, without %q:\n%s", args, err, want, out)
		}
		l.clean(0)
		return string(out)
	}
	good, bad := c.nodes[0], c.nodes[1]
	fails("expected NODE")
	fails("is no node's name", "--", "-oProxyCommand=x")
	fails("no cache entry has a key", "--key", "ffff", good.address)
	if net.ParseIP(good.address) == nil {
		t.Fatal(good.address)
	}
	out := fails("have `ssh root@192.0.2.9 true` work without a question", "192.0.2.9", good.address) // nobody is there
	l.matches(out, "(?m)^192.0.2.2: cache-")
	c.holds(good, tar)
	c.isWatched(good, tar)

	// A full disk, an admin's edit, another program.
	l.tool("nsenter", "-t", fmt.Sprint(bad.pid), "-m", "mount", "-t", "tmpfs", "-o", "size=70m,mode=755", "cache", base+"/cache")
	l.tool("nsenter", "-t", fmt.Sprint(bad.pid), "-m", "dd", "if=/dev/zero", "of="+base+"/cache/rest", "bs=1M", "count=69", "status=none")
	fails("node 192.0.2.6: "+filepath.Base(tar)+": "+base+"/cache has ", bad.address)
	l.tool("nsenter", "-t", fmt.Sprint(bad.pid), "-m", "umount", base+"/cache")
	c.syncs("it had all but", bad.address)
	there := filepath.Join(bad.dir, "cache", filepath.Base(tar))
	l.pulls(c, bad, tar)
	l.age(there, 1)
	fails("was edited", bad.address)
	l.tool("nsenter", "-t", fmt.Sprint(bad.pid), "-m", "mount", "--bind", "/bin/echo", program)
	fails("doesn't answer as this program does", bad.address)
	l.tool("nsenter", "-t", fmt.Sprint(bad.pid), "-m", "mount", "--bind", "/bin/false", program)
	fails("node 192.0.2.6: ", bad.address)
}

// isWatched syncs on a terminal, where a line says what goes on, and goes before what is said
// at the end.
func (c *cluster) isWatched(n otherNode, tar string) {
	c.Helper()
	words := c.sync(n.address).Args
	seen := c.tool("script", "-qec", "'"+strings.Join(words, "' '")+"'", "/dev/null")
	name := filepath.Base(tar)
	c.matches(seen, `(?s)\x1b\[Kentry `+keyOf(tar)+`: .*\r\x1b\[K`+n.address+`: `+name+`: .*\r\x1b\[K`+n.address+`: `+name+`: it has it`)
}
