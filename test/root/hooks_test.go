//go:build root

package root

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func (l *lab) hook(name, script string) {
	l.Helper()
	l.write("conf/hooks/"+name, "#!/bin/bash\n"+script+"\n", 0o755)
}

func TestHookSeesTheDocumentedEnvironment(t *testing.T) {
	for _, style := range []string{"none", "msdos", "gpt"} {
		t.Run(style, func(t *testing.T) {
			l := newLab(t, 600)
			l.tinyTree()
			l.env["OSP_PARTITION_STYLE"], l.env["NIC_0_IP"] = style, "192.0.2.7"
			l.write("default", "export SITE=lab PROXY=http://proxy.example:3128\nhelper=x\nswapdev=\n", 0o644)
			l.hook("10-env", `
set -e
mountpoint -q "$TARGET"; mountpoint -d "$TARGET" >/dev/null
test "$(findmnt -n -o SOURCE "$TARGET")" = "$FSYSDEV"
test -b "$BLOCKDEV"; test -b "$FSYSDEV"; test "$DISK_0_PATH" = "$BLOCKDEV"
test "$(blkid -p -s TYPE -o value "$FSYSDEV")" = ext4
test "$(readlink /proc/self/fd/0)" = /dev/null
test "$(umask)" = 0022; test -d "$TARGET/etc/network"
case "$0" in /*) ;; *) exit 3;; esac
{ pwd; echo "$0"; env | sort; } > "$TARGET/hook-saw"`)
			l.create()
			l.mounted(func(tree string) {
				saw := l.tool("cat", tree+"/hook-saw")
				for _, want := range []string{
					base + "/os\n", base + "/conf/hooks/10-env\n", "TARGET=", "SUITE=trixie\n", "ARCH=\n", "PARTITION_STYLE=" + style + "\n",
					"EXTRA_PKGS=\n", "BLOCKDEV=/dev/loop", "FSYSDEV=/dev/loop", "PROXY=http://proxy.example:3128\n", "MIRROR=\n", "COMPONENTS=\n",
					"SITE=lab\n", "NIC_0_IP=192.0.2.7\n", "INSTANCE_NAME=inst1.example\n", "INSTANCE_HV_serial_console=True", "OS_VARIANT=default\n",
					"http_proxy=http://proxy.example:3128\n",
				} {
					if !strings.Contains(saw+"\n", want) {
						t.Errorf("the hook did not see %q:\n%s", want, saw)
					}
				}
				for _, no := range []string{"INSTANCE_DEBOOTSTRAP", "helper="} {
					if strings.Contains(saw, no) {
						t.Errorf("the hook saw %q", no)
					}
				}
			})
		})
	}
}

func TestFailingHookDoesNotStopLaterOnesAndIsNamedLast(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-first", `echo the reason is here; exit 3`)
	l.hook("20-second", `touch "$TARGET/second"; echo second ran`)
	l.hook("30.sh", `touch "$TARGET/dotted"; echo dotted ran`)
	log := l.fails("10-first")
	if !strings.Contains(log, " 10-first: the reason is here") || !strings.Contains(log, "second ran") || strings.Contains(log, "dotted ran") {
		t.Errorf("hooks' output:\n%s", log)
	}
}

func TestProcessLeftRunningInTargetIsNamedAndEnded(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-daemon", fmt.Sprintf(`cd "$TARGET"; trap '' TERM; (exec -a %s sleep 1000) >/dev/null 2>&1 & sleep 0.1`, mark()))
	log := l.create()
	if !strings.Contains(log, "left running") || !strings.Contains(log, "sleep") {
		t.Errorf("the log does not name the process:\n%s", log)
	}
}

func TestAHookThatEndsWhoeverUsesTheTreeDoesNotEndTheCreate(t *testing.T) {
	for _, namespace := range []string{"private", "host"} {
		l := newLab(t, 600)
		l.tinyTree()
		l.write("default", "NAMESPACE="+namespace+"\n", 0o644)
		l.hook("10-users", `sleep 1000 >"$TARGET/open" 2>&1 & until [ -e "$TARGET/open" ]; do sleep 0.1; done; fuser -s -k -TERM -m "$TARGET"; wait; fuser -s -k -m "$TARGET"; touch "$TARGET/ended"`)
		l.create()
		l.mounted(func(tree string) { l.tool("test", "-e", tree+"/ended") })
	}
}

func TestMountLeftInTargetIsUnmounted(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-mount", `mkdir -p "$TARGET/proc" "$TARGET/dev" "$TARGET/mnt"; mount --bind /proc "$TARGET/proc"; mount --bind /dev "$TARGET/dev"; mount -t tmpfs t "$TARGET/mnt"`)
	l.create()
	l.checkFilesystem("ext4")
}

func TestHookThatTruncatesDisk0PathCantDestroyAFileDisk(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.env["OSP_PARTITION_STYLE"] = "msdos"
	l.hook("10-mbr", `printf 'boot code' > "$DISK_0_PATH"`)
	l.create()
	if st, err := os.Stat(l.disk); err != nil || st.Size() != 600<<20 {
		t.Errorf("the disk file: %v, %v", st, err)
	}
	l.checkFilesystem("ext4")
	f, err := os.Open(l.disk)
	must(t, err)
	defer f.Close()
	b := make([]byte, 9)
	if _, err := f.Read(b); err != nil || string(b) != "boot code" {
		t.Errorf("the hook's boot sector is not on the disk: %q, %v", b, err)
	}
}

func TestCommonShInAHook(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	src, err := os.ReadFile("../../common.sh.in")
	must(t, err)
	text := strings.NewReplacer("@DEFAULTS_FILE@", base+"/default", "@CONF_DIR@", base+"/conf", "@CACHE_DIR@", base+"/cache", "@OS_DIR@", base+"/os").Replace(string(src))
	l.write("os/common.sh", text, 0o644)
	l.write("default", "my_helper=from-defaults\n", 0o644)
	l.hook("10-common", `
set -e
. common.sh
CLEANUP=( )
trap cleanup EXIT
mkdir -p "$TARGET/mnt"
mount -t tmpfs none "$TARGET/mnt"
CLEANUP+=("umount $TARGET/mnt")
echo "$SUITE $my_helper $(map_disk0 "$BLOCKDEV")" > "$TARGET/common"
test "$(map_disk0 "$BLOCKDEV")" = "$FSYSDEV"
test -n "$($VOL_ID "$FSYSDEV")"
log_error "a message"`)
	l.create()
	l.mounted(func(tree string) {
		if got := l.tool("cat", tree+"/common"); !strings.HasPrefix(got, "trixie from-defaults /dev/loop") {
			t.Errorf("common.sh gave %q", got)
		}
	})
}

func TestCustomizeDirOfAVariant(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	dir := filepath.Join(t.TempDir(), "hooks")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(dir+"/mine", []byte("#!/bin/sh\ntouch $TARGET/variant-hook\n"), 0o555))
	must(t, os.Chmod(dir+"/mine", 0o555))
	l.write("conf/variants/web.conf", "CUSTOMIZE_DIR="+dir+"\n", 0o644)
	l.env["OS_VARIANT"] = "web"
	l.create()
	l.mounted(func(tree string) { l.tool("test", "-e", tree+"/variant-hook") })
}
