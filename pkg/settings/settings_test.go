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
	l.refused("default:2: bash can't read it: syntax error")
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
	if len(l.warned) != 1 || !strings.Contains(l.warned[0], "did you mean MIRROR?") || !strings.Contains(l.warned[0], "default:2") {
		t.Errorf("warnings: %q", l.warned)
	}
}

func TestAnOSParametersNameInAFileIsWarnedOf(t *testing.T) {
	l := newLab(t)
	l.defaults("swap_file_size=100\nmirror=http://mirror.example/\nMIRROR=${mirror}debian\n")
	l.must()
	if len(l.warned) != 1 || !strings.Contains(l.warned[0], "default:1: swap_file_size is an OS parameter, which files have as SWAP_FILE_SIZE") {
		t.Errorf("warnings: %q", l.warned)
	}
}

func TestAPackageThatAptWouldRemoveIsRefused(t *testing.T) {
	l := newLab(t)
	l.defaults("EXTRA_PKGS=g++,nano-\n")
	l.refused("default:1: EXTRA_PKGS", `"nano-" is not a package's name`)
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

func TestEXTRAPKGSOfOneFileDoesNotComeBackInTheNext(t *testing.T) {
	l := newLab(t)
	l.src.Variant = "default"
	l.defaults("EXTRAPKGS=vim\n")
	l.write("variants/default.conf", "EXTRA_PKGS=\n")
	if s := l.must(); len(s.ExtraPkgs) != 0 {
		t.Errorf("%v", s.ExtraPkgs)
	}
	l.write("variants/default.conf", "EXTRA_PKGS=$EXTRA_PKGS,nano\n")
	if s := l.must(); !slices.Equal(s.ExtraPkgs, []string{"vim", "nano"}) {
		t.Errorf("%v", s.ExtraPkgs)
	}
	l.defaults("EXTRA_PKGS=less\nEXTRAPKGS=vim\n")
	l.write("variants/default.conf", "")
	l.warned = nil
	if s := l.must(); !slices.Equal(s.ExtraPkgs, []string{"less"}) || len(l.warned) != 1 || !strings.Contains(l.warned[0], "EXTRAPKGS is ignored") {
		t.Errorf("%v, warnings %q", s.ExtraPkgs, l.warned)
	}
	l.defaults("")
	l.env("EXTRAPKGS=mc")
	if s := l.must(); !slices.Equal(s.ExtraPkgs, []string{"mc"}) || s.Origin["EXTRA_PKGS"] != "the environment" {
		t.Errorf("%v from %s", s.ExtraPkgs, s.Origin["EXTRA_PKGS"])
	}
}

func TestBadParameterIsNamedBesideABrokenFile(t *testing.T) {
	l := newLab(t)
	l.defaults("SUITE=(\n")
	l.src.Params = map[string]string{"filesystem": "ntfs", "suite": "sid", "unknown": "x"}
	l.refused("default:1: bash can't read it: ", `OS parameter filesystem: filesystem="ntfs"`)
	l.defaults("")
	l.src.Variant = "mistyped"
	l.refused("variant mistyped", "ntfs")
}

func TestAPasswordThatCameOutEmptyIsRefused(t *testing.T) {
	l := newLab(t)
	l.defaults("A=1\nROOT_PASSWORD=\"$6$abcdefgh$ABCDEF\"\n")
	l.refused("default:2: ROOT_PASSWORD is left empty", "single quotes")
	l.src.Variant = "default"
	l.defaults("ROOT_PASSWORD=locked\n")
	l.write("variants/default.conf", "ROOT_PASSWORD=$NOPE\n")
	l.refused("default.conf:1: ROOT_PASSWORD is left empty")
	l.write("variants/default.conf", "")
	l.src.Params["root_password"] = ""
	l.refused("OS parameter root_password is given and empty: leave it out")
	delete(l.src.Params, "root_password")
	if s := l.must(); s.RootPassword != "locked" {
		t.Errorf("%q", s.RootPassword)
	}
}

func TestAPasswordThatCameOutEmptyIsRefusedHoweverItWasSet(t *testing.T) {
	hash := `"$6$abcdefgh$ABCDEF"`
	for _, c := range []struct{ defaults, variant, want string }{
		{"A=1\n: \"${ROOT_PASSWORD:=" + hash + "}\"\n", "", "default:2: "},
		{"A=1\n: \"${ROOT_PASSWORD:=" + hash + "}\"\n", "A=2\n", "default:2: "},
		{"", "A=1\n: \"${ROOT_PASSWORD:=" + hash + "}\"\n", "default.conf:2: "},
		{": ${ROOT_PASSWORD:=$(true)}\n", "", "default:1: "},
		{"", ": ${ROOT_PASSWORD:=$(true)}\n", "default.conf:1: "},
		{"set +x\nROOT_PASSWORD=" + hash + "\n", "", "default:2: "},
		{"", "set +x\nROOT_PASSWORD=" + hash + "\n", "default.conf:2: "},
		{"ROOT_PASSWORD=locked", "set +x\nROOT_PASSWORD=" + hash + "\n", "default.conf:2: "},
		{"PS4='+ '\nROOT_PASSWORD=" + hash + "\n", "", "default:2: "},
		{"", "PS4='+ '\nROOT_PASSWORD=" + hash + "\n", "default.conf:2: "},
		{"declare -n R=ROOT_PASSWORD\nR=" + hash + "\n", "", "default:1: "},
		{"", "declare -n R=ROOT_PASSWORD\nR=" + hash + "\n", "default.conf:1: "},
		{"\nset_it() { ROOT_PASSWORD=$1; }\n", "set_it " + hash + "\n", "default:2: "},
		{"\nset_it() { printf -v ROOT_PASSWORD %s \"$1\"; }\n", "set_it " + hash + "\n", "default:2: "},
		{"ROOT_PASSWORD=locked\n", ". DIR/more\n", "more:2: "},
		{"ROOT_PASSWORD=locked\n", "D=DIR\n. $D/more\n", "more:2: "},
		{"ROOT_PASSWORD=locked\n", "A=1\nunset ROOT_PASSWORD\n", "default.conf:2: "},
		{"A=1\nROOT_PASSWORD=\n", "", "default:2: "},
		{"ROOT_PASSWORD=()\n", "", "default:1: "},
		{"export ROOT_PASSWORD=''\n", "", "default:1: "},
	} {
		l := newLab(t)
		more := l.write("more", "A=1\nROOT_PASSWORD="+hash+"\n")
		l.defaults(c.defaults)
		if c.variant != "" {
			l.src.Variant = "default"
			l.write("variants/default.conf", strings.ReplaceAll(c.variant, "DIR", filepath.Dir(more)))
		}
		if s, err := l.load(); err == nil || !strings.Contains(err.Error(), c.want+"ROOT_PASSWORD is left empty: say blank, locked") {
			t.Errorf("%q, %q: %v, %v; want %s", c.defaults, c.variant, s, err, c.want)
		}
	}
}

func TestAPasswordIsWhatTheLastWhoSetItSays(t *testing.T) {
	for _, c := range []struct{ defaults, variant, want, from string }{
		{"", "A=1\n", "blank", "the default"},
		{"ROOT_PASSWORD=blank\n", "A=1\n", "blank", "default:1"},
		{"", ": ${ROOT_PASSWORD:=locked}\n", "locked", "default.conf:1"},
		{"ROOT_PASSWORD=blank", ": ${ROOT_PASSWORD:=locked}\n", "blank", "default:1"},
		{"f() { ROOT_PASSWORD=locked; }\n", "f\n", "locked", "default:1"},
		{"ROOT_PASSWORD=\n", "ROOT_PASSWORD=locked\n", "locked", "default.conf:1"},
		{"unset ROOT_PASSWORD\n", "", "blank", "the default"},
	} {
		l := newLab(t)
		l.src.Variant = "default"
		l.defaults(c.defaults)
		l.write("variants/default.conf", c.variant)
		if s := l.must(); s.RootPassword != c.want || !strings.HasSuffix(s.Origin["ROOT_PASSWORD"], c.from) {
			t.Errorf("%q, %q: %s from %s", c.defaults, c.variant, s.RootPassword, s.Origin["ROOT_PASSWORD"])
		}
	}
}

func TestAHereDocumentMayBeEvaluated(t *testing.T) {
	for _, text := range []string{". /dev/stdin <<X\nSUITE=sid\nX\n", ". /dev/fd/3 3<<X\nSUITE=sid\nX\n", "source /proc/self/fd/0 <<<SUITE=sid\n", ". <(echo SUITE=sid)\n"} {
		l := newLab(t)
		l.defaults(text)
		if s, err := l.load(); err != nil || s.Suite != "sid" {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
}

func TestWhatRanForTheVariantIsTheVariants(t *testing.T) {
	l := newLab(t)
	l.src.Variant = "default"
	l.defaults("old() {\n  SUITE='jes sie'\n}\n")
	l.write("variants/default.conf", "old\n")
	l.refused("default:2: SUITE=")
	more := l.write("more", "\nSUITE='jes sie'\n")
	l.write("variants/default.conf", ". "+more+"\n")
	l.refused("more:2: SUITE=")
	l.src.Params["suite"] = "sid"
	if s := l.must(); s.Origin["SUITE"] != "OS parameter suite" {
		t.Error(s.Origin["SUITE"])
	}
	l.src.ParamNames = map[string]string{"extra_pkgs": "--extra-pkgs", "root_password": "--root-password-file"}
	l.src.Params["extra_pkgs"], l.src.Params["root_password"] = "a b!", "secret"
	l.refused("--extra-pkgs: EXTRA_PKGS=", "--root-password-file: ROOT_PASSWORD=(hidden)")
}

func TestASecretInAMistypedLineIsShownNowhere(t *testing.T) {
	for _, text := range []string{"ROOT_PASSWORD= '$6$salt$HASH'\n", "MIRROR=http://user:pass&HASH@mirror.example/debian\nfalse\n", "set -v\nROOT_PASSWORD='$6$salt$HASH'\nfalse\n"} {
		l := newLab(t)
		var said strings.Builder
		l.src.Stderr = &said
		l.defaults(text)
		_, err := l.load()
		if err == nil || strings.Contains(err.Error()+said.String(), "HASH") {
			t.Errorf("%q: %v\n%s", text, err, said.String())
		}
	}
}

func TestCheckOnlyWarnsOfACommandThatNeedsTheInstance(t *testing.T) {
	l := newLab(t)
	l.defaults(": ${DISK_1_PATH:?a second disk is needed}\n")
	if _, err := Check(context.Background(), l.src); err != nil {
		t.Error(err)
	}
	if len(l.warned) != 1 || !strings.Contains(l.warned[0], "a second disk is needed") {
		t.Errorf("warnings %q", l.warned)
	}
	l.refused("a second disk is needed")
	for _, text := range []string{"SUITE='a b'\nfalse\n", "set +e\n", "if\n", "MIRROR=gopher://x\n"} {
		l.defaults(text)
		if _, err := Check(context.Background(), l.src); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	if err := os.Chmod(l.src.DefaultsFile, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(context.Background(), l.src); err == nil {
		t.Error("a file that others can write: no error")
	}
}

func TestSettingsAreShownWithTheirPlaceAndWithoutPasswords(t *testing.T) {
	l := newLab(t)
	l.env("ARCH=i386")
	l.defaults("MIRROR=http://user:secret@mirror.example/debian\nPROXY=http://a:b@proxy.example:3128\n")
	l.src.Params["suite"] = "sid"
	text := l.must().String()
	for _, want := range []string{`MIRROR="http://***@mirror.example/debian" (` + l.src.DefaultsFile + ":1)\n", `ARCH="i386" (the environment)`, `SUITE="sid" (OS parameter suite)`, `CLEAN_CACHE="14" (the default)`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "a:b") {
		t.Errorf("a password is shown:\n%s", text)
	}
}

func TestWhatTheFilesUnsetIsNamed(t *testing.T) {
	l := newLab(t)
	l.env("GONE=1", "KEPT=1")
	l.defaults("unset GONE\nKEPT=2\n")
	s := l.must()
	if !slices.Equal(s.Unexported, []string{"GONE"}) || !slices.Equal(s.Exported, []string{"KEPT=2"}) {
		t.Errorf("unexported %q, exported %q", s.Unexported, s.Exported)
	}
}

func TestSymlinkToAFolderThatOthersCanWriteIsRefused(t *testing.T) {
	l := newLab(t)
	dir := filepath.Join(t.TempDir(), "open")
	target := filepath.Join(dir, "real")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, []byte("SUITE=sid\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, l.src.DefaultsFile); err != nil {
		t.Fatal(err)
	}
	if s := l.must(); s.Suite != "sid" {
		t.Errorf("suite %s", s.Suite)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	l.refused("chmod go-w " + dir)
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	l.must()
	l.src.DefaultsFile = dir
	l.refused("not a file")
}

// What uname -m prints would be searched for in the archive in vain, or taken for an
// architecture whose programs the node can't run.
func TestTheKernelsNameOfAnArchitectureIsRefusedWithDebians(t *testing.T) {
	for kernels, debians := range kernelArch {
		if err := checkArch(kernels); err == nil || !strings.Contains(err.Error(), debians) {
			t.Errorf("%s: %v", kernels, err)
		}
		if err := checkArch(debians); err != nil {
			t.Errorf("%s: %v", debians, err)
		}
	}
}

// Values that each check takes and refuses.
func TestValuesOfEachSetting(t *testing.T) {
	long := strings.Repeat("a", 300)
	for name, values := range map[string]struct{ good, bad []string }{
		"SUITE":               {[]string{"trixie", "sid", "bookworm-backports", "20.04", "oldstable"}, []string{"Trixie", "a b", "-x", ".x", "../x", "a/b", "$(id)", "x;y", "ä", "x\n"}},
		"ARCH":                {[]string{"", "amd64", "i386", "kfreebsd-amd64", "x32"}, []string{"AMD64", "a b", "-a", "a/b", "a,b", "x86_64", "i686", "aarch64"}},
		"MIRROR":              {[]string{"", "http://m.example/debian", "https://u:p@m.example:8080/d/", "ftp://m.example/", "file:///srv/mirror", "copy:/srv/mirror", "http://[2001:db8::1]/debian", "ssh://user@m.example/debian", "http://[fe80::1%25eth0]/debian"}, []string{"m.example/debian", "http:///debian", "gopher://x/", "http://m.example/a b", "-x", "http://m|x/", "javascript:x", "ssh://-oProxyCommand=id/x", "ssh://-oX@m.example/x", "ssh://%2DoX@m.example/x", "ssh:-oX", "ssh:///x", "rsh://-l/x", "tor+http://-x/d", "http://-x/d", "ftp://u@-x/d", "mirror://-x/list", "file:x", "http://m.example/'", "http://m.example/[x]", "/srv/mirror"}},
		"PROXY":               {[]string{"", "http://p.example:3128", "http://u:p@p.example:3128/", "p.example:3128", "[2001:db8::1]:3128", "socks5h://p.example:1080"}, []string{"p.example", "file:///x", "http://", "p example:1", "ftp://p.example/", "http://p.example/\"", "-o:80", "http://-x:80", "socks5://-u@p.example:1"}},
		"EXTRA_PKGS":          {[]string{"", "vim", "vim,less", "vim less", " vim ,, less, ", "g++,libstdc++6", "python3.11", "vim\tless\nmc"}, []string{"Vim", "v", "vim;less", "-x", "vim,--foo", "vim=1.0", "vim/sid", "a_b", "vim:", "libc6:i386", "+x", "$(id)"}},
		"COMPONENTS":          {[]string{"", "main", "main,contrib,non-free-firmware", "main contrib", "main/debian-installer"}, []string{"-x", "main;x", "a$b", "../x"}},
		"BOOTSTRAP":           {[]string{"auto", "debootstrap", "mmdebstrap"}, []string{"cdebootstrap", "Auto", "auto "}},
		"OSP_FILESYSTEM":      {[]string{"ext2", "ext3", "ext4", "xfs", "btrfs"}, []string{"ext5", "EXT4", "ntfs", "ext4 "}},
		"PARTITION_STYLE":     {[]string{"none", "msdos", "gpt"}, []string{"dos", "GPT", "mbr"}},
		"PARTITION_ALIGNMENT": {[]string{"1", "2048", "2097152"}, []string{"0", "-1", "2097153", "1MiB", "0x800", "2048s", "99999999999999999999"}},
		"LAYOUT":              {[]string{"", "none", "server", "web-2.b", "/etc/layouts/web"}, []string{"-x", "../web", "a/b", "a b", ".web", "/x\n"}},
		"swapdev":             {[]string{"", "/dev/vg/swap"}, []string{"swap", "./x", "/dev/a\nb"}},
		"CUSTOMIZE_DIR":       {[]string{"/etc/hooks", "/a b"}, []string{"hooks", "./hooks"}},
		"CACHE_DIR":           {[]string{"/var/cache/x"}, []string{"cache"}},
		"CACHE_MAX_SIZE":      {[]string{"", "20G", "800M", "1T", "20GiB", "8388607T"}, []string{"20", "0G", "-1G", "1.5G", "20g", "20GB", "99999999999T", "9999999T", "8388608T"}},
		"DERIVE_TREES":        {[]string{"yes", "no"}, []string{"maybe", "1"}},
		"KEEP_RECEIPTS":       {[]string{"yes", "no"}, []string{"maybe", "1"}},
		"RECEIPT_KEY":         {[]string{"", "/etc/key"}, []string{"key", "../key"}},
		"KEEP_PACKAGES":       {[]string{"yes", "no"}, []string{"maybe", "1"}},
		"CACHE_STALE_OK":      {[]string{"yes", "no"}, []string{"maybe", "1"}},
		"CLEAN_CACHE":         {[]string{"", "0", "14", "36500"}, []string{"-1", "never", "1.5", "36501"}},
		"GENERATE_CACHE":      {[]string{"yes", "no", "1", long}, nil},
		"SHARED_FILES":        {[]string{"warn", "refuse"}, []string{"yes", "strict"}},
		"SECURITY_MIRROR":     {[]string{"auto", "none", "http://mirror.example/debian-security", "https://m.example/s"}, []string{"yes", "http://u:p@mirror.example/s", "mirror.example"}},
		"SNAPSHOT":            {[]string{"", "2024-02-29", "20240101T120000Z"}, []string{"yesterday", "2023-02-29", "2024-1-1", "20240101", "20240101T250000Z", "20240101T000000", "2024-01-01 "}},
		"SNAPSHOT_MIRROR":     {[]string{"", "http://snapshot.example/archive/debian/"}, []string{"http://u:p@snapshot.example/debian", "file:///srv/snapshots", "snapshot.example"}},
		"KEYRING":             {[]string{"", "/etc/keys/site.gpg"}, []string{"site.gpg", "/a b", "/a,b", "/a]"}},
		"EXTRA_SOURCES":       {[]string{"", "/etc/site.sources", "/etc/a_b-c.d.list"}, []string{"site.list", "/etc/site", "/etc/.list", "/etc/a b.list", "/etc/debian.sources", "/etc/ubuntu.list"}},
		"EXPIRED_ARCHIVE":     {[]string{"warn", "refuse"}, []string{"yes"}},
		"GUEST_FSCK":          {[]string{"auto", "full"}, []string{"yes", "none"}},
		"DNS_NAMESERVERS":     {[]string{"", "192.0.2.53", "192.0.2.53,2001:db8::53 127.0.0.1"}, []string{"ns.example", "192.0.2.300", "fe80::1%eth0", "0.0.0.0", "192.0.2.1,192.0.2.2,192.0.2.3,192.0.2.4", "192.0.2.0/24"}},
		"PROTECT_NODE":        {[]string{"yes", "no"}, []string{"true", "1"}},
		"NODE_WRITABLE":       {[]string{"", "/tmp", "/tmp,/var/log /srv/hooks"}, []string{"tmp", "/", "/tmp/", "/a/../b"}},
		"SWAP_FILE_SIZE":      {[]string{"", "0", "1024", "1048576"}, []string{"-1", "1G", "1.5", "1048577", "none"}},
		"DNS_SEARCH":          {[]string{"", "example.com", "example.com,lan corp.example."}, []string{"-x", "a..b", ".", "a;b", "ä.example", "example.com/"}},
		"NAMESPACE":           {[]string{"private", "host"}, []string{"none", "Private"}},
	} {
		for _, v := range values.good {
			l := newLab(t)
			l.env(name + "=" + v)
			if _, err := l.load(); err != nil {
				t.Errorf("%s=%q: %v", name, v, err)
			}
		}
		for _, v := range values.bad {
			l := newLab(t)
			l.env(name + "=" + v)
			if _, err := l.load(); err == nil || !strings.Contains(err.Error(), "the environment: ") {
				t.Errorf("%s=%q is taken: %v", name, v, err)
			}
		}
	}
}

// Whatever the values, the checks answer, and what they take makes Settings.
func FuzzValues(f *testing.F) {
	f.Add("SUITE", "trixie")
	f.Add("MIRROR", "http://[")
	f.Add("EXTRA_PKGS", ",, ,")
	for _, row := range table {
		f.Add(row.Name, row.Example)
		f.Add(row.Name, row.Default)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		for _, row := range table {
			if row.Name != name {
				continue
			}
			if err := row.check(value); err != nil && strings.ContainsAny(err.Error(), "\x00\x1b\x07") {
				t.Errorf("%q isn't for a log", err)
			}
			if row.check(value) == nil && strings.ContainsAny(value, "\x00\n") && name != "EXTRA_PKGS" && name != "COMPONENTS" && name != "GENERATE_CACHE" {
				t.Errorf("%s=%q is taken", name, value)
			}
		}
	})
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

func TestPasswordOfAMalformedURLIsNotShown(t *testing.T) {
	for _, value := range []string{"user:CANARY@host/debian", "http:/user:CANARY@host", "http://user:CAN@ARY@[host"} {
		l := newLab(t)
		l.src.Params["mirror"] = value
		_, err := l.load()
		if err == nil || strings.Contains(err.Error(), "CANARY") || strings.Contains(err.Error(), "ARY@") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestWhatAVariantEmptiesIsTheDefaultAgain(t *testing.T) {
	l := newLab(t)
	l.src.Variant = "default"
	l.defaults("BOOTSTRAP=debootstrap\nSUITE=sid\nEXTRA_PKGS=vim\n")
	l.write("variants/default.conf", "BOOTSTRAP=\nPARTITION_ALIGNMENT=\nSUITE=\nEXTRA_PKGS=\nCUSTOMIZE_DIR=\nCACHE_DIR=\nNAMESPACE=\n")
	s := l.must()
	if s.Bootstrap != "auto" || s.PartitionAlignment != 2048 || s.Suite != "trixie" || len(s.ExtraPkgs) != 0 || s.CustomizeDir != "" || s.CacheDir != paths.CacheDir {
		t.Errorf("%+v", s)
	}
}

func TestEXTRAPKGSOfAVariantWins(t *testing.T) {
	l := newLab(t)
	l.src.Variant = "default"
	l.defaults("EXTRAPKGS=aaa\n")
	l.write("variants/default.conf", "EXTRAPKGS=bbb\n")
	if s := l.must(); !slices.Equal(s.ExtraPkgs, []string{"bbb"}) || len(l.warned) != 0 {
		t.Errorf("%v, warnings %q", s.ExtraPkgs, l.warned)
	}
}
