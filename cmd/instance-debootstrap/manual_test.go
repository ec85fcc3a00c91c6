package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/test/manual"
)

var update = flag.Bool("update", false, "write the manual's parts that are made from the definitions of the command line, and from docs/hooks.md")

// pageCommand is one that does something, with its whole name.
type pageCommand struct {
	path string
	*cli.Command
}

// ownPage are the commands whose commands have a page of their own.
var ownPage = map[string]bool{"cache": true, "vm": true}

// commandsOf are those of a page: "main", or a name of ownPage.
func commandsOf(page string) (list []pageCommand) {
	for _, c := range (&program{}).toolApp().Commands {
		switch {
		case c.Hidden:
		case ownPage[c.Name] != (page != "main") || ownPage[c.Name] && c.Name != page:
		case len(c.Subcommands) == 0:
			list = append(list, pageCommand{c.Name, c})
		default:
			for _, sub := range c.Subcommands {
				if !sub.Hidden {
					list = append(list, pageCommand{c.Name + " " + sub.Name, sub})
				}
			}
		}
	}
	return list
}

func flagsOf(page string) []cli.Flag {
	if page == oldName {
		return (&program{}).oldApp().Flags
	}
	return (&program{}).toolApp().Flags
}

// made is a part of a page, of the kind and the page that its mark in the file names.
func made(kind, page string) string {
	var b strings.Builder
	switch kind {
	case "synopsis":
		writeSynopsis(&b, page)
	case "options":
		writeOptions(&b, flagsOf(page))
	case "commands":
		said := map[string]bool{}
		for _, c := range commandsOf(page) {
			fmt.Fprintf(&b, ".SS %s\n", manual.Text(c.path+" "+c.ArgsUsage))
			texts := append([]string{strings.ToUpper(c.Usage[:1]) + c.Usage[1:] + "."}, descriptions(c.path)...)
			for i, text := range texts {
				if said[text] { // of the command that this one is of
					continue
				}
				if said[text] = true; i > 0 {
					b.WriteString(".PP\n")
				}
				b.WriteString(manual.Paragraph(marked(text, namesIn(c))))
			}
			writeOptions(&b, c.Flags)
		}
	}
	return b.String()
}

// descriptions are the paragraphs that --help has of a command, and of the one that it is of.
func descriptions(path string) (list []string) {
	commands := (&program{}).toolApp().Commands
	for name := range strings.FieldsSeq(path) {
		for _, c := range commands {
			if c.Name != name {
				continue
			}
			commands = c.Subcommands
			for text := range strings.SplitSeq(c.Description, "\n\n") {
				if text != "" {
					list = append(list, text)
				}
			}
			break
		}
	}
	return list
}

// fewOptions are so many options that a synopsis has all of them.
const fewOptions = 7

func writeSynopsis(b *strings.Builder, page string) {
	var lines []string
	switch page {
	case oldName:
		usage, _, _ := strings.Cut((&program{}).oldApp().UsageText, "\n\n")
		for line := range strings.SplitSeq(usage, "\n") {
			lines = append(lines, marked(strings.TrimSpace(line), []string{"IP", "VG", "GUEST"}, oldName))
		}
	case "main":
		lines = append(lines, marked("instance-debootstrap [OPTION...] COMMAND ...", []string{"OPTION", "COMMAND"}, "instance-debootstrap"))
	}
	for _, c := range commandsOf(page) {
		name := "instance-debootstrap " + c.path
		line, of := name, namesIn(c)
		for _, f := range c.Flags {
			if f == connectFlag { // which nobody needs
				continue
			}
			written, _ := optionHelp(f)
			line += " [" + strings.ReplaceAll(written, ", ", "|") + "]"
		}
		if len(c.Flags) > fewOptions {
			line, of = name+" [OPTION...]", append(of, "OPTION")
		}
		lines = append(lines, marked(strings.TrimSpace(line+" "+c.ArgsUsage), of, name))
	}
	for _, c := range (&program{}).toolApp().Commands {
		if page == "main" && ownPage[c.Name] {
			name := "instance-debootstrap " + c.Name
			lines = append(lines, marked(name+" COMMAND ...", []string{"COMMAND"}, name))
		}
	}
	b.WriteString(strings.Join(lines, "\n.br\n") + "\n")
}

func writeOptions(b *strings.Builder, flags []cli.Flag) {
	for _, f := range flags {
		written, about := optionHelp(f)
		fmt.Fprintf(b, ".TP\n%s\n%s", marked(written, placeholders(f)), manual.Paragraph(marked(about, placeholders(f))))
	}
}

func placeholders(f cli.Flag) []string {
	if flag, ok := f.(cli.DocGenerationFlag); ok && flag.TakesValue() {
		return upperWords.FindAllString(placeholder(flag), -1)
	}
	return nil
}

// namesIn are the words in a command's texts that stand for something else.
func namesIn(c pageCommand) []string {
	list := upperWords.FindAllString(c.ArgsUsage, -1)
	for _, f := range c.Flags {
		list = append(list, placeholders(f)...)
	}
	return list
}

var (
	upperWords = regexp.MustCompile(`[A-Z][A-Za-z]+`)
	bold       = regexp.MustCompile("`[^`]*`|(^|[ ([|])(-[a-z]|--[a-z][a-z-]*)\\b|\\b[a-z.-]+(\\([1-8]\\))")
)

// marked is a text of man(7): options, what stands between backquotes, other pages and what
// it begins with are bold, and names italic.
func marked(text string, names []string, begin ...string) string {
	out := ""
	for _, name := range begin {
		out, text = `\fB`+manual.Text(name)+`\fR`, strings.TrimPrefix(text, name)
	}
	text = bold.ReplaceAllStringFunc(text, func(found string) string {
		m := bold.FindStringSubmatch(found)
		switch {
		case m[3] != "":
			return "\x01" + strings.TrimSuffix(found, m[3]) + "\x02" + m[3]
		case m[2] != "":
			return m[1] + "\x01" + m[2] + "\x02"
		}
		return "\x01" + strings.Trim(found, "`") + "\x02"
	})
	for _, name := range names {
		text = regexp.MustCompile(`(^|[^A-Za-z\x03])(`+name+`)\b`).ReplaceAllString(text, "$1\x03$2\x02")
	}
	return out + strings.NewReplacer("\x01", `\fB`, "\x02", `\fR`, "\x03", `\fI`).Replace(manual.Text(text))
}

var madePart = regexp.MustCompile(`(?s)(\.\\" made: (\w+) (\w+)\n).*?(\.\\" made: end\n)`)

// TestThePagesSayWhatHelpSays also writes them, with -update.
func TestThePagesSayWhatHelpSays(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.8.in")
	if err != nil || len(pages) != 3 {
		t.Fatalf("pages %v, %v", pages, err)
	}
	for _, page := range pages {
		got, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		want := madePart.ReplaceAllStringFunc(string(got), func(part string) string {
			m := madePart.FindStringSubmatch(part)
			return m[1] + manual.WithFolders(made(m[2], m[3])) + m[4]
		})
		compare(t, page, string(got), want)
	}
}

func compare(t *testing.T, path, got, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("%s isn't up to date: go test ./cmd/instance-debootstrap -run TestThePage -update", path)
	}
}

func TestThePageOfHooksSaysWhatTheHookGuideSays(t *testing.T) {
	guide, err := os.ReadFile("../../docs/hooks.md")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile("../../docs/instance-debootstrap-hooks.7.in")
	compare(t, "../../docs/instance-debootstrap-hooks.7.in", string(got), `.\" Made from docs/hooks.md: go test ./cmd/instance-debootstrap -run TestThePage -update
.TH INSTANCE\-DEBOOTSTRAP\-HOOKS 7 "" "instance-debootstrap @VERSION@" "Hook guide"
.SH NAME
instance\-debootstrap\-hooks \- programs that finish the guests that instance-debootstrap installs
.SH DESCRIPTION
`+manual.WithFolders(manual.FromMarkdown(string(guide)))+`.SH SEE ALSO
.BR instance\-debootstrap (8),
.BR instance\-debootstrap.conf (5),
.BR ganeti\-os\-interface (7)
`)
}

// What the program prints and what a reader of the page sees are compared as words, since
// both break their lines as they like.
func TestEachOptionIsOnItsPageAsHelpPrintsIt(t *testing.T) {
	for page, file := range map[string]string{"main": "instance-debootstrap.8", "cache": "instance-debootstrap-cache.8", "vm": "instance-debootstrap-vm.8"} {
		shown, err := exec.Command("mandoc", "-T", "utf8", "-O", "width=1000", "../../docs/"+file+".in").Output()
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("@OS_DIR@", paths.OSDir, "@CONF_DIR@", paths.ConfDir).Replace(inOneLine(regexp.MustCompile(`.\x08`).ReplaceAllString(string(shown), "")))
		if len(commandsOf(page)) < 6 {
			t.Errorf("%s: commands %v", page, commandsOf(page))
		}
		for _, c := range commandsOf(page) {
			help, _, _ := call(t, "instance-debootstrap", append(strings.Fields(c.path), "--help")...)
			_, options, found := strings.Cut(help, "OPTIONS:\n")
			if !found {
				t.Errorf("%s --help: %s", c.path, help)
			}
			for line := range strings.Lines(options) {
				if !strings.Contains(line, "--help") && !strings.Contains(text, inOneLine(line)) {
					t.Errorf("%s: %s lacks %q", c.path, file, inOneLine(line))
				}
			}
			if !strings.Contains(text, inOneLine(c.Usage[1:]+". "+strings.ReplaceAll(c.Description, "`", ""))) {
				t.Errorf("%s: %s lacks its description", c.path, file)
			}
		}
	}
}

// inOneLine is a text in one line.
func inOneLine(text string) string {
	return strings.NewReplacer("’", "'", "‐", "-", "−", "-", "∼", "~").Replace(strings.Join(strings.Fields(text), " "))
}
