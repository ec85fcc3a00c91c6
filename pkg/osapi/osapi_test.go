package osapi

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// base is what Ganeti 3.0 passes to create for a file disk.
func base() []string {
	return []string{
		"OS_API_VERSION=20", "OS_NAME=debootstrap", "INSTANCE_OS=debootstrap+default", "OS_VARIANT=default",
		"INSTANCE_NAME=web1.example.com", "INSTANCE_UUID=5a7b", "HYPERVISOR=kvm", "DEBUG_LEVEL=0",
		"DISK_COUNT=1", "DISK_0_PATH=/srv/ganeti/disk0", "DISK_0_SIZE=2048", "DISK_0_ACCESS=rw",
		"DISK_0_UUID=d0", "DISK_0_BACKEND_TYPE=file:loop", "NIC_COUNT=0",
		"INSTANCE_HV_serial_console=True", "INSTANCE_HV_kernel_path=None", "INSTANCE_BE_memory=512",
		"OSP_FILESYSTEM=xfs", "OSP_ROOT_SIZE=8", "PATH=/sbin:/bin",
	}
}

// with returns env with the variables replaced; "NAME" alone removes it.
func with(env []string, changes ...string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		keep := true
		for _, c := range changes {
			if n, _, _ := strings.Cut(c, "="); n == name {
				keep = false
			}
		}
		if keep {
			out = append(out, kv)
		}
	}
	for _, c := range changes {
		if strings.Contains(c, "=") {
			out = append(out, c)
		}
	}
	return out
}

func TestCreateReadsTheWholeEnvironment(t *testing.T) {
	env := with(base(), "NIC_COUNT=1", "NIC_0_MAC=aa:00:00:12:34:56", "NIC_0_MODE=bridged", "NIC_0_LINK=br0", "NIC_0_BRIDGE=br0",
		"NIC_0_IP=192.0.2.7", "NIC_0_NETWORK_NAME=lan", "NIC_0_NETWORK_SUBNET=192.0.2.0/24", "NIC_0_NETWORK_GATEWAY=192.0.2.1", "NIC_0_NETWORK_TAGS=a b", "NIC_0_FRONTEND_TYPE=e1000", "DISK_1_FRONTEND_TYPE=ide",
		"DISK_COUNT=2", "DISK_1_PATH=/dev/xen/swap", "DISK_1_NAME=swap", "DISK_1_SIZE=512", "INSTANCE_REINSTALL=1", "INSTANCE_PRIMARY_NODE=n1", "INSTANCE_SECONDARY_NODES=n2 n3")
	got, err := Parse(Create, nil, env)
	if err != nil {
		t.Fatal(err)
	}
	want := &Request{
		Verb: Create, APIVersion: 20, InstanceName: "web1.example.com",
		Variant: "default", Hypervisor: "kvm", InstanceUUID: "5a7b", PrimaryNode: "n1", SecondaryNodes: "n2 n3", BlockDev: "/srv/ganeti/disk0", Reinstall: true,
		Disks: []Disk{
			{Index: 0, Path: "/srv/ganeti/disk0", Access: "rw"},
			{Index: 1, Path: "/dev/xen/swap", Name: "swap", FrontendType: "ide"},
		},
		NICs: []NIC{{MAC: "aa:00:00:12:34:56", Mode: "bridged", Link: "br0", Bridge: "br0", IP: "192.0.2.7", FrontendType: "e1000",
			Network: Network{Name: "lan", Subnet: "192.0.2.0/24", Gateway: "192.0.2.1"}}},
		HV:       map[string]string{"serial_console": "True", "kernel_path": "None"},
		OSParams: map[string]string{"filesystem": "xfs", "root_size": "8"},
		Environ:  env,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestEveryAPIVersionOfTheEnvironmentForm(t *testing.T) {
	for text, want := range map[string]int{"10": 10, "15": 15, "20": 20} {
		for _, v := range []Verb{Create, Import, Export, Rename, Verify} {
			env := with(base(), "OS_API_VERSION="+text, "EXPORT_DEVICE=/dev/snap", "EXPORT_INDEX=0", "EXPORT_DISK_PATH=/dev/disk", "EXPORT_DISK_URI=",
				"IMPORT_DEVICE=/dev/new", "IMPORT_INDEX=0", "IMPORT_DISK_PATH=/dev/new", "OLD_INSTANCE_NAME=old.example.com", "EXP_SIZE_FD=11")
			got, err := Parse(v, nil, env)
			if err != nil {
				t.Fatalf("%s, API %s: %v", v, text, err)
			}
			dev := map[Verb]string{Create: "/srv/ganeti/disk0", Rename: "/srv/ganeti/disk0", Export: "/dev/snap", Import: "/dev/new"}[v]
			if got.APIVersion != want || got.BlockDev != dev || got.Variant != "default" {
				t.Errorf("%s, API %s: got API %d, disk %q, variant %q", v, text, got.APIVersion, got.BlockDev, got.Variant)
			}
		}
	}
}

func TestUnknownAPIVersionNamesItAndThoseKnown(t *testing.T) {
	for _, v := range []Verb{Create, Verify} {
		for _, text := range []string{"25", "0", "x", "05", "20 "} {
			_, err := Parse(v, nil, with(base(), "OS_API_VERSION="+text))
			if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "20, 15, 10 and 5") {
				t.Errorf("%s, version %q: %v", v, text, err)
			}
		}
	}
}

func TestAllMissingVariablesAreNamedTogether(t *testing.T) {
	for v, names := range map[Verb][]string{
		Create: {"INSTANCE_NAME", "HYPERVISOR", "DISK_COUNT"},
		Rename: {"INSTANCE_NAME", "HYPERVISOR", "DISK_COUNT", "OLD_INSTANCE_NAME"},
		Export: {"INSTANCE_NAME", "HYPERVISOR", "DISK_COUNT", "EXPORT_DEVICE"},
		Import: {"INSTANCE_NAME", "HYPERVISOR", "DISK_COUNT", "IMPORT_DEVICE"},
	} {
		_, err := Parse(v, nil, []string{"OS_API_VERSION=20"})
		if err == nil {
			t.Fatalf("%s: no error", v)
		}
		for _, n := range names {
			if strings.Count(err.Error(), "\n"+n+" is not set") != 1 {
				t.Errorf("%s: %s is not named once in:\n%v", v, n, err)
			}
		}
		if got := strings.Count(err.Error(), "is not set"); got != len(names) {
			t.Errorf("%s: %d names instead of %d in:\n%v", v, got, len(names), err)
		}
	}
}

func TestVerifyNeedsNoInstance(t *testing.T) {
	for _, argv := range [][]string{nil, {"parameters"}} {
		r, err := Parse(Verify, argv, []string{"OS_API_VERSION=20", "OS_NAME=debootstrap", "OS_VARIANT=", "DEBUG_LEVEL=0", "OSP_SUITE=sid"})
		if err != nil {
			t.Fatal(err)
		}
		if r.OSParams["suite"] != "sid" || r.Variant != "" {
			t.Errorf("got %+v", r)
		}
	}
	if _, err := Parse(Verify, []string{"parameters", "disks"}, []string{"OS_API_VERSION=20"}); err == nil || !strings.Contains(err.Error(), "disks") {
		t.Errorf("an unknown check is accepted: %v", err)
	}
}

// Each malformed value is named together with two others.
func TestMalformedVariablesAreNamedWithAllOthers(t *testing.T) {
	table := map[string][]string{
		"INSTANCE_NAME":        {"a b", "-x", "a..b", ".a", "a.", "a/b", "a\nb", "ä.example", "$(id)", strings.Repeat("a", 256)},
		"DISK_COUNT":           {"0", "-1", "+1", "0x1", "1.0", "one", " 1", "1 ", "1e3", "257", "99999999999999999999", "True"},
		"DISK_0_PATH":          {"disk0", "./disk", "a\nb"},
		"DISK_0_SIZE":          {"2G", "-1", "+5", "1.5", "99999999999999999999"},
		"NIC_COUNT":            {"x", "-1", "1000", "None"},
		"DEBUG_LEVEL":          {"loud", "-1"},
		"INSTANCE_REINSTALL":   {"yes", "2"},
		"OS_VARIANT":           {"../x", "a/b", ".hidden", "a\nb"},
		"NIC_0_MAC":            {"aa:00", "aa:00:00:12:34:5g", "aa-00-00-12-34-56", "aa:00:00:12:34:56\n"},
		"NIC_0_IP":             {"1.2.3", "999.1.1.1", "fe80::1%eth0"},
		"NIC_0_NETWORK_SUBNET": {"192.0.2.0", "192.0.2.0/33"},
	}
	for name, values := range table {
		for _, value := range values {
			env := with(with(base(), "NIC_COUNT=1", "HYPERVISOR=", "OSP_SECRET=hunter2"), name+"="+value)
			_, err := Parse(Create, []string{"extra"}, env)
			if err == nil {
				t.Fatalf("%s=%q: no error", name, value)
			}
			for _, want := range []string{name, "HYPERVISOR", "extra"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s=%q: %s is not named in:\n%v", name, value, want, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a parameter's value is shown: %v", err)
			}
		}
	}
}

func TestHostNamesThatGanetiAccepts(t *testing.T) {
	for _, name := range []string{"a", "web1", "web1.example.com", "1.example", "x_y.example", "xn--bcher-kva.example", strings.Repeat("a", 255)} {
		if _, err := Parse(Create, nil, with(base(), "INSTANCE_NAME="+name)); err != nil {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}

func TestADiskMayHaveAURIOnly(t *testing.T) {
	const uri = "rbd:pool/img:id=admin"
	for _, v := range []Verb{Create, Rename} {
		req, err := Parse(v, nil, with(base(), "DISK_0_PATH", "DISK_0_URI="+uri, "OLD_INSTANCE_NAME=old"))
		if err != nil || req.BlockDev != "" || req.Disks[0].Path != "" || req.Disks[0].URI != uri {
			t.Errorf("%s: %+v, %v", v, req, err)
		}
	}
	two := with(base(), "DISK_COUNT=2", "DISK_1_URI=rbd:pool/other")
	for v, prefix := range map[Verb]string{Export: "EXPORT_", Import: "IMPORT_"} {
		// As Ganeti has it for a snapshot, whose name only the export's own variable has.
		req, err := Parse(v, nil, append(two, prefix+"DISK_URI="+uri, prefix+"INDEX=1"))
		if err != nil || req.BlockDev != "" || req.Disks[1].Path != "" || req.Disks[1].URI != uri || req.Disks[0].Path == "" {
			t.Errorf("%s: %+v, %v", v, req, err)
		}
	}
	_, err := Parse(Export, nil, base())
	if err == nil || !strings.Contains(err.Error(), "EXPORT_DEVICE is not set, nor EXPORT_DISK_URI: give the path of the disk to export") {
		t.Errorf("export of nothing: %v", err)
	}
	neither := with(base(), "DISK_COUNT=3", "DISK_1_UUID=x", "DISK_2_PATH=/dev/c")
	_, err = Parse(Create, nil, neither)
	if err == nil || !strings.Contains(err.Error(), "DISK_1_PATH is not set, nor DISK_1_URI, though DISK_COUNT is 3") || strings.Contains(err.Error(), "DISK_2") {
		t.Errorf("a disk with neither path nor URI: %v", err)
	}
}

func TestExportIndexMustBeADiskOfTheInstance(t *testing.T) {
	for text, ok := range map[string]bool{"0": true, "1": true, "2": false, "-1": false, "": true} {
		env := with(base(), "DISK_COUNT=2", "DISK_1_PATH=/dev/b", "EXPORT_DEVICE=/dev/b", "EXPORT_INDEX="+text)
		if _, err := Parse(Export, nil, env); (err == nil) != ok {
			t.Errorf("index %q: %v", text, err)
		}
	}
	for text, ok := range map[string]bool{"": true, "3": true, "12": true, "2": false, "x": false} {
		env := with(base(), "EXPORT_DEVICE=/dev/b", "EXP_SIZE_FD="+text)
		if _, err := Parse(Export, nil, env); (err == nil) != ok {
			t.Errorf("descriptor %q: %v", text, err)
		}
	}
}

func TestAPI5Options(t *testing.T) {
	for _, env := range [][]string{{}, {"OS_API_VERSION="}, {"OS_API_VERSION=5"}, {"INSTANCE_NAME=ignored", "DISK_0_PATH=/ignored"}} {
		got, err := Parse(Create, []string{"-i", "web1", "-b/dev/vg/root", "-s", "/dev/vg/swap"}, env)
		if err != nil {
			t.Fatal(err)
		}
		want := &Request{Verb: Create, APIVersion: 5, InstanceName: "web1", BlockDev: "/dev/vg/root", SwapDev: "/dev/vg/swap",
			Disks: []Disk{{Path: "/dev/vg/root", Access: "rw"}}, HV: map[string]string{}, OSParams: map[string]string{}, Environ: append([]string(nil), env...)}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	r, err := Parse(Rename, []string{"-o", "old", "-n", "new", "-b", "/dev/a", "-s", "/dev/b", "--"}, []string{})
	if err != nil || r.InstanceName != "new" || r.OldInstanceName != "old" {
		t.Errorf("rename: %+v, %v", r, err)
	}
	if r, err := Parse(Export, []string{"-i", "new", "-b", "/dev/a"}, []string{}); err != nil || r.BlockDev != "/dev/a" {
		t.Errorf("export needs no swap disk: %v", err)
	}
}

func TestAPI5FaultsAreNamedTogether(t *testing.T) {
	for _, c := range []struct {
		verb Verb
		argv []string
		want []string
	}{
		{Create, nil, []string{"-i", "-b", "-s"}},
		{Rename, nil, []string{"-i", "-o", "-b", "-s"}},
		{Export, nil, []string{"-i", "-b"}},
		{Create, []string{"-i", "web1", "-b", "/dev/a", "-s"}, []string{"option -s: a value must follow", "option -s is not set"}},
		{Create, []string{"-x", "web1", "-b", "dev", "stray"}, []string{`"-x"`, `"web1"`, `"stray"`, "-i", `-b "dev"`, "-s"}},
		{Create, []string{"-i", "a b", "-b", "/d", "-s", "/s", "--", "more"}, []string{`"a b"`, "more"}},
		{Create, []string{"--instance"}, []string{`"--instance"`}},
		{Create, []string{"-"}, []string{`"-"`}},
	} {
		_, err := Parse(c.verb, c.argv, []string{})
		if err == nil {
			t.Errorf("%s %q: no error", c.verb, c.argv)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s %q: %s is not named in:\n%v", c.verb, c.argv, w, err)
			}
		}
	}
}

func TestFirstOfTwoEqualNamesCounts(t *testing.T) {
	r, err := Parse(Create, nil, append(base(), "INSTANCE_NAME=second", "nonsense", "=x"))
	if err != nil || r.InstanceName != "web1.example.com" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestARequestThatIsMadeIsWhatItsEnvironmentSays(t *testing.T) {
	base := []string{"PATH=/sbin:/bin", "CUSTOMIZE_DIR=/hooks"}
	made, err := New(Request{
		Verb: Create, InstanceName: "web1.example", Variant: "small", Hypervisor: "kvm", HV: map[string]string{"serial_console": "True"},
		Disks: []Disk{{Path: "/dev/a", Access: "w"}, {URI: "rbd:pool/swap", Access: "w", Name: "swap"}},
		NICs: []NIC{{MAC: "aa:00:00:12:34:56", Mode: "bridged", Link: "br0", Bridge: "br0", IP: "192.0.2.7", Network: Network{
			Name: "vm", Subnet: "192.0.2.0/24", Gateway: "192.0.2.1", Subnet6: "2001:db8::/64", Gateway6: "fe80::1",
		}}, {MAC: "aa:00:00:12:34:57", Mode: "bridged"}},
		OSParams: map[string]string{"suite": "trixie", "ssh_authorized_keys": "ssh-ed25519 AAAA a\nssh-ed25519 AAAA b"},
	}, base)
	if err != nil {
		t.Fatal(err)
	}
	read, err := Parse(Create, nil, made.Environ)
	if d := cmp.Diff(made, read); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	if made.BlockDev != "/dev/a" || !slices.Contains(made.Environ, "INSTANCE_OS=debootstrap+small") || made.Disks[1].Index != 1 || len(base) != 2 {
		t.Errorf("%+v", made)
	}
}

func TestARequestThatIsMadeIsCheckedAsGanetisIs(t *testing.T) {
	_, err := New(Request{
		Verb: Create, InstanceName: "a b", Variant: "../x", Disks: []Disk{{Path: "disk"}, {}},
		NICs: []NIC{{MAC: "aa:00", IP: "1.2.3", Network: Network{Subnet: "192.0.2.0", Gateway6: "x"}}},
	}, nil)
	if err == nil {
		t.Fatal("it is taken")
	}
	for _, name := range []string{"INSTANCE_NAME", "OS_VARIANT", "HYPERVISOR", "DISK_0_PATH", "DISK_1_PATH", "NIC_0_MAC", "NIC_0_IP", "NIC_0_NETWORK_SUBNET", "NIC_0_NETWORK_GATEWAY6"} {
		if !strings.Contains(err.Error(), name+" ") {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
}

func TestParseVerb(t *testing.T) {
	for _, s := range []string{"create", "import", "export", "rename", "verify"} {
		if v, ok := ParseVerb(s); !ok || string(v) != s {
			t.Errorf("%s: %q %v", s, v, ok)
		}
	}
	for _, s := range []string{"", "Create", "create ", "install", "create_untrusted"} {
		if _, ok := ParseVerb(s); ok {
			t.Errorf("%q is accepted", s)
		}
	}
}

// Whatever is passed, Parse answers with a complete request or an error.
func FuzzParse(f *testing.F) {
	f.Add("create", "", strings.Join(base(), "\n"))
	f.Add("export", "-i\x00web1\x00-b\x00/dev/a", "OS_API_VERSION=5")
	f.Add("create", "", strings.Join(append(base()[:8:8], "DISK_COUNT=2", "DISK_0_PATH=/dev/a", "DISK_1_URI=rbd:x", "NIC_COUNT=1", "NIC_0_MAC=aa:00:00:12:34:56", "NIC_0_IP=192.0.2.5", "NIC_0_NETWORK_SUBNET=192.0.2.0/24", "NIC_0_NETWORK_GATEWAY6=fe80::1%x"), "\n"))
	f.Add("import", "", strings.Join(append(base(), "IMPORT_DEVICE=/dev/a", "IMPORT_INDEX=0", "INSTANCE_REINSTALL=True"), "\n"))
	f.Add("rename", "-o\x00x", "DISK_COUNT=2\nDISK_1_URI=x")
	f.Fuzz(func(t *testing.T, verb, args, env string) {
		v, ok := ParseVerb(verb)
		if !ok {
			return
		}
		var argv []string
		if args != "" {
			argv = strings.Split(args, "\x00")
		}
		environ := strings.Split(env, "\n")
		r, err := Parse(v, argv, environ)
		if r == nil && err == nil {
			t.Fatal("neither a request nor an error")
		}
		if err == nil && v != Verify && (r.BlockDev == "" || !validHostName(r.InstanceName)) {
			t.Errorf("incomplete request %+v", r)
		}
		if err != nil {
			if i := strings.IndexFunc(err.Error(), func(r rune) bool { return unicode.IsControl(r) && r != '\n' }); i >= 0 {
				t.Errorf("%q isn't for a log", err)
			}
			return
		}
		if len(r.Disks) > maxDevices || len(r.NICs) > maxDevices || strings.ContainsAny(r.BlockDev+r.SwapDev+r.Variant, "\x00\n") {
			t.Errorf("it is taken: %+v", r)
		}
		for _, d := range r.Disks {
			if d.Path != "" && !filepath.IsAbs(d.Path) || d.Path == "" && d.URI == "" || strings.ContainsAny(d.Path, "\x00\n") {
				t.Errorf("a disk %+v", d)
			}
		}
		for _, n := range r.NICs {
			for _, text := range []string{n.IP, n.Network.Gateway, n.Network.Gateway6} {
				if a, err := netip.ParseAddr(text); text != "" && (err != nil || a.Zone() != "") {
					t.Errorf("the address %q of %+v", text, n)
				}
			}
		}
	})
}

func TestWhatGanetiKeepsForItselfIsNoDiskOfTheGuests(t *testing.T) {
	// As a UEFI instance of a Ganeti to come may look: its firmware comes first, the root
	// was added later, and a disk with a role that nobody has heard of has no path at all.
	env := with(base(), "DISK_COUNT=4", "DISK_0_ROLE=firmware", "DISK_0_NAME=swap", "DISK_1_PATH=/dev/vg/root", "DISK_1_ROLE=data",
		"DISK_2_ROLE=vtpm", "DISK_2_NAME=swap", "DISK_3_PATH=/dev/vg/swap", "DISK_3_NAME=swap", "DISK_3_ROLE=None",
		"OLD_INSTANCE_NAME=old.example.com", "EXPORT_DEVICE=/dev/snap", "EXPORT_INDEX=1", "IMPORT_DEVICE=/dev/vg/root", "IMPORT_INDEX=1")
	for _, v := range []Verb{Create, Rename, Import, Export} {
		got, err := Parse(v, nil, env)
		if err != nil {
			t.Fatalf("%s: %v", v, err)
		}
		var swaps []string
		for _, d := range got.Named("swap") {
			swaps = append(swaps, d.Path)
		}
		if got.Root != 1 || !cmp.Equal(swaps, []string{"/dev/vg/swap"}) {
			t.Errorf("%s: root %d, swap %v", v, got.Root, swaps)
		}
		switch v {
		case Create, Rename:
			if got.BlockDev != "/dev/vg/root" {
				t.Errorf("%s works on %s", v, got.BlockDev)
			}
		default:
			if !got.IsRoot() {
				t.Errorf("%s: the root isn't taken for it", v)
			}
		}
	}
	_, err := Parse(Create, nil, with(base(), "DISK_0_ROLE=firmware"))
	if err == nil || !strings.Contains(err.Error(), "DISK_0_ROLE") {
		t.Errorf("no disk of the guest's: %v", err)
	}
}
