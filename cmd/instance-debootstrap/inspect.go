package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/guestdisk"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/userspace"
)

func (p *program) inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show what is on a disk, and what was installed there; changes nothing",
		ArgsUsage: "DISK",
		Description: "Shows the partition table, the filesystems, the boot loader, and the receipt that create\n" +
			"left in the guest. What a guest wrote is shown as it says it, not as it is. Not a byte of the\n" +
			"disk is changed, and what can't be mounted safely is not mounted.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "packages", Usage: "list what the guest says it has installed now"},
			&cli.BoolFlag{Name: "outdated", Usage: "list what the archive has in later versions than the guest"},
			&cli.BoolFlag{Name: "sbom", Usage: "print a bill of materials of what the guest says it has installed now (CycloneDX, in JSON), and nothing else"},
			&cli.StringFlag{Name: "verify", Usage: "tell by which of the public keys in `FILE` the receipt is signed (RECEIPT_KEY); it is an error if by none"},
			&cli.BoolFlag{Name: "json", Usage: "as JSON"}, formatFlag(),
		},
		Action: func(c *cli.Context) error {
			disk, err := diskAt(c)
			if err != nil {
				return err
			}
			if c.Bool("sbom") && (c.Bool("json") || c.Bool("packages") || c.Bool("outdated")) {
				return usagef("inspect: --sbom is all that is printed: leave out --json, --packages and --outdated")
			}
			what := asked{packages: c.Bool("packages") || c.Bool("sbom"), outdated: c.Bool("outdated")}
			if file := c.String("verify"); file != "" {
				if what.keys, err = receipt.ReadKeys(file); err != nil {
					return fmt.Errorf("--verify: %w", err)
				}
			}
			return p.sandboxed(c.Context, func(ctx context.Context, s *session.Session) error {
				in, err := p.inspect(ctx, s, disk, what)
				switch {
				case err != nil:
					return err
				case c.Bool("sbom"):
					err = in.writeBill(p.stdout())
				case c.Bool("json"):
					err = writeJSON(p.stdout(), in)
				default:
					err = printInspection(p.stdout(), in)
				}
				if err == nil && what.packages && in.NoPackages != "" {
					err = fmt.Errorf("disk %s: there are no packages to list: %s", in.Disk, in.NoPackages)
				}
				return cmp.Or(err, in.unsigned(what.keys))
			})
		},
	}
}

// asked is what inspect is asked for beside what it always says.
type asked struct {
	packages, outdated bool
	keys               *receipt.Keys // nil: nobody asks for the signature
}

// inspection is what it says.
type inspection struct {
	*guestdisk.Inspection
	Outdated *install.Outdated `json:"outdated,omitempty"`
}

// unsigned is the error of a receipt that isn't signed by the keys that it is to be signed by.
func (in inspection) unsigned(keys *receipt.Keys) error {
	switch {
	case keys == nil || in.Signature != nil && in.Signature.By != "":
		return nil
	case in.Signature == nil:
		return fmt.Errorf("disk %s: there is no receipt to verify: %s", in.Disk, in.NoReceipt)
	}
	return fmt.Errorf("disk %s: the receipt is not to be trusted: %s", in.Disk, in.Signature.Fault)
}

// writeBill writes the bill of materials of what is installed.
func (in inspection) writeBill(out io.Writer) error {
	if in.NoPackages != "" {
		return fmt.Errorf("disk %s: there are no packages for a bill of materials: %s", in.Disk, in.NoPackages)
	}
	name := filepath.Base(in.Disk)
	if in.Receipt != nil {
		name = in.Receipt.Instance
	}
	return writeBill(out, pattern.Plain(name), in.Suite, in.Packages)
}

func (p *program) inspect(ctx context.Context, s *session.Session, disk userspace.Source, what asked) (in inspection, err error) {
	fsck, err := p.guestFsck(ctx)
	if err != nil {
		return in, err
	}
	err = onDisk(ctx, s, disk, true, func(path string) (err error) {
		in.Inspection, err = guestdisk.Inspect(ctx, s, path, fsck, what.packages || what.outdated, what.keys)
		return err
	})
	if err != nil {
		return in, err
	}
	in.Disk = disk.Name
	if !what.outdated {
		return in, nil
	}
	if in.NoPackages != "" {
		return in, fmt.Errorf("disk %s: there are no packages to compare with the archive: %s", disk.Name, in.NoPackages)
	}
	set, err := p.settingsFor(ctx, &osapi.Request{APIVersion: 20, Environ: os.Environ()}, nil)
	if err == nil {
		in.Outdated, err = install.FindOutdated(ctx, s, set, suiteOf(in.Inspection), nil, in.Packages)
	}
	if err != nil {
		return in, fmt.Errorf("disk %s: %w", disk.Name, err)
	}
	if !what.packages {
		in.Packages = nil
	}
	return in, nil
}

// suiteOf is the suite whose archive is the guest's: the one that it says it is, but for sid,
// which calls itself by its next name.
func suiteOf(in *guestdisk.Inspection) string {
	if in.Receipt == nil {
		return in.Suite
	}
	if made := in.Receipt.Suite; made == "sid" || made == "unstable" || in.Suite == "" {
		return made
	}
	return in.Suite
}

// few are the first of a guest's list, which has few in a receipt of ours.
func few[T any](list []T) []T { return list[:min(len(list), 16)] }

func printInspection(out io.Writer, in inspection) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, words ...string) {
		said := slices.DeleteFunc(words, func(word string) bool { return word == "" })
		fmt.Fprintf(w, "%s:\t%s\n", name, strings.Join(said, " "))
	}
	row("disk", in.Disk+",", tell.MiB(in.SizeBytes))
	if in.InUse != "" {
		row("in use", pattern.Plain(in.InUse))
	}
	switch {
	case in.Fault != "":
		row("table", "unknown:", pattern.Plain(in.Fault))
	case in.ID != "":
		row("table", in.Style+",", "id", pattern.Plain(in.ID))
	default:
		row("table", in.Style)
	}
	row("boot loader", in.BootLoader)
	if in.Style == "none" {
		row("content", describeFilesystem(in.Filesystem))
		if in.Hint != "" {
			row("hint", in.Hint)
		}
	}
	for _, p := range in.Partitions {
		words := []string{pattern.Plain(p.TypeName) + ","}
		if p.Name != "" {
			words = append(words, pattern.Plain(p.Name)+",")
		}
		words = append(words, "sector", strconv.FormatInt(p.StartSector, 10), "on,", tell.MiB(p.Sectors*512)+",", "PARTUUID", pattern.Plain(p.UUID)+":", describeFilesystem(p.Filesystem))
		row("partition "+strconv.Itoa(p.Number), words...)
	}
	if sig := in.Signature; sig != nil && sig.By != "" {
		row("signed by", sig.By)
	} else if sig != nil {
		row("signed by", "none of the keys:", pattern.Plain(sig.Fault))
	}
	if in.Receipt == nil {
		row("receipt", "none:", pattern.Plain(in.NoReceipt))
	} else {
		printReceipt(row, in.Receipt)
	}
	if in.NoPackages != "" {
		row("packages", "none:", pattern.Plain(in.NoPackages))
	}
	for _, p := range in.Packages {
		row("package", pattern.Plain(p.Name), pattern.Plain(p.Version), pattern.Plain(p.Arch))
	}
	if in.Outdated != nil {
		for _, p := range in.Outdated.Outdated {
			row("outdated", pattern.Plain(p.Name), pattern.Plain(p.Version), "->", pattern.Plain(p.Newest), pattern.Plain(p.Arch))
		}
		row("archive", in.Outdated.String())
	}
	return w.Flush()
}

func describeFilesystem(f *guestdisk.InspectedFilesystem) string {
	if f == nil {
		return "nothing known"
	}
	if f.Fault != "" {
		return "unknown: " + pattern.Plain(f.Fault)
	}
	text := pattern.Plain(f.Type)
	if f.UUID != "" {
		text += ", UUID " + pattern.Plain(f.UUID)
	}
	if f.Label != "" {
		text += ", label " + pattern.Plain(f.Label)
	}
	if f.SizeBytes > 0 {
		text += fmt.Sprintf(", %s, %s used", tell.MiB(f.SizeBytes), tell.MiB(f.UsedBytes))
	}
	return text
}

// printReceipt shows what the guest's receipt says.
func printReceipt(row func(string, ...string), r *receipt.Receipt) {
	row("installed", r.Installed.UTC().Format(time.RFC3339), "by", pattern.Plain(r.Tool))
	row("instance", pattern.Plain(r.Instance))
	if r.Nodes != nil {
		row("primary node", pattern.Plain(r.Nodes.Primary))
		for _, node := range few(r.Nodes.Secondary) {
			row("secondary node", pattern.Plain(node))
		}
	}
	variant := ""
	if r.Variant != "" {
		variant = ", variant " + pattern.Plain(r.Variant)
	}
	row("suite", pattern.Plain(r.Suite)+",", pattern.Plain(r.Arch)+variant)
	if r.Snapshot != "" {
		row("snapshot", pattern.Plain(settings.ShowSnapshot(r.Snapshot)))
	}
	if r.Mirror != "" {
		row("mirror", pattern.Plain(r.Mirror))
	}
	for _, s := range few(r.Sources) {
		row("source", pattern.Plain(s))
	}
	row("tree", pattern.Plain(r.Tree.Source), pattern.Plain(r.Tree.Key), pattern.Plain(r.Tree.By))
	row("packages", strconv.Itoa(r.Packages.Count)+",", "sha256", pattern.Plain(r.Packages.SHA256))
	var firmware []string
	for _, f := range few(r.Boot.Firmware) {
		firmware = append(firmware, pattern.Plain(f))
	}
	row("boots by", pattern.Plain(r.Boot.Loader), strings.Join(firmware, "+"), pattern.Plain(r.Boot.Kernel))
	row("network", pattern.Plain(r.Network))
	for _, key := range few(r.SSHHostKeys) {
		row("ssh host key", pattern.Plain(key.Type), pattern.Plain(key.Fingerprint))
		row("its SSHFP record", pattern.Plain(key.SSHFP))
	}
}
