package settings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/settings/bash"
)

// Sources says where settings come from.
type Sources struct {
	DefaultsFile, VariantsDir, VariantsList string

	Script     string            // the path of the verb's script, the files' $0
	Variant    string            // "" is none
	Root       int               // the index of the instance's root disk
	APIVersion int               // 5 changes PARTITION_STYLE's default
	UEFI       bool              // the hypervisor starts the guest by UEFI; the same
	Environ    []string          // NAME=value
	Params     map[string]string // OS parameters, by their lower-case names
	ParamNames map[string]string // how the admin knows those that Ganeti hasn't given
	Stderr     io.Writer         // what commands in the files print
	Warn       func(string)      // nil drops warnings

	noInstance bool // a command that fails is only a warning
}

// Settings is what is in force, checked.
type Settings struct {
	Suite, Arch, Mirror, Proxy string
	SecurityMirror             string // auto, none or a URL
	Snapshot, SnapshotMirror   string // a time as momentLayout has it, "" is today; a URL
	Keyring, ExtraSources      string // paths of files
	RefuseExpired              bool   // an archive whose Release file is out of date
	Components, ExtraPkgs      []string
	Bootstrap                  string
	Filesystem                 string
	PartitionStyle             string
	PartitionAlignment         int64  // sectors of 512 bytes
	Layout                     string // the name or the path of a file; "" is none
	SwapDev                    string
	ProtectNode                bool
	NodeWritable               []string // what hooks may write to then, absolute paths
	SwapFileMiB                int64    // 0 is none
	CustomizeDir, VariantsDir  string
	SharedFiles                string // warn or refuse
	GenerateCache              bool
	CleanCacheDays             int // -1 is never
	CacheStaleOK               bool
	DeriveTrees                bool // from cached ones that have a part of the packages
	KeepPackages               bool // in the cache
	KeepReceipts               bool // on the node
	ReceiptKey                 string
	CacheMaxBytes              int64 // 0 is no limit
	CacheDir                   string
	ExportFormat               string   // auto, tar, image or dump
	ImportUUID                 string   // keep or new
	MetadataLoss               string   // fail or warn
	Reflink                    bool     // share data with the cache where that can be done
	BootLoader                 string   // auto, none or grub
	KernelPkg                  string   // auto, cloud or a package
	Firmware                   string   // auto, bios, uefi or both
	GuestServices              []string // power, clock
	Network                    string   // auto, none, dhcp or static
	DNSServers                 []netip.Addr
	DNSSearch                  []string
	RootPassword               string   // blank, locked or a hash of crypt(5)
	SSHAuthorizedKeys          string   // the path of a file, or keys, one a line
	FirstBoot, UserData        string   // the path of a file, or the text
	ReinstallKeep              []string // absolute paths
	ReinstallKeepNone          bool     // nothing is to be kept, by that word
	ReinstallKeepMax           int64    // bytes
	DataDisks                  []DataDisk
	BootTest                   bool
	GuestFsck                  string // auto or full
	Namespace                  string // private or host
	MetricsDir                 string // "" is none

	Exported   []string          // what the files export, NAME=value, for hooks
	Unexported []string          // names of the environment that the files unset or no longer export
	Raw        map[string]string // every setting's text
	Origin     map[string]string // where each comes from: "file:line", "the environment", "the default", "OS parameter suite"
}

// String shows every setting, a line each, with where it comes from and without
// passwords.
func (s *Settings) String() string {
	var b strings.Builder
	for _, row := range table {
		fmt.Fprintf(&b, "%s=%s (%s)\n", row.Name, row.show(s.Raw[row.Name]), s.Origin[row.Name])
	}
	return b.String()
}

// Load evaluates the files and returns the settings in force. All faults are
// named in the one error, bad values with the place they come from. When a file
// can't be evaluated, only the OS parameters' values are checked beside it.
//
// The order is the scripts': the environment, the defaults file, built-in
// defaults for what is still empty, the variant, OS parameters.
func Load(ctx context.Context, src Sources) (*Settings, error) {
	l, err := evaluate(ctx, src)
	if err != nil {
		return nil, err
	}
	l.params()
	l.warnNearMisses()
	return l.finish()
}

// Check does what Load does where no instance is known, as in verify: a command
// in the files that fails is only warned of, since it may succeed once there is
// an instance; the values that were set before it are checked.
func Check(ctx context.Context, src Sources) (*Settings, error) {
	src.noInstance = true
	return Load(ctx, src)
}

// evaluate reads the files, in their order.
func evaluate(ctx context.Context, src Sources) (*loader, error) {
	l := &loader{src: src, origin: map[string]string{}, sh: newShell(src)}
	defer l.sh.Close()
	if err := l.source(ctx, src.DefaultsFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, l.withParams(fmt.Errorf("settings: %w", err))
	}
	l.defaults()
	l.scriptVariables()
	if err := l.variant(ctx); err != nil {
		return nil, l.withParams(err)
	}
	l.warnScriptsOwn()
	if err := l.emptySecrets(); err != nil {
		return nil, l.withParams(err)
	}
	l.filled = true
	l.defaults() // for what the variant emptied
	return l, nil
}

// withParams adds the faults of the OS parameters to err.
func (l *loader) withParams(err error) error {
	faults := []error{err}
	for _, row := range table {
		if value := l.src.Params[row.Param]; row.Param != "" && value != "" {
			if err := row.checkParam(value); err != nil {
				faults = append(faults, fmt.Errorf("%s: %s=%s: %w", l.paramName(row.Param), row.Param, row.show(value), err))
			}
		}
	}
	return errors.Join(faults...)
}

type loader struct {
	src    Sources
	sh     *bash.Shell
	origin map[string]string // of values that no file gave
	filled bool              // the files are read, after a first filling in of defaults
}

func (l *loader) source(ctx context.Context, path string) error {
	before, _ := l.sh.Get("EXTRAPKGS")
	err := l.sh.Source(ctx, path)
	var failed *bash.Error
	if errors.As(err, &failed) && failed.AtRunTime && l.src.noInstance {
		l.warn(failed.Error() + " (perhaps only because no instance is known here)")
		err = nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.alias(before)
	return err
}

func (l *loader) warn(text string) {
	if l.src.Warn != nil {
		l.src.Warn(text)
	}
}

// set gives a setting a value that comes from elsewhere than a file.
func (l *loader) set(name, value, origin string) {
	l.sh.Set(name, value)
	l.origin[name] = origin
}

// alias takes EXTRAPKGS, as some documents spelled it, for EXTRA_PKGS, when the
// environment or the file that was just read sets it. before is what it was.
func (l *loader) alias(before string) {
	pkgs, _ := l.sh.Get("EXTRA_PKGS")
	alias, _ := l.sh.Get("EXTRAPKGS")
	at, set := l.sh.SetBy("EXTRAPKGS")
	switch {
	case alias == "" || set && alias == before:
	case pkgs != "" && pkgs != before: // which is what an earlier file's EXTRAPKGS made it
		if set {
			l.warn(at + ": EXTRAPKGS is ignored, since EXTRA_PKGS is set too")
		}
	case set:
		l.set("EXTRA_PKGS", alias, at)
	default:
		l.set("EXTRA_PKGS", alias, "the environment")
	}
}

// mayBeEmpty are settings whose empty value means something else than their
// default, where a variant says so.
var mayBeEmpty = []string{"CLEAN_CACHE", "CUSTOMIZE_DIR"}

// defaults fills in what is unset or empty. An empty CLEAN_CACHE is a value. A password
// has no default before all files are read: a variant's ${ROOT_PASSWORD:=…} is meant.
func (l *loader) defaults() {
	own := map[string]string{"VARIANTS_DIR": l.src.VariantsDir}
	if l.src.APIVersion == 5 {
		own["PARTITION_STYLE"] = "none"
	} else if l.src.UEFI {
		own["PARTITION_STYLE"] = "gpt"
	}
	for _, s := range Table() {
		value, ok := l.sh.Get(s.Name)
		if value != "" || ok && (s.Name == "CLEAN_CACHE" || l.filled && slices.Contains(mayBeEmpty, s.Name)) || s.Secret && !l.filled {
			continue
		}
		def := s.Default
		if v, ok := own[s.Name]; ok {
			def = v
		}
		l.set(s.Name, def, "the default")
	}
}

// variant evaluates the variant's file. A variant that is in variants.list and
// has no file is a fault of the installation; one that isn't, of the request.
func (l *loader) variant(ctx context.Context) error {
	name := l.src.Variant
	if name == "" {
		return nil
	}
	if name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("variant %q: not a variant's name", name)
	}
	dir, _ := l.sh.Get("VARIANTS_DIR")
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("variant %s: there is no folder %s for the variants' files: make it, or set VARIANTS_DIR", name, dir)
	}
	path := filepath.Join(dir, name+".conf")
	l.sh.Set("VARIANT_CONFIG", path)
	err := l.source(ctx, path)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("settings: %w", err)
	case l.published(name):
		return fmt.Errorf("variant %s is published in %s, but its file %s is missing: create that (it may be empty), or take %s out of the list", name, l.src.VariantsList, path, name)
	}
	return fmt.Errorf("variant %s is not one of this OS's (%s): a mistyped name, most likely; to support it create %s", name, l.src.VariantsList, path)
}

// published tells whether variants.list has the variant, in a line of its own.
func (l *loader) published(name string) bool {
	text, _ := os.ReadFile(l.src.VariantsList)
	return slices.Contains(strings.Split(string(text), "\n"), name)
}

// emptySecrets refuses a password that is given and empty, which would be none at all:
// bash takes the $6$ of a hash within double quotes for variables, and a command that
// should have made it may have failed.
func (l *loader) emptySecrets() error {
	for _, s := range table {
		param, given := l.src.Params[s.Param]
		value, _ := l.sh.Get(s.Name)
		at, tried := l.sh.SetBy(s.Name)
		switch {
		case !s.Secret || s.Param == "" || s.Default == "": // where nothing is what it says
		case tried && value == "":
			return fmt.Errorf("settings: %s: %s is left empty: say %s; a hash needs single quotes, since bash takes its $ for variables within double ones", at, s.Name, s.Range)
		case given && param == "":
			return fmt.Errorf("%s is given and empty: leave it out, or say %s", l.paramName(s.Param), s.Range)
		}
	}
	return nil
}

// params puts the OS parameters over everything. An empty one is none.
func (l *loader) params() {
	for name, value := range l.src.Params {
		if s, ok := byParam(name); ok && value != "" {
			l.set(s.Name, value, l.paramName(name))
		}
	}
}

// paramName is how an admin knows a parameter.
func (l *loader) paramName(name string) string {
	return cmp.Or(l.src.ParamNames[name], "OS parameter "+name)
}

// where says where a setting's value comes from.
func (l *loader) where(name string) string {
	if at, ok := l.sh.SetBy(name); ok {
		return at
	}
	if o, ok := l.origin[name]; ok {
		return o
	}
	return "the environment"
}

// finish checks every value and makes the Settings.
func (l *loader) finish() (*Settings, error) {
	s := &Settings{Raw: map[string]string{}, Origin: map[string]string{}}
	var faults []error
	for _, row := range table {
		value, _ := l.sh.Get(row.Name)
		if row.Name == "MIRROR" {
			value = strings.TrimRight(value, "/")
		}
		s.Raw[row.Name], s.Origin[row.Name] = value, l.where(row.Name)
		var err error
		switch param := l.src.Params[row.Param]; {
		case l.sh.IsArray(row.Name):
			err = errors.New("is an array, and must be one text")
		case row.Param != "" && param != "":
			err = row.checkParam(value)
		default:
			err = row.check(value)
		}
		if err != nil {
			name := row.Name
			if name == filesystem {
				name = "filesystem"
			}
			faults = append(faults, fmt.Errorf("%s: %s=%s: %w", l.where(row.Name), name, row.show(value), err))
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	s.fill()
	s.Exported, s.Unexported = l.sh.Exported(), l.sh.Unexported()
	return s, nil
}

func (s *Settings) fill() {
	raw := s.Raw
	s.Suite, s.Arch, s.Mirror, s.Proxy = raw["SUITE"], raw["ARCH"], raw["MIRROR"], raw["PROXY"]
	s.SecurityMirror, s.Keyring, s.ExtraSources, s.RefuseExpired = raw["SECURITY_MIRROR"], raw["KEYRING"], raw["EXTRA_SOURCES"], raw["EXPIRED_ARCHIVE"] == "refuse"
	s.Snapshot, s.SnapshotMirror = moment(raw["SNAPSHOT"]), strings.TrimRight(raw["SNAPSHOT_MIRROR"], "/")
	s.Components, s.ExtraPkgs = list(raw["COMPONENTS"]), list(raw["EXTRA_PKGS"])
	s.Bootstrap, s.Filesystem, s.PartitionStyle = raw["BOOTSTRAP"], raw[filesystem], raw["PARTITION_STYLE"]
	if s.Layout = raw["LAYOUT"]; s.Layout == "none" {
		s.Layout = ""
	}
	s.PartitionAlignment, _ = strconv.ParseInt(raw["PARTITION_ALIGNMENT"], 10, 64)
	s.SwapDev, s.CustomizeDir, s.VariantsDir = raw["swapdev"], raw["CUSTOMIZE_DIR"], raw["VARIANTS_DIR"]
	s.ProtectNode, s.NodeWritable = raw["PROTECT_NODE"] == "yes", list(raw["NODE_WRITABLE"])
	s.SwapFileMiB, _ = strconv.ParseInt(raw["SWAP_FILE_SIZE"], 10, 64)
	s.SharedFiles, s.GuestFsck = raw["SHARED_FILES"], raw["GUEST_FSCK"]
	s.GenerateCache, s.CleanCacheDays = raw["GENERATE_CACHE"] == "yes", -1
	if days := raw["CLEAN_CACHE"]; days != "" {
		s.CleanCacheDays, _ = strconv.Atoi(days)
	}
	s.KeepReceipts, s.ReceiptKey = raw["KEEP_RECEIPTS"] == "yes", raw["RECEIPT_KEY"]
	s.DeriveTrees, s.KeepPackages = raw["DERIVE_TREES"] == "yes", raw["KEEP_PACKAGES"] == "yes"
	s.CacheStaleOK, s.CacheMaxBytes = raw["CACHE_STALE_OK"] == "yes", sizeBytes(raw["CACHE_MAX_SIZE"])
	s.CacheDir, s.Namespace, s.MetricsDir = raw["CACHE_DIR"], raw["NAMESPACE"], raw["METRICS_DIR"]
	s.BootLoader, s.KernelPkg, s.Firmware = raw["BOOTLOADER"], raw["KERNEL_PKG"], raw["FIRMWARE"]
	s.GuestServices = services(raw["GUEST_SERVICES"])
	s.Network, s.RootPassword, s.SSHAuthorizedKeys = raw["NETWORK"], raw["ROOT_PASSWORD"], raw["SSH_AUTHORIZED_KEYS"]
	s.FirstBoot, s.UserData = raw["FIRST_BOOT"], raw["USER_DATA"]
	s.ReinstallKeep, _ = parseKeep(raw["REINSTALL_KEEP"])
	s.ReinstallKeepNone = raw["REINSTALL_KEEP"] == keepNone
	s.ReinstallKeepMax = sizeBytes(raw["REINSTALL_KEEP_MAX"])
	s.DNSServers, _ = parseServers(raw["DNS_NAMESERVERS"])
	s.DNSSearch = list(raw["DNS_SEARCH"])
	s.DataDisks, _ = parseDataDisks(raw["DATA_DISKS"])
	s.BootTest = raw["BOOT_TEST"] == "yes"
	s.Reflink = raw["REFLINK"] != "no"
	s.ExportFormat, s.ImportUUID, s.MetadataLoss = raw["EXPORT_FORMAT"], raw["IMPORT_UUID"], raw["METADATA_LOSS"]
}
