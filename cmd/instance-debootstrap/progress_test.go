package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"instance-debootstrap/pkg/tell"
)

func TestAStepsLineNeverReachesTheLastColumn(t *testing.T) {
	for _, row := range []struct {
		what, want string
		columns    int
	}{
		{"[ 1/24] look at the node: KVM", "[ 1/24] look at the node: KVM  1.5s", 80},
		{"[ 1/24] look at the node: KVM", "[ 1/24] look at the node: KVM  1.5s", 36},
		{"[ 1/24] look at the node: KVM", "[ 1/24] look at the node:...  1.5s", 35},
		{"größer als das Gerät", "größer als d...  1.5s", 22},
		{"a\tb\x1b[2J", `a b\x1b[2J  1.5s`, 80},
		{"anything", "...  1.5s", 1},
	} {
		if got := stepLine(row.what, 1500*time.Millisecond, row.columns); got != row.want {
			t.Errorf("in %d columns: %q", row.columns, got)
		}
	}
}

func TestTheLogHasNoColours(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("CLICOLOR_FORCE", "1")
	var out bytes.Buffer
	log := zerolog.New(consoleWriter(&out))
	for _, level := range []zerolog.Level{zerolog.DebugLevel, zerolog.InfoLevel, zerolog.WarnLevel, zerolog.ErrorLevel} {
		log.WithLevel(level).Str("step", "look").Str("tool", "tar").Bool(tell.Waits, true).Msg("message")
	}
	if lines := strings.Count(out.String(), "message\n"); lines != 4 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%q", out.String())
	}
}

func TestOnATerminalWarningsArePrintedAndWhatAToolSaysIsTheStepsPhase(t *testing.T) {
	var out bytes.Buffer
	var said saying
	log := zerolog.New(watched{&out, &said})
	log.Info().Str("tool", "debootstrap").Msg("I: Extracting dpkg...")
	log.Info().Str("step", "look at the node").Msg("web1")
	if out.Len() > 0 || said.get() != "I: Extracting dpkg..." {
		t.Errorf("printed %q, said %q", out.String(), said.get())
	}
	log.Info().Bool(tell.Waits, true).Msg("waiting for web1")
	if !strings.Contains(out.String(), "waiting for web1") || said.get() != "I: Extracting dpkg..." {
		t.Errorf("printed %q, said %q", out.String(), said.get())
	}
	out.Reset()
	log.Info().Bool(tell.Copied, true).Msg("copied 1 of 2 MiB (50 %)")
	if out.Len() > 0 || said.get() != "copied 1 of 2 MiB (50 %)" {
		t.Errorf("printed %q, said %q", out.String(), said.get())
	}
	said.set("I: Extracting dpkg...")
	log.Warn().Str("tool", "debootstrap").Msg("W: no such file")
	if out.Len() == 0 || said.get() != "I: Extracting dpkg..." {
		t.Errorf("printed %q, said %q", out.String(), said.get())
	}
}
