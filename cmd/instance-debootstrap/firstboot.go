package main

import (
	"path/filepath"

	"github.com/urfave/cli/v2"
)

// firstBootFlags say what a new guest runs at its first boot.
func firstBootFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cloud-init", Usage: "`FILE` of user-data for cloud-init, which the guest gets too"},
		&cli.StringFlag{Name: "first-boot", Usage: "`FILE` of a script that the guest runs once, at its first boot"},
	}
}

// firstBootParams puts the files into the OS parameters of the same meaning.
func firstBootParams(c *cli.Context, params map[string]string) error {
	for flag, param := range map[string]string{"cloud-init": "user_data", "first-boot": "first_boot"} {
		if !c.IsSet(flag) {
			continue
		}
		if c.String(flag) == "" {
			return usagef("--%s: name a file", flag)
		}
		path, err := filepath.Abs(c.String(flag))
		if err != nil {
			return err
		}
		params[param] = path
	}
	return nil
}
