package boot

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/pattern"
)

// Menu is what the first grub.cfg has beside the kernels.
type Menu struct {
	Timeout string // seconds, -1 is until a key is pressed
	Style   string // of the timeout: menu, hidden, countdown; "" is GRUB's own
	// Input and Output are GRUB's terminals, blanks between them; "" is its own.
	// Serial is the command that sets up a serial one.
	Input, Output, Serial string
	// Args are the kernels' arguments, Quiet those that recovery has not.
	Args, Quiet string
}

// plainMenu is the menu of a guest without settings for update-grub.
func plainMenu(c Console) Menu {
	m := Menu{Timeout: "1", Args: c.kernelArgs(), Quiet: "quiet"}
	if c.Speed > 0 {
		m.Input, m.Output, m.Serial = "console serial", "console serial", c.serialCommand()
	}
	return m
}

// settingsScript prints what grub-mkconfig would go by, each value with a zero
// after it.
const settingsScript = `{
for file in /etc/default/grub /etc/default/grub.d/*.cfg; do [ ! -e "$file" ] || . "$file"; done
} >&2
printf '%s\0' "${GRUB_TIMEOUT-5}" "$GRUB_TIMEOUT_STYLE" "${GRUB_TERMINAL:-$GRUB_TERMINAL_INPUT}" "${GRUB_TERMINAL:-$GRUB_TERMINAL_OUTPUT}" \
	"$GRUB_SERIAL_COMMAND" "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT"`

// ReadMenu reads what the guest's settings for update-grub, ours among them
// (WriteDefaults), say of its menu: by the guest's own shell, as grub-mkconfig does,
// so the tree must be one that was made here. A guest without a shell has what c
// says, and so has one whose settings the shell can't read, with the error.
func ReadMenu(ctx context.Context, t Target, c Console) (Menu, error) {
	if !t.Root.Exists("/bin/sh") {
		return plainMenu(c), nil
	}
	var out bytes.Buffer
	err := command.Run(ctx, command.Cmd{Chroot: t.Dir, Quiet: true, Stdout: &out, Args: []string{"sh", "-c", settingsScript}})
	values := strings.Split(out.String(), "\x00")
	const fields = 7
	if err == nil && len(values) != fields+1 {
		err = fmt.Errorf("it gave %d values", len(values)-1)
	}
	if err != nil {
		return plainMenu(c), fmt.Errorf("the guest's /etc/default/grub, or a file in /etc/default/grub.d: %w", err)
	}
	for i, value := range values {
		values[i] = strings.Join(strings.Fields(value), " ")
	}
	m := Menu{values[0], values[1], terminals(values[2]), terminals(values[3]), values[4], values[5], values[6]}
	if !seconds().MatchString(m.Timeout) {
		return plainMenu(c), fmt.Errorf("the guest's /etc/default/grub: GRUB_TIMEOUT=%s is no number of seconds", pattern.Quote(m.Timeout))
	}
	return m, nil
}

var (
	seconds  = pattern.New(`^(-1|[0-9]+)$`)
	terminal = pattern.New(`^[a-z0-9_]+$`)
)

// terminals are GRUB's names of them. The graphical one needs a font and a mode,
// which the first menu has not: it is on the screen all the same.
func terminals(text string) string {
	var out []string
	for _, word := range strings.Fields(strings.ReplaceAll(text, "gfxterm", "console")) {
		if terminal().MatchString(word) {
			out = append(out, word)
		}
	}
	return strings.Join(out, " ")
}

// config is the first grub.cfg, which the guest's update-grub replaces. That one
// can't run here: on a loop device it writes no kernels, or the node's name of it.
func config(title string, t Target, kernels []Kernel, m Menu) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Written at installation by instance-debootstrap; update-grub writes a new one.\nset default=0\nset timeout=%s\n", m.Timeout)
	if m.Style != "" {
		fmt.Fprintf(&b, "set timeout_style=%s\n", m.Style)
	}
	if strings.Contains(m.Input+m.Output, "serial") {
		fmt.Fprintf(&b, "%s\n", m.Serial)
	}
	if m.Input != "" {
		fmt.Fprintf(&b, "terminal_input %s\n", m.Input)
	}
	if m.Output != "" {
		fmt.Fprintf(&b, "terminal_output %s\n", m.Output)
	}
	fmt.Fprintf(&b, "search --no-floppy --fs-uuid --set=root %s\n", t.bootUUID())
	for _, k := range kernels {
		args := strings.Join(strings.Fields(t.rootArgs()+" "+m.Args+" "+m.Quiet), " ")
		fmt.Fprintf(&b, "menuentry '%s, with Linux %s' {\n\tsearch --no-floppy --fs-uuid --set=root %s\n\tlinux %s %s\n\tinitrd %s\n}\n",
			title, k.Version, t.bootUUID(), t.onBoot(k.Image), args, t.onBoot(k.Initrd))
	}
	return b.String()
}

// legacyMenu is menu.lst of GRUB legacy, which numbers partitions from 0. menuHook
// keeps it up in the guest.
func legacyMenu(title string, t Target, kernels []Kernel, m Menu) []byte {
	where := "(hd0)"
	if t.RootNumber > 0 {
		where = fmt.Sprintf("(hd0,%d)", t.RootNumber-1)
	}
	b := []byte("# Written at installation by instance-debootstrap.\ndefault 0\ntimeout 1\n")
	for _, k := range kernels {
		b = fmt.Appendf(b, "\ntitle %s, with Linux %s\nroot %s\nkernel %s root=UUID=%s ro %s\ninitrd %s\n",
			title, k.Version, where, k.Image, t.RootUUID, m.Args, k.Initrd)
	}
	return b
}

var prettyName = pattern.New(`(?m)^PRETTY_NAME="?([A-Za-z0-9 ./()+-]+)"?$`)

// title is what GRUB's menu calls the guest: PRETTY_NAME of os-release(5).
func title(root *guest.Root) string {
	text, err := root.ReadFile("/etc/os-release", 64<<10)
	if m := prettyName().FindSubmatch(text); err == nil && m != nil {
		return string(m[1])
	}
	return "Linux"
}
