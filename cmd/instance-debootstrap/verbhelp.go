package main

import (
	"path/filepath"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/paths"
)

// verbHelp answers for the scripts, which are no commands of this name.
func verbHelp() (commands []*cli.Command) {
	for _, verb := range osapi.Verbs() {
		script := filepath.Join(paths.OSDir, string(verb))
		commands = append(commands, &cli.Command{
			Name: string(verb), Usage: verbUsage[verb], Hidden: true, ArgsUsage: "[ARGUMENT...]",
			CustomHelpTemplate: "{{.Name}} - {{.Usage}}\n\nGaneti calls it as " + script + ", with the instance in the environment\n" +
				"(ganeti-os-interface(7)). " + planOrNot(verb) + "The settings and what it does are in instance-debootstrap(8).\n",
			Action: func(c *cli.Context) error {
				return usagef("%s is called by Ganeti, as %s; see instance-debootstrap help %[1]s", verb, script)
			},
		})
	}
	return commands
}

// planOrNot names the plan of a verb; verify has none, since it changes nothing.
func planOrNot(verb osapi.Verb) string {
	if verb == osapi.Verify {
		return ""
	}
	return "`instance-debootstrap plan " + string(verb) + "` prints its steps in the\ncurrent environment. "
}
