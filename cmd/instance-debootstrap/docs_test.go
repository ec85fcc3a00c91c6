package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/test/manual"
)

var example = regexp.MustCompile(`(?m)^(instance\\-debootstrap|vmbootstrap) .*`)

// documents are the pages that people read.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../hooks/*.md", "../../examples/hooks/*.md"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pages[strings.TrimPrefix(path, "../../")] = string(text)
		}
	}
	sources, _ := filepath.Glob("../../docs/*.in")
	for _, path := range sources { // of the examples in the manual, as blocks of code
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, example := range example.FindAllString(string(text), -1) {
			pages[strings.TrimPrefix(path, "../../")] += "    " + strings.ReplaceAll(example, `\-`, "-") + "\n"
		}
	}
	if len(pages) < 20 {
		t.Fatalf("only %d pages", len(pages))
	}
	return pages
}

func TestEachCommandLineInTheDocsMakesSense(t *testing.T) {
	checked := 0
	for path, page := range documents(t) {
		for _, code := range manual.CodeIn(page) {
			n, err := checkCode(code)
			if err != nil {
				t.Errorf("%s:%d: %s: %v", path, code.Line, code.Text, err)
			}
			checked += n
		}
	}
	t.Logf("%d command lines", checked)
	if checked < 120 {
		t.Errorf("only %d command lines were found", checked)
	}
}

func TestACommandLineThatMakesNoSenseIsSeen(t *testing.T) {
	for line, want := range map[string]string{
		"instance-debootstrap instal --size 2G a.img":                                 `unknown command "instal"`,
		"instance-debootstrap install --sise 2G a.img":                                "unknown option --sise",
		"instance-debootstrap install --size 2G":                                      "expected one DISK",
		"instance-debootstrap install --filesystem zfs a.img":                         "--filesystem zfs",
		"instance-debootstrap vm create web1 --wait-time 5":                           "must be a time",
		"instance-debootstrap cache":                                                  "a command of cache",
		"instance-debootstrap vm list web1":                                           "expected no argument",
		"instance-debootstrap cache export KEY FILE more":                             "expected KEY [FILE]",
		"instance-debootstrap vm ssh":                                                 "expected GUEST [COMMAND...]",
		"30 3 * * *  root  nice -n 19 ionice -c 3 instance-debootstrap cache warmer":  `unknown command "warmer"`,
		"gnt-cluster command 'instance-debootstrap doktor | grep -v ^ok'":             `unknown command "doktor"`,
		`OS_API_VERSION=20 INSTANCE_NAME="a b" instance-debootstrap plan verify # so`: `unknown command "verify"`,
		"true && instance-debootstrap doctor --jason":                                 "unknown option --jason",
		"vmbootstrap -i 192.0.2.5 vg0":                                                "expected VG and GUEST",
		"instance-debootstrap export >backup":                                         "called by Ganeti",
		"make demmo":                                                                  "the Makefile has no demmo",
		"NODE_IMAGE=/srv/node test/nodes/run":                                         "no such file",
	} {
		if _, err := checkCode(manual.Code{Text: line}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	for span, want := range map[string]string{"vm gruw --stop": `unknown command "gruw"`, "cache warm --expire": "unknown option --expire", "--layuot single": "no command has an option --layuot", "instance-debootstrap docter": "unknown command"} {
		if _, err := checkCode(manual.Code{Text: span, Span: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("`%s`: %v, want %s", span, err, want)
		}
	}
	for _, line := range []string{
		"instance-debootstrap install --size 4G guest.img   # a comment", "instance-debootstrap vm create … --wait", "instance-debootstrap vm ssh web1 ls --color",
		"instance-debootstrap plan import <backup", "make deb && apt install ./build/instance-debootstrap_*.deb", "make check-life SUITE=bookworm", "ls --nonsense",
	} {
		if _, err := checkCode(manual.Code{Text: line}); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// checkCode looks at the calls of the program, of make and of the tests in a piece of code,
// and tells how many there are.
func checkCode(code manual.Code) (checked int, err error) {
	if code.Span {
		first, rest, _ := strings.Cut(code.Text, " ")
		switch {
		case strings.HasPrefix(first, "--") && first != "--" && !code.Row: // tables compare programs
			return 0, checkOption(strings.TrimLeft(first, "-"))
		case rest == "":
			return 0, nil
		case slices.Contains([]string{"vm", "cache", "plan"}, first):
			return 1, checkCall("instance-debootstrap", append(shellWords(code.Text)[0], "…"))
		case first == "instance-debootstrap", first == oldName, first == "make":
			return 1, checkCall(first, append(shellWords(code.Text)[0][1:], "…"))
		}
		return 0, nil
	}
	for _, words := range shellWords(code.Text) {
		words = bare(words)
		if len(words) == 0 {
			continue
		}
		switch name := filepath.Base(words[0]); {
		case strings.Contains(words[0], " "): // a command line as one word
			n, fault := checkCode(manual.Code{Text: words[0]})
			if checked += n; fault != nil {
				return checked, fault
			}
		case name == "instance-debootstrap", name == oldName, name == "make", strings.HasPrefix(words[0], "test/"):
			if checked++; name != "make" && strings.HasPrefix(words[0], "test/") {
				name = words[0]
			}
			if err := checkCall(name, words[1:]); err != nil {
				return checked, err
			}
		}
	}
	return checked, nil
}

// othersOptions are of other programs, which the docs speak of.
var othersOptions = strings.Fields("acls admindir allow-remove-essential exclude net no-check-gpg with-os-dir" +
	" edit firstboot run-script-once template transient unsafe-caching upload user-data xml")

// checkOption looks for an option that stands without its command.
func checkOption(text string) error {
	name := regexp.MustCompile(`^[a-z-]*`).FindString(text)
	apps := []*cli.App{(&program{}).toolApp(), (&program{}).oldApp()}
	known := slices.ContainsFunc(apps, func(app *cli.App) bool { return hasOption(app.Flags, app.Commands, name) })
	if name == "help" || known || slices.Contains(othersOptions, name) {
		return nil
	}
	return fmt.Errorf("no command has an option --%s", name)
}

func hasOption(flags []cli.Flag, commands []*cli.Command, name string) bool {
	return slices.ContainsFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }) ||
		slices.ContainsFunc(commands, func(c *cli.Command) bool { return hasOption(c.Flags, c.Subcommands, name) })
}

var (
	shellWord  = regexp.MustCompile(`'[^']*'|"[^"]*"|[|&;]+|[0-9]?[<>]+|(^|\s)#.*|[^\s'"|&;<>]+|\s+`)
	assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	cron       = regexp.MustCompile(`^[0-9*/,-]+$`)
)

// shellWords are a line's commands, as words; a file that one is directed to is left out.
func shellWords(line string) [][]string {
	commands, word, skip := [][]string{nil}, "", false
	end := func() {
		if last := len(commands) - 1; word != "" && !skip {
			commands[last] = append(commands[last], word)
		}
		skip, word = skip && word == "", ""
	}
	for _, piece := range shellWord.FindAllString(line, -1) {
		switch {
		case strings.TrimSpace(piece) == "":
			end()
		case strings.HasPrefix(strings.TrimSpace(piece), "#"):
			end()
			return commands
		case strings.ContainsAny(piece[:1], "|&;"):
			end()
			commands, skip = append(commands, nil), false
		case strings.ContainsAny(strings.TrimLeft(piece, "0123456789")+" ", "<>") && !strings.ContainsAny(piece, `'"`):
			end()
			skip = true
		default:
			word += strings.Trim(piece, `'"`)
		}
	}
	end()
	return commands
}

// wrappers start another program, after so many arguments.
var wrappers = map[string]int{"gnt-cluster": 1, "ssh": 1, "sudo": 0, "time": 0, "nice": 0, "ionice": 0, "env": 0, "-n": 1, "-c": 1}

// bare are a command's words without what stands before the program.
func bare(words []string) []string {
	if len(words) > 6 && !slices.ContainsFunc(words[:5], func(w string) bool { return !cron.MatchString(w) }) {
		words = words[6:]
	}
	for len(words) > 0 {
		skipped, wraps := wrappers[words[0]]
		if !wraps && !assignment.MatchString(words[0]) {
			break
		}
		words = words[min(len(words), 1+skipped):]
	}
	return words
}

func checkCall(name string, args []string) error {
	switch name {
	case "make":
		makefile, err := os.ReadFile("../../Makefile")
		for _, target := range args {
			if !strings.HasPrefix(target, "…") && !assignment.MatchString(target) && !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(target)+`:`).Match(makefile) {
				return fmt.Errorf("the Makefile has no %s", target)
			}
		}
		return err
	case "instance-debootstrap", oldName:
		return parse(name, args)
	}
	_, err := os.Stat("../../" + name)
	return err
}

// parse has the real definitions of the command line take one, and nothing done.
func parse(name string, args []string) error {
	some := slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, "…") })
	args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return strings.Contains(arg, "…") || arg == "\\" })
	app := (&program{}).toolApp()
	if name == oldName {
		app = (&program{}).oldApp()
		app.Action = func(c *cli.Context) error {
			if some || c.NArg() == 2 || c.Bool("show-defaults") || c.Bool("help") {
				return nil
			}
			return exactArgs(c, "VG GUEST")
		}
	}
	harmless(app.Commands, some)
	app.Writer, app.ErrWriter, app.ExitErrHandler = io.Discard, io.Discard, func(*cli.Context, error) {}
	return app.Run(append([]string{name}, optionsFirst(app.Flags, app.Commands, args)...))
}

// harmless has commands look at their arguments only; some of them may be left out.
func harmless(commands []*cli.Command, some bool) {
	for _, command := range commands {
		command.Before = nil
		if len(command.Subcommands) > 0 {
			harmless(command.Subcommands, some)
			command.Action = func(c *cli.Context) error {
				if c.Args().Present() {
					return noSuchCommand(c)
				}
				if some || c.Bool("help") {
					return nil
				}
				return fmt.Errorf("no line has a use without a command of %s", command.Name)
			}
			continue
		}
		if verb := command.Name; command.Hidden && verbUsage[osapi.Verb(verb)] != "" {
			command.Action = func(*cli.Context) error { return fmt.Errorf("%s is called by Ganeti only", verb) }
			continue
		}
		command.Action = func(c *cli.Context) error {
			for _, name := range c.FlagNames() {
				values := strings.Fields(optionValues[name])
				for value := range strings.SplitSeq(c.String(name), ",") {
					if len(values) > 0 && name != "suite" && !slices.Contains(values, value) && strings.ToUpper(value) != value {
						return fmt.Errorf("--%s %s: known are %s", name, value, values)
					}
				}
			}
			wanted := strings.Fields(command.ArgsUsage)
			least := len(wanted) - strings.Count(command.ArgsUsage, "[")
			switch {
			case some && (c.NArg() <= len(wanted) || strings.Contains(command.ArgsUsage, "...")):
				return nil
			case least == len(wanted):
				return exactArgs(c, command.ArgsUsage)
			case c.NArg() < least, c.NArg() > len(wanted) && !strings.Contains(command.ArgsUsage, "..."):
				return fmt.Errorf("expected %s, got %q", command.ArgsUsage, c.Args().Slice())
			}
			return nil
		}
	}
}
