package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

func init() {
	cli.FlagStringer = func(f cli.Flag) string {
		written, about := optionHelp(f)
		return written + "\t" + about
	}
}

// optionHelp is an option as --help and the manual have it: how it is written, and what it
// is for. Its value is called what stands between backquotes in its usage.
func optionHelp(f cli.Flag) (written, about string) {
	for i, name := range f.Names() {
		if i > 0 {
			written += ", "
		}
		written += dashes(name)
	}
	flag, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return written, ""
	}
	about = strings.ReplaceAll(flag.GetUsage(), "`", "")
	if flag.TakesValue() {
		written += " " + placeholder(flag)
	}
	value := strings.Trim(flag.GetDefaultText(), `"`)
	if _, isTime := f.(*cli.DurationFlag); isTime && strings.HasSuffix(value, "m0s") {
		value = strings.TrimSuffix(value, "0s")
	}
	if !slices.Contains([]string{"", "false", "0s"}, value) {
		about += " (default: " + value + ")"
	}
	return written, about
}

// placeholder is what an option's value is called.
func placeholder(flag cli.DocGenerationFlag) string {
	if quoted := strings.Split(flag.GetUsage(), "`"); len(quoted) == 3 {
		return quoted[1]
	}
	return "VALUE"
}

func dashes(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
