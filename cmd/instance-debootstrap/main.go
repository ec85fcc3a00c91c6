// Command instance-debootstrap is a Ganeti OS definition and a tool by hand.
package main

import (
	_ "github.com/diskfs/go-diskfs/partition/gpt"
	_ "github.com/diskfs/go-diskfs/partition/mbr"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/kelseyhightower/envconfig"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/rs/zerolog"
	_ "github.com/urfave/cli/v2"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
	_ "mvdan.cc/sh/v3/interp"
)

func main() {}
