//go:build root

package root

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestPlanVerifyDoctorAndCreateRefuseTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		lines      []string
		filesystem string // an OS parameter, which doctor doesn't have
		want       string
	}{
		"a swap file on btrfs":                     {[]string{"SWAP_FILE_SIZE=64"}, "btrfs", "SWAP_FILE_SIZE: a swap file on btrfs"},
		"a protected node in its own namespaces":   {[]string{"PROTECT_NODE=yes", "NAMESPACE=host"}, "ext4", "PROTECT_NODE=yes and NAMESPACE=host exclude each other"},
		"a folder to be writable that isn't there": {[]string{"PROTECT_NODE=yes", "NODE_WRITABLE=/no/such/folder"}, "ext4", "NODE_WRITABLE: /no/such/folder is not a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.tinyTree()
			must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
			l.write("default", "BOOTLOADER=none\n", 0o644)
			l.setting(c.lines...)
			l.env["OSP_FILESYSTEM"] = c.filesystem
			for _, args := range [][]string{{"instance-debootstrap", "plan", "create"}, {"verify"}, {"instance-debootstrap", "doctor"}} {
				if args[len(args)-1] == "doctor" && c.filesystem != "ext4" {
					continue
				}
				out, _ := l.run(args[0], args[1:]...)
				l.matches(out, c.want)
			}
			l.fails(c.want)
			if !l.isUntouched() {
				t.Error("the disk was written to")
			}
		})
	}
}

func TestPlanSaysLastWhatCreateWouldSayLastAndExitsAsItWould(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*lab)
		want    string
	}{
		"a disk that isn't there":    {func(l *lab) { l.env["DISK_0_PATH"] = "/no/such/disk" }, "no such file"},
		"a disk that is too small":   {func(l *lab) { must(l, os.Truncate(l.disk, 100<<20)) }, "100 MiB"},
		"a disk that something uses": {func(l *lab) { l.root() }, "in use: /dev/loop"},
		"a disk that is too small for a tree": {func(l *lab) {
			l.tool("sh", "-c", "cd "+l.TempDir()+"; mkdir etc; truncate -s 580M big; tar -cf "+l.tar()+" .")
		}, "is too small: it has 600 MiB"},
		"a block device that can't be written to": {func(l *lab) {
			l.env["DISK_0_PATH"] = l.root()
			l.Cleanup(func() { l.tool("blockdev", "--setrw", l.env["DISK_0_PATH"]) }) // which stays with the loop device
			l.tool("blockdev", "--setro", l.env["DISK_0_PATH"])
		}, "can't be written to"},
		"swap that holds a filesystem": {func(l *lab) {
			l.disks(l.disk, l.blankDisk("swap", 64))
			l.env["DISK_1_NAME"] = "swap"
			l.tool("mkfs.ext2", "-q", "-F", l.env["DISK_1_PATH"])
		}, "holds ext2"},
		"a data disk that is too small": {func(l *lab) {
			l.setting("DATA_DISKS=data=/srv:xfs")
			l.disks(l.disk, l.blankDisk("data", 16))
			l.env["DISK_1_NAME"] = "data"
		}, "is too small: it has 16 MiB"},
		"two data disks that are copies": {func(l *lab) {
			l.setting("DATA_DISKS=data=/srv,copy=/opt")
			data := l.blankDisk("data", 64)
			l.tool("mkfs.ext4", "-q", "-F", data)
			l.tool("cp", data, data+"-copy")
			l.disks(l.disk, data, data+"-copy")
			l.env["DISK_1_NAME"], l.env["DISK_2_NAME"] = "data", "copy"
		}, "with the same UUID"},
		"a tar that is damaged": {func(l *lab) { must(l, os.Truncate(l.tar(), 2000)) }, "repair it or remove it"},
		"a tar that is no root": {func(l *lab) {
			l.tool("tar", "-cf", l.tar(), "-C", "/usr/share", "--transform", "s,^,tree/,", "base-files")
		}, "there is no /etc at its top"},
		"a tar that everybody can write":  {func(l *lab) { must(l, os.Chmod(l.tar(), 0o666)) }, "can't be trusted"},
		"a hook that everybody can write": {func(l *lab) { l.write("conf/hooks/10-a", "#!/bin/sh\n", 0o777) }, "no hook is run"},
		"no file of keys":                 {func(l *lab) { l.setting("SSH_AUTHORIZED_KEYS=/no/such/keys") }, "/no/such/keys"},
		"no file of sources":              {func(l *lab) { l.setting("EXTRA_SOURCES=/no/such.list") }, "/no/such.list"},
		"no NIC for static":               {func(l *lab) { l.setting("NETWORK=static") }, "NETWORK=static"},
		"a kernel that isn't in the tree": {func(l *lab) { l.setting("BOOTLOADER=grub") }, "has no kernel in /boot"},
		"a boot test without a console": {func(l *lab) {
			l.setting("BOOTLOADER=auto", "BOOT_TEST=yes")
			l.env["INSTANCE_HV_serial_console"] = "False"
		}, "BOOT_TEST=yes reads"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 600)
			l.tinyTree()
			must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
			l.write("default", "BOOTLOADER=none\n", 0o644)
			c.prepare(l)
			out, exit := l.run("instance-debootstrap", "plan", "create")
			said, createExit := l.run("create")
			if plan, create := lastLine(out), lastLine(said); exit != createExit || exit != 1 || !strings.HasSuffix(": "+create, ": "+plan) || !strings.Contains(plan, c.want) {
				t.Errorf("plan exits with %d, create with %d:\n%s\n%s", exit, createExit, out, said)
			}
			if plan, exit := l.plan("create"); exit != 1 || len(plan.Steps) < 8 || !strings.Contains(strings.Join(plan.Refused, "\n"), c.want) {
				t.Errorf("as JSON: exit status %d\n%+v", exit, plan)
			}
		})
	}
}

func TestPlanHasItsStepsAndAllReasonsAtOnceWhereCreateIsRefused(t *testing.T) {
	l := newLab(t, 600)
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	l.write("default", "BOOTLOADER=grub\nPARTITION_STYLE=none\nNETWORK=static\nSSH_AUTHORIZED_KEYS=/no/such/keys\nEXTRA_SOURCES=/no/such.list\nKEYRING=/no/such.gpg\nSWAP_FILE_SIZE=64\n", 0o644)
	l.env["OSP_FILESYSTEM"] = "btrfs"
	l.write("conf/hooks/10-a", "#!/bin/sh\n", 0o777)
	reasons := []string{"BOOTLOADER=grub", "NETWORK=static", "/no/such/keys", "/no/such.list", "/no/such.gpg", "SWAP_FILE_SIZE", "no hook is run"}
	log, exit := l.run("create")
	text, planExit := l.run("instance-debootstrap", "plan", "create")
	plan, jsonExit := l.plan("create")
	if exit != 1 || planExit != 1 || jsonExit != 1 || len(plan.Steps) < 8 || len(plan.Refused) != len(reasons) {
		t.Errorf("create exits with %d, plan with %d and %d\n%+v", exit, planExit, jsonExit, plan)
	}
	for _, want := range reasons {
		if !strings.Contains(log, want) || !strings.Contains(strings.Join(plan.Refused, "\n"), want) {
			t.Errorf("%s is not in create's message, or not in plan's:\n%s\n%+v", want, log, plan.Refused)
		}
		l.matches(text, `(?s)unmount, sync and release the disks.*\nrefused: [^\n]*`+want)
	}
	if !l.isUntouched() {
		t.Error("the disk was written to")
	}
	l.clean(0)
}

func TestAPlanThatIsNotRefusedHasAnEmptyListOfReasons(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
	l.write("default", "BOOTLOADER=none\n", 0o644)
	if plan, exit := l.plan("create"); exit != 0 || plan.Refused == nil || len(plan.Refused) > 0 {
		t.Errorf("exit status %d\n%+v", exit, plan)
	}
}

func TestPlansOfRenameExportAndImportRefuseWhatTheVerbsDo(t *testing.T) {
	notWritable := func(l *lab) {
		dev := l.root()
		l.Cleanup(func() { l.tool("blockdev", "--setrw", dev) }) // which stays with the loop device
		l.tool("blockdev", "--setro", dev)
		l.env["DISK_0_PATH"] = dev
	}
	asDump := func(l *lab) { l.env["OSP_EXPORT_FORMAT"] = "dump" }
	for name, c := range map[string]struct {
		verb    string
		prepare func(*lab)
		want    string
	}{
		"rename, no disk":                  {"rename", func(l *lab) { l.env["DISK_0_PATH"] = "/no/such/disk" }, "no such file"},
		"rename, in use":                   {"rename", func(l *lab) { l.root() }, "in use: /dev/loop"},
		"rename, a disk without a table":   {"rename", func(*lab) {}, "and only ext2, ext3, ext4, xfs and btrfs are mounted"},
		"rename, a swap disk":              {"rename", func(l *lab) { l.tool("mkswap", "-q", l.disk) }, "holds swap"},
		"rename, two partitions":           {"rename", func(l *lab) { l.tool("sh", "-c", "printf '2048,4096,L\n8192,,L\n' | sfdisk -q "+l.disk) }, "rename the guest from inside"},
		"rename, not to be written to":     {"rename", notWritable, "can't be written to"},
		"export, no disk":                  {"export", func(l *lab) { l.env["DISK_0_PATH"] = "/no/such/disk" }, "no such file"},
		"export, in use":                   {"export", func(l *lab) { l.root() }, "in use: /dev/loop"},
		"export, a dump of xfs":            {"export", func(l *lab) { asDump(l); l.tool("mkfs.xfs", "-q", l.disk) }, "holds xfs: set EXPORT_FORMAT=tar"},
		"export, a dump of swap":           {"export", func(l *lab) { asDump(l); l.tool("mkswap", "-q", l.disk) }, "holds swap: set EXPORT_FORMAT=tar"},
		"export, a dump of nothing":        {"export", asDump, "no filesystem that we know: it holds nothing known: set EXPORT_FORMAT=tar"},
		"import, onto what isn't writable": {"import", notWritable, "can't be written to"},
		"import, onto a disk that isn't":   {"import", func(l *lab) { l.env["DISK_0_PATH"] = "/no/such/disk" }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMoveLab(t, 600)
			must(t, os.Symlink(program, base+"/os/instance-debootstrap"))
			l.env["OLD_INSTANCE_NAME"] = "old.example"
			c.prepare(l)
			for _, prefix := range []string{"EXPORT_", "IMPORT_"} {
				l.env[prefix+"DEVICE"], l.env[prefix+"INDEX"] = l.env["DISK_0_PATH"], "0"
			}
			run := func(script string, args ...string) (string, int) {
				cmd := l.command(script, args...)
				cmd.Stdin = strings.NewReader(tinyRaw)
				out, _ := cmd.CombinedOutput()
				return string(out), cmd.ProcessState.ExitCode()
			}
			before := sumOf(t, l.disk)
			said, exit := run("instance-debootstrap", "plan", c.verb)
			verbs, verbsExit := run(c.verb)
			if plan, verb := lastLine(said), lastLine(verbs); exit != 1 || verbsExit != 1 || !strings.HasSuffix(": "+verb, ": "+plan) || !strings.Contains(plan, c.want) {
				t.Errorf("plan exits with %d, %s with %d:\n%s\n%s", exit, c.verb, verbsExit, said, verbs)
			}
			if sumOf(t, l.disk) != before {
				t.Error("the disk was written to")
			}
		})
	}
}

// tinyRaw is a raw image of a disk, as far as that can be told.
var tinyRaw = strings.Repeat("\x00", 510) + "\x55\xaa" + strings.Repeat("\x00", 3584)

// planned is what plan prints as JSON.
type planned struct {
	Steps []struct {
		Name, Why, Refused string
		Needed             bool
	}
	Refused []string
}

func (l *lab) plan(verb string) (p planned, exit int) {
	l.Helper()
	cmd := l.command("instance-debootstrap", "plan", verb, "--json")
	out, err := cmd.Output()
	if err := json.Unmarshal(out, &p); err != nil {
		l.Fatalf("plan %s: %v\n%s", verb, err, out)
	}
	if err != nil {
		exit = cmd.ProcessState.ExitCode()
	}
	return p, exit
}

// lastLine is the last line of a log, without its time.
func lastLine(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	_, text, _ := strings.Cut(lines[len(lines)-1], " ")
	return text
}
