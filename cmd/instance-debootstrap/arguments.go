package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/pattern"
)

// readableCommands have a wrong option, a command that doesn't exist and another number of
// arguments be wrong usage, and "help" as an argument the name of a guest or a file.
func readableCommands(commands []*cli.Command) {
	for _, command := range commands {
		command.OnUsageError = usageFault
		if command.HideHelpCommand = len(command.Subcommands) == 0; !command.HideHelpCommand {
			command.Action, command.ArgsUsage = noSuchCommand, "COMMAND"
			readableCommands(command.Subcommands)
		} else if command.Before == nil && !strings.Contains(command.ArgsUsage, "[") {
			command.Before = func(c *cli.Context) error { return exactArgs(c, c.Command.ArgsUsage) }
		}
	}
}

// exactArgs refuses other arguments than the usage names, which cli takes in silence.
func exactArgs(c *cli.Context, usage string) error {
	names := strings.Fields(usage)
	if c.NArg() == len(names) {
		return nil
	}
	what := strings.Join(names, " and ")
	switch len(names) {
	case 0:
		what = "no argument"
	case 1:
		what = "one " + what
	}
	command := "" // vmbootstrap has none
	if name, ok := strings.CutPrefix(c.Command.HelpName, c.App.Name+" "); ok {
		command = name + ": "
	}
	got := "none"
	if c.Args().Present() {
		got = fmt.Sprintf("%q", c.Args().Slice())
	}
	return usagef("%sexpected %s, got %s; see %s --help", command, what, got, c.Command.HelpName)
}

// noSuchCommand is the action of what only has commands.
func noSuchCommand(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("unknown command %q; see %s --help", c.Args().First(), c.Command.HelpName)
	}
	return cli.ShowSubcommandHelp(c)
}

// optionsFirst is a command line with each command's options before its arguments, where
// cli looks for them; virsh(1) and virt-install(1) take them behind as well. What follows
// "--", or the first argument of a command that hands on the rest ("COMMAND...]"), stays.
func optionsFirst(flags []cli.Flag, commands []*cli.Command, args []string) []string {
	options, rest := []string{}, []string{}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(append(options, arg), append(rest, args...)...)
		case len(arg) > 1 && arg[0] == '-':
			options = append(options, arg)
			if takesValue(flags, arg) {
				if len(args) == 0 {
					return options // for cli to say so
				}
				options, args = append(options, args[0]), args[1:]
			}
		case len(commands) == 0:
			rest = append(rest, arg)
		default:
			i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(arg) })
			switch {
			case arg == "help" || arg == "h": // cli's own lists no commands of a command
				return append(options, optionsFirst(flags, commands, append(args, "--help"))...)
			case i < 0:
				return append(append([]string{arg}, options...), args...)
			case !strings.HasSuffix(commands[i].ArgsUsage, "...]"):
				args = optionsFirst(commands[i].Flags, commands[i].Subcommands, args)
			}
			return append(append(options, arg), args...)
		}
	}
	if len(commands) == 0 && (slices.Contains(options, "--help") || slices.Contains(options, "-h")) {
		return options // cli would look for help on the arguments
	}
	return append(options, rest...)
}

// takesValue tells whether an option's value is the argument behind it.
func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	for _, f := range flags {
		if documented, ok := f.(cli.DocGenerationFlag); ok && slices.Contains(f.Names(), name) {
			return documented.TakesValue()
		}
	}
	return false
}

// flagFault matches what Go's package flag says of a wrong option.
var flagFault = pattern.New(`^(flag provided but not defined: |flag needs an argument: |invalid value (".*") for flag |invalid boolean value (".*") for )-(\S+?)(?:: (.*))?$`)

// usageFault makes a wrong option one clear line, without the whole help.
func usageFault(c *cli.Context, err error, _ bool) error {
	m := flagFault().FindStringSubmatch(err.Error())
	if m == nil {
		return &usageError{err}
	}
	option, why := "--"+m[4], m[5]
	if len(m[4]) == 1 {
		option = option[1:]
	}
	switch {
	case strings.HasPrefix(m[1], "flag provided"):
		return usagef("unknown option %s; see %s --help", option, c.Command.HelpName)
	case strings.HasPrefix(m[1], "flag needs"):
		return usagef("%s needs a value; see %s --help", option, c.Command.HelpName)
	case m[3] != "":
		return usagef("%s %s: it takes no value but true and false", option, m[3])
	case slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool {
		_, isTime := f.(*cli.DurationFlag)
		return isTime && slices.Contains(f.Names(), m[4])
	}):
		why = "must be a time with its unit, as 90s or 10m"
	case why == "parse error":
		why = "must be a number"
	}
	return usagef("%s %s: %s", option, m[2], why)
}
