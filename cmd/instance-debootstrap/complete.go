package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/qemu"
	"instance-debootstrap/pkg/userspace"
	"instance-debootstrap/pkg/vm"
)

// completeName is its name, which the completions of the shells have, too.
const completeName = "complete"

// completeCommand is what the shells' completions call, with the words of the command
// line behind the program's name; the last one is still being typed. It prints what that
// may become, a line each, with a tab and a few words behind it where there are any.
// Nothing is for the shell to complete with files' names.
func (p *program) completeCommand() *cli.Command {
	return &cli.Command{
		Name: completeName, Hidden: true, HideHelp: true, SkipFlagParsing: true, ArgsUsage: "[WORD...]",
		Action: func(c *cli.Context) error {
			return p.complete(c, os.Stdout)
		},
	}
}

// candidate is what a word may become.
type candidate struct{ text, about string }

func (p *program) complete(c *cli.Context, out io.Writer) error {
	words := c.Args().Slice()
	if len(words) == 0 {
		words = []string{""}
	}
	typed := words[len(words)-1]
	for _, candidate := range p.candidates(c, words[:len(words)-1], typed) {
		if !strings.HasPrefix(candidate.text, typed) || !plainWord().MatchString(candidate.text) {
			continue
		}
		about := strings.Map(printable, candidate.about)
		if _, err := fmt.Fprintln(out, strings.TrimSuffix(candidate.text+"\t"+about, "\t")); err != nil {
			return err
		}
	}
	return nil
}

// plainWord is what a shell takes as it is: others may have chosen a pool's name.
var plainWord = pattern.New(`^[A-Za-z0-9_.,:+@=/-]+$`)

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}

func (p *program) candidates(c *cli.Context, before []string, typed string) (out []candidate) {
	flags, commands, path := c.App.Flags, c.App.Commands, []string{}
	arguments, option := 0, ""
	for _, word := range before {
		switch i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) }); {
		case option != "":
			option = ""
		case strings.HasPrefix(word, "-") && takesValue(flags, word):
			option = strings.TrimLeft(word, "-")
		case strings.HasPrefix(word, "-"):
		case i >= 0:
			flags, path = commands[i].Flags, append(path, word)
			commands = commands[i].Subcommands
		default:
			arguments++
		}
	}
	switch {
	case option != "":
		return p.valuesOf(c, option, slices.Contains(path, "vm"))
	case strings.HasPrefix(typed, "-"):
		return optionNames(flags)
	case len(commands) > 0:
		for _, command := range commands {
			if !command.Hidden {
				out = append(out, candidate{command.Name, command.Usage})
			}
		}
		return out
	case slices.Contains(path, "help"):
		return p.candidates(c, before[1:], typed)
	}
	return p.argumentsOf(c, strings.Join(path, " "), arguments)
}

func optionNames(flags []cli.Flag) (out []candidate) {
	for _, f := range flags {
		if documented, ok := f.(cli.DocGenerationFlag); ok {
			out = append(out, candidate{"--" + f.Names()[0], strings.ReplaceAll(documented.GetUsage(), "`", "")})
		}
	}
	return append(out, candidate{"--help", "show help"})
}

// optionValues are what options of a fixed choice take.
var optionValues = map[string]string{
	"log-format": "text json", "layout": "none", "suite": "bullseye bookworm trixie forky sid jammy noble resolute", "partition-style": "none msdos gpt",
	"network": "none dhcp", "filesystem": "ext2 ext3 ext4 xfs btrfs", "bootstrap": "auto debootstrap mmdebstrap", "firmware": strings.Join(qemu.Firmwares, " "),
	"graphics": "none vnc", "format": userspace.Raw + " " + userspace.Qcow2,
}

// vmValues are what options of vm take, where others of the same name take something else.
var vmValues = map[string]string{"layout": vm.LayoutThree + " " + vm.LayoutSingle, "firmware": "bios uefi both"}

func (p *program) valuesOf(c *cli.Context, option string, ofVM bool) []candidate {
	names := strings.Fields(optionValues[option])
	if values, own := vmValues[option]; own && ofVM {
		names = strings.Fields(values)
	}
	switch option {
	case "layout":
		files, _ := os.ReadDir(paths.LayoutsDir())
		for _, file := range files {
			names = append(names, file.Name())
		}
	case "variant":
		text, _ := os.ReadFile(paths.VariantsList())
		return plainCandidates(strings.Fields(string(text)))
	case "pool":
		return fromLibvirt(c, func(ctx context.Context, v libvirt.Virsh) (names []string) {
			pools, _ := v.Pools(ctx)
			for _, pool := range pools {
				names = append(names, pool.Name)
			}
			return names
		})
	}
	return plainCandidates(names)
}

// argumentsOf are a command's argument after so many.
func (p *program) argumentsOf(c *cli.Context, command string, before int) (out []candidate) {
	if before > 1 || before > 0 && command != "cache diff" {
		return nil
	}
	switch command {
	case "cache export", "cache show", "cache diff":
		store, _, err := p.store(c)
		if err != nil {
			return nil
		}
		entries, _ := store.List()
		for _, e := range entries {
			if e.Key != "" {
				out = append(out, candidate{e.Key, describeInputs(e)})
			}
		}
	case "vm start", "vm stop", "vm reboot", "vm console", "vm show", "vm mount", "vm umount", "vm grub", "vm grow", "vm ssh", "vm remove":
		return fromLibvirt(c, func(ctx context.Context, v libvirt.Virsh) (names []string) {
			guests, _ := vm.List(ctx, v)
			for _, guest := range guests {
				names = append(names, guest.Name)
			}
			return names
		})
	}
	return out
}

// fromLibvirt asks libvirt, for a moment: nobody waits for a completion.
func fromLibvirt(c *cli.Context, ask func(context.Context, libvirt.Virsh) []string) []candidate {
	ctx, cancel := context.WithTimeout(c.Context, 3*time.Second)
	defer cancel()
	answer := make(chan []string, 1)
	go func() { answer <- ask(ctx, libvirt.Virsh{}) }()
	select {
	case names := <-answer:
		return plainCandidates(names)
	case <-ctx.Done():
		return nil
	}
}

func plainCandidates(names []string) (out []candidate) {
	for _, name := range names {
		out = append(out, candidate{text: name})
	}
	return out
}
