package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/receipt"
)

// instanceList has the names of a cluster's instances, on each of its nodes, a line each.
const instanceList = "/var/lib/ganeti/ssconf_instance_list"

func (p *program) auditCommand() *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "list the guests that were installed on this node, by their receipts", ArgsUsage: "[PACKAGE[<VERSION]...]",
		Description: "Lists the guests whose receipts this node keeps (KEEP_RECEIPTS=yes): with PACKAGE those that\nwere installed with it, with PACKAGE<VERSION with an older one than that. PACKAGE may be a\nsource package's name. What was upgraded in a guest since, nobody here knows. Of an instance\nthat several nodes list, the one with the latest time is what is on its disk.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "as JSON, with the whole receipts"},
			&cli.BoolFlag{Name: "forget", Usage: "remove the receipts of instances that Ganeti no longer has"},
		},
		Action: p.audit,
	}
}

func (p *program) audit(c *cli.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("audit needs root: what was installed isn't for everybody to read")
	}
	var wanted []receipt.Wanted
	for _, text := range c.Args().Slice() {
		w, err := receipt.ParseWanted(text)
		if err != nil {
			return &usageError{err}
		}
		wanted = append(wanted, w)
	}
	all, err := receipt.ReadFiled(paths.StateDir)
	all, goneErr := withoutGone(c, all)
	found := receipt.Audit(all, wanted)
	switch {
	case err != nil:
	case len(all) == 0:
		p.tell("no receipt is kept on this node; KEEP_RECEIPTS=yes keeps those of guests to come")
	case len(found) == 0:
		p.tell("none of the guests that are known here (%d) was installed with that", len(all))
	}
	print := printFound
	if c.Bool("json") {
		print = func(found []receipt.Found, _ bool) error { return printJSON(append([]receipt.Found{}, found...)) }
	}
	return errors.Join(print(found, len(wanted) > 0), goneErr, err)
}

// withoutGone leaves out what Ganeti no longer has.
func withoutGone(c *cli.Context, all []receipt.Filed) ([]receipt.Filed, error) {
	text, err := os.ReadFile(instanceList)
	if errors.Is(err, fs.ErrNotExist) { // no node of a cluster
		return all, nil
	}
	if err != nil {
		return all, err
	}
	gone := receipt.Gone(all, strings.Fields(string(text)))
	if len(gone) == 0 {
		return all, nil
	}
	if !c.Bool("forget") {
		fmt.Fprintf(os.Stderr, "of instances that Ganeti no longer has: %s (--forget removes their receipts)\n", strings.Join(gone, ", "))
	}
	for _, name := range gone {
		if c.Bool("forget") {
			err = errors.Join(err, receipt.Forget(paths.StateDir, name))
		}
	}
	return slices.DeleteFunc(all, func(k receipt.Filed) bool { return slices.Contains(gone, k.Instance) }), err
}

func printFound(found []receipt.Found, packages bool) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, f := range found {
		r := f.Receipt
		line := []string{f.Instance, r.Installed.Format("2006-01-02 15:04"), r.Suite + " " + r.Arch}
		if !packages {
			fmt.Fprintln(w, strings.Join(append(line, fmt.Sprintf("%d packages", len(f.Packages)), r.Tree.Key), "\t"))
			continue
		}
		for _, p := range f.Packages {
			fmt.Fprintln(w, strings.Join(append(line, pattern.Plain(p.Name), pattern.Plain(p.Version)), "\t"))
		}
	}
	return w.Flush()
}
