package settings

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"instance-debootstrap/pkg/paths"
)

// lab is a set of settings files.
type lab struct {
	*testing.T
	src    Sources
	warned []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{T: t}
	l.src = Sources{
		DefaultsFile: filepath.Join(dir, "default"), VariantsDir: filepath.Join(dir, "variants"), VariantsList: filepath.Join(dir, "variants.list"),
		APIVersion: 20, Environ: []string{"PATH=" + os.Getenv("PATH")}, Params: map[string]string{},
		Warn: func(s string) { l.warned = append(l.warned, s) },
	}
	l.write("variants.list", "default\npublished\n")
	l.write("variants/default.conf", "")
	return l
}

func (l *lab) write(name, text string) string {
	l.Helper()
	path := filepath.Join(filepath.Dir(l.src.DefaultsFile), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
	return path
}

func (l *lab) defaults(text string)     { l.Helper(); l.write("default", text) }
func (l *lab) env(words ...string)      { l.src.Environ = append(l.src.Environ, words...) }
func (l *lab) load() (*Settings, error) { return Load(context.Background(), l.src) }

func (l *lab) must() *Settings {
	l.Helper()
	s, err := l.load()
	if err != nil {
		l.Fatal(err)
	}
	return s
}

// refused loads what must be refused, with each text in the message.
func (l *lab) refused(want ...string) {
	l.Helper()
	_, err := l.load()
	if err == nil {
		l.Fatalf("taken; wanted an error with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			l.Errorf("the error has no %q: %v", w, err)
		}
	}
}

// uncomment takes the # off the lines that set something.
func uncomment(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") {
			lines[i] = line[1:]
		}
	}
	return strings.Join(lines, "\n")
}

func TestDefaultsWithoutAnyFile(t *testing.T) {
	s := newLab(t).must()
	if s.Suite != "trixie" || s.PartitionStyle != "msdos" || s.PartitionAlignment != 2048 || s.Filesystem != "ext4" || !s.GenerateCache ||
		s.CleanCacheDays != 14 || s.CustomizeDir != paths.HooksDir() || s.CacheDir != paths.CacheDir || s.Bootstrap != "auto" || s.Namespace != "private" || s.Arch != "" {
		t.Errorf("%+v", s)
	}
}

func TestAPI5HasNoPartitionTable(t *testing.T) {
	l := newLab(t)
	l.src.APIVersion = 5
	if s := l.must(); s.PartitionStyle != "none" {
		t.Errorf("style %s", s.PartitionStyle)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	l := newLab(t)
	check := func(want string) {
		t.Helper()
		if got := l.must().Suite; got != want {
			t.Errorf("suite %s, want %s", got, want)
		}
	}
	l.env("SUITE=from-env")
	check("from-env")
	l.defaults("SUITE=from-file\n")
	check("from-file")
	l.src.Variant = "web"
	l.write("variants/web.conf", "SUITE=from-variant\n")
	check("from-variant")
	l.src.Params["suite"] = "from-param"
	check("from-param")
}

func TestAFileCanYieldToTheEnvironment(t *testing.T) {
	l := newLab(t)
	l.env("SUITE=sid")
	l.defaults(`: "${SUITE:=bookworm}" "${ARCH:=arm64}"` + "\n")
	if s := l.must(); s.Suite != "sid" || s.Arch != "arm64" {
		t.Errorf("suite %s, arch %s", s.Suite, s.Arch)
	}
}

func TestFilesSeeTheInstance(t *testing.T) {
	l := newLab(t)
	l.env("DISK_1_PATH=/dev/xenvg/swap", "INSTANCE_NAME=web1.example")
	l.defaults("swapdev=$DISK_1_PATH\ncase $INSTANCE_NAME in web*) EXTRA_PKGS=nginx,curl;; esac\nARCH=$(echo amd64)\n")
	s := l.must()
	if s.SwapDev != "/dev/xenvg/swap" || !slices.Equal(s.ExtraPkgs, []string{"nginx", "curl"}) || s.Arch != "amd64" {
		t.Errorf("%+v", s)
	}
}

func TestEmptyCleanCacheIsNever(t *testing.T) {
	for _, where := range []string{"file", "environment", "variant"} {
		l := newLab(t)
		switch where {
		case "file":
			l.defaults("CLEAN_CACHE=\"\"\n")
		case "environment":
			l.env("CLEAN_CACHE=")
		case "variant":
			l.src.Variant = "default"
			l.write("variants/default.conf", "CLEAN_CACHE=\n")
		}
		if s := l.must(); s.CleanCacheDays != -1 {
			t.Errorf("in the %s: %d days", where, s.CleanCacheDays)
		}
	}
}

func TestGenerateCacheIsYesOrNo(t *testing.T) {
	for value, want := range map[string]bool{"yes": true, "no": false, "Yes": false, "1": false} {
		l := newLab(t)
		l.defaults("GENERATE_CACHE=" + value + "\n")
		if s := l.must(); s.GenerateCache != want {
			t.Errorf("%s: %v", value, s.GenerateCache)
		}
	}
}

func TestBadValuesAreAllNamedWithTheirPlace(t *testing.T) {
	l := newLab(t)
	l.env("PARTITION_ALIGNMENT=0")
	l.defaults("# one\nSUITE='tri xie'\nMIRROR=http://user:secret@\n\nCLEAN_CACHE=soon\nSUITE+=!\nEXTRA_PKGS=vim,UPPER\n")
	l.src.Params["filesystem"] = "ntfs"
	l.src.Variant = "default"
	l.write("variants/default.conf", "PARTITION_STYLE=dos\n")
	l.refused("default:6: SUITE=", "default:5: CLEAN_CACHE=", "default:7: EXTRA_PKGS", `"UPPER"`, "default:3: MIRROR",
		"OS parameter filesystem: filesystem=\"ntfs\"", "the environment: PARTITION_ALIGNMENT", "default.conf:1: PARTITION_STYLE")
	if _, err := l.load(); strings.Contains(err.Error(), "secret") {
		t.Errorf("a password is in the message: %v", err)
	}
}

func TestFailingCommandIsAnErrorWithItsLine(t *testing.T) {
	for _, text := range []string{"A=1\nfalse\n", "\nX=$(false)\n", "\nno-such-command\n"} {
		l := newLab(t)
		l.defaults(text)
		l.refused("default:2")
	}
	l := newLab(t)
	l.defaults("if [ 1 = 1\n")
	l.refused("default:1")
}

func TestFileThatOthersCanWriteIsRefused(t *testing.T) {
	l := newLab(t)
	l.defaults("touch " + filepath.Join(t.TempDir(), "ran") + "\n")
	if err := os.Chmod(l.src.DefaultsFile, 0o666); err != nil {
		t.Fatal(err)
	}
	l.refused("chmod go-w " + l.src.DefaultsFile)

	l = newLab(t)
	l.src.Variant = "default"
	if err := os.Chmod(l.src.VariantsDir, 0o777); err != nil {
		t.Fatal(err)
	}
	l.refused("chmod go-w " + l.src.VariantsDir)
}

func TestVariantWithoutItsFile(t *testing.T) {
	l := newLab(t)
	l.src.Variant = "published"
	l.refused("variant published is published", "published.conf", "variants.list")
	l.src.Variant = "mistyped"
	l.refused("variant mistyped is not one", "mistyped.conf")
	l.src.Variant = "../default"
	l.refused("not a variant's name")
	l = newLab(t)
	l.src.Variant = "default"
	l.src.VariantsDir += "-missing"
	l.refused("no folder", "VARIANTS_DIR")
}

func TestNearMissIsWarnedOfOnceAndHelpersAreLeftAlone(t *testing.T) {
	l := newLab(t)
	l.defaults("MIROR=x\nMIROR=y\nSITE=z\nmirrors=a\nlocal_MIRROR=b\n")
	l.must()
	if len(l.warned) != 1 || !strings.Contains(l.warned[0], "MIRROR is meant") || !strings.Contains(l.warned[0], "default:2") {
		t.Errorf("warnings: %q", l.warned)
	}
}

func TestEXTRAPKGSIsTakenForEXTRA_PKGS(t *testing.T) {
	l := newLab(t)
	l.defaults("EXTRAPKGS=vim\n")
	if s := l.must(); !slices.Equal(s.ExtraPkgs, []string{"vim"}) || len(l.warned) != 0 {
		t.Errorf("%v, warnings %q", s.ExtraPkgs, l.warned)
	}
	l.defaults("EXTRAPKGS=vim\nEXTRA_PKGS=nano\n")
	if s := l.must(); !slices.Equal(s.ExtraPkgs, []string{"nano"}) {
		t.Errorf("%v", s.ExtraPkgs)
	}
}

func TestOnlyWhatIsExportedReachesHooks(t *testing.T) {
	l := newLab(t)
	l.env("KEPT=1")
	l.defaults("export SITE=lab\nHELPER=x\nexport KEPT=2\n")
	if s := l.must(); !slices.Equal(s.Exported, []string{"KEPT=2", "SITE=lab"}) {
		t.Errorf("exported %q", s.Exported)
	}
}

func TestTrailingSlashOfAMirrorGoes(t *testing.T) {
	l := newLab(t)
	l.defaults("MIRROR=http://mirror.example/debian/\n")
	if s := l.must(); s.Mirror != "http://mirror.example/debian" {
		t.Errorf("mirror %s", s.Mirror)
	}
}

func TestArrayIsNoSetting(t *testing.T) {
	l := newLab(t)
	l.defaults("HELPER=(a b)\nEXTRA_PKGS=(vim nano)\n")
	l.refused("EXTRA_PKGS", "array")
}
