package settings

import (
	"fmt"
	"strings"

	"instance-debootstrap/test/manual"
)

// manualPage returns instance-debootstrap.conf(5), before the build has put the folders
// in (man-pages(7), groff_man(7)).
func manualPage() string {
	var b strings.Builder
	b.WriteString(`.\" Made from the table of settings: go test ./pkg/settings -update
.TH INSTANCE\-DEBOOTSTRAP.CONF 5 "" "instance-debootstrap @VERSION@"
.SH NAME
instance\-debootstrap.conf \- settings of the Ganeti OS definition debootstrap
.SH SYNOPSIS
.I @DEFAULTS_FILE@
.br
.I @CONF_DIR@/variants/VARIANT.conf
.SH DESCRIPTION
Both files are read as
.BR bash (1)
reads them, for each guest that is installed: first the settings file, then the
variant's, which wins. They see what Ganeti says of the instance (INSTANCE_NAME,
DISK_1_PATH and so on, see
.BR ganeti\-os\-interface (7)),
and what they export reaches the hooks. A command in them that fails stops the
installation before a disk is touched.
.PP
Ganeti's OS parameters
.RB ( "gnt\-instance add \-O suite=trixie" )
win over both files. A setting that has one is shown with its name. In the
environment a setting wins over its default only.
.PP
Only root may be able to change these files.
.SH SETTINGS
`)
	for _, s := range Table() {
		fmt.Fprintf(&b, ".TP\n.B %s\n", manual.Text(s.Name))
		values := "Values: " + s.Range + "."
		if s.Default != "" {
			values += " The default is " + s.Default + "."
		}
		for _, line := range append(manual.Wrap(manual.Text(s.Text), 76), manual.Wrap(manual.Text(values), 76)...) {
			b.WriteString(line + "\n")
		}
		if s.Param != "" {
			fmt.Fprintf(&b, "OS parameter:\n.BR %s .\n", manual.Text(s.Param))
		}
	}
	b.WriteString(`.SH EXAMPLES
A variant for small guests that boot their own kernel by UEFI, and can be
reached by ssh:
.PP
.nf
.RS 4
SUITE=trixie
PARTITION_STYLE=gpt
KERNEL_PKG=cloud
SSH_AUTHORIZED_KEYS=/etc/ganeti/instance\-debootstrap/admins.pub
.RE
.fi
.SH SEE ALSO
.BR instance\-debootstrap (8),
.BR instance\-debootstrap\-hooks (7),
.BR ganeti\-os\-interface (7)
`)
	return manual.WithFolders(b.String())
}
