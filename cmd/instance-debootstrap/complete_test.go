package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// completed runs the command that the shells call, and returns the words without what is
// said of them.
func completed(t *testing.T, words ...string) (out []string) {
	t.Helper()
	p := &program{}
	app := p.toolApp()
	var text strings.Builder
	app.Commands = append(app.Commands, &cli.Command{Name: "test", HideHelp: true, SkipFlagParsing: true, Action: func(c *cli.Context) error { return p.complete(c, &text) }})
	if err := app.Run(append([]string{"instance-debootstrap", "test"}, words...)); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		out = append(out, word)
	}
	return out
}

func TestWordsAreCompleted(t *testing.T) {
	for line, want := range map[string]string{
		"gr":                          "grow",
		"vm gr":                       "grub grow",
		"vm guar":                     "", // hidden
		"--log-format ":               "text json",
		"--log-format json cache ver": "verify",
		"install --part":              "--partition-style",
		"install --partition-style ":  "none msdos gpt",
		"install --partition-style gpt --filesystem e": "ext2 ext3 ext4",
		"install --force --suite tr":                   "trixie",
		"install --size ":                              "", // the shell's own
		"install ":                                     "",
		"plan i":                                       "import",
		"vm create --firmware":                         "--firmware",
		"vm create web1 --layout s":                    "single",
		"vm create web1 --firmware ":                   "bios uefi both",
		"boot-test --firmware b":                       "bios",
		"help vm gru":                                  "grub",
		"help insp":                                    "inspect",
		"install --layout ":                            "none",
	} {
		if got := completed(t, strings.Split(line, " ")...); strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// A value that an option's own help doesn't name, or an option that is gone, would be
// offered for ever.
func TestCompletionOffersWhatTheOptionsSayTheyTake(t *testing.T) {
	usage := map[string][]string{}
	var walk func(flags []cli.Flag, commands []*cli.Command)
	walk = func(flags []cli.Flag, commands []*cli.Command) {
		for _, f := range flags {
			usage[f.Names()[0]] = append(usage[f.Names()[0]], f.(cli.DocGenerationFlag).GetUsage())
		}
		for _, c := range commands {
			walk(c.Flags, c.Subcommands)
		}
	}
	app := (&program{}).toolApp()
	walk(app.Flags, app.Commands)
	for option, values := range merged(optionValues, vmValues) {
		for _, value := range strings.Fields(values) {
			if option != "suite" && !slices.ContainsFunc(usage[option], func(text string) bool { return strings.Contains(text, value) }) {
				t.Errorf("--%s %s is offered, and its help says %q", option, value, usage[option])
			}
		}
	}
}

func merged(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, one := range all {
		for option, values := range one {
			out[option] += " " + values
		}
	}
	return out
}
