package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/os/debootstrap"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
)

func (p *program) inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show what is on a disk, and what was installed there; changes nothing",
		ArgsUsage: "DISK",
		Description: "Shows the partition table, the filesystems, the boot loader, and the receipt that create\n" +
			"left in the guest. DISK is a block device or an image file. What a guest wrote is shown as it\nsays it, not as it is.",
		OnUsageError: usageFault,
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: func(c *cli.Context) error {
			disk, err := diskArg(c)
			if err != nil {
				return err
			}
			return p.sandboxed(c.Context, func(ctx context.Context, s *session.Session) error {
				job := &debootstrap.Job{Request: &osapi.Request{BlockDev: disk}, Settings: &settings.Settings{}}
				in, err := debootstrap.Inspect(ctx, s, job)
				if err != nil {
					return err
				}
				if !c.Bool("json") {
					return printInspection(os.Stdout, in)
				}
				return printJSON(in)
			})
		},
	}
}

// plain is a text of a guest's for a terminal: quoted, where it isn't plain.
func plain(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	if q := strconv.QuoteToASCII(s); q != `"`+s+`"` {
		return q
	}
	return s
}

func mib(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) + " MiB" }

func printInspection(out io.Writer, in *debootstrap.Inspection) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, words ...string) {
		fmt.Fprintf(w, "%s:\t%s\n", name, strings.Join(words, " "))
	}
	row("disk", in.Disk+",", mib(in.SizeBytes))
	if in.InUse != "" {
		row("in use", plain(in.InUse))
	}
	switch {
	case in.Fault != "":
		row("table", "unknown:", plain(in.Fault))
	case in.ID != "":
		row("table", in.Style+",", "id", plain(in.ID))
	default:
		row("table", in.Style)
	}
	row("boot loader", in.BootLoader)
	if in.Style == "none" {
		row("content", describeFilesystem(in.Filesystem))
	}
	for _, p := range in.Partitions {
		words := []string{plain(p.TypeName) + ","}
		if p.Name != "" {
			words = append(words, plain(p.Name)+",")
		}
		words = append(words, "sector", strconv.FormatInt(p.StartSector, 10), "on,", mib(p.Sectors*512)+",", "PARTUUID", plain(p.UUID)+":", describeFilesystem(p.Filesystem))
		row("partition "+strconv.Itoa(p.Number), words...)
	}
	if in.Receipt == nil {
		row("receipt", "none:", plain(in.NoReceipt))
	} else {
		printReceipt(row, in.Receipt)
	}
	return w.Flush()
}

func describeFilesystem(f *debootstrap.InspectedFilesystem) string {
	if f == nil {
		return "nothing known"
	}
	text := plain(f.Type)
	if f.UUID != "" {
		text += ", UUID " + plain(f.UUID)
	}
	if f.Label != "" {
		text += ", label " + plain(f.Label)
	}
	if f.SizeBytes > 0 {
		text += fmt.Sprintf(", %s, %s used", mib(f.SizeBytes), mib(f.UsedBytes))
	}
	return text
}

// printReceipt shows what the guest's receipt says.
func printReceipt(row func(string, ...string), r *debootstrap.Receipt) {
	row("installed", r.Installed.UTC().Format(time.RFC3339), "by", plain(r.Tool))
	row("instance", plain(r.Instance))
	suite := []string{plain(r.Suite) + ",", plain(r.Arch)}
	if r.Variant != "" {
		suite = append(suite, "variant", plain(r.Variant))
	}
	row("suite", suite...)
	if r.Mirror != "" {
		row("mirror", plain(r.Mirror))
	}
	row("tree", plain(r.Tree.Source), plain(r.Tree.Key), plain(r.Tree.By))
	row("packages", strconv.Itoa(r.Packages.Count)+",", "sha256", plain(r.Packages.SHA256))
	firmware := make([]string, len(r.Boot.Firmware))
	for i, f := range r.Boot.Firmware {
		firmware[i] = plain(f)
	}
	row("boots by", plain(r.Boot.Loader), strings.Join(firmware, "+"), plain(r.Boot.Kernel))
	row("network", plain(r.Network))
	for _, key := range r.SSHHostKeys {
		row("ssh host key", plain(key.Type), plain(key.Fingerprint))
		row("its SSHFP record", plain(key.SSHFP))
	}
}
