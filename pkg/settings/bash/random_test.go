package bash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// program writes a random file of what settings files are made of, with
// failing commands in all places.
type program struct {
	r     *rand.Rand
	b     strings.Builder
	funcs []string
}

func (p *program) pick(list ...string) string { return list[p.r.IntN(len(list))] }

func (p *program) name() string { return p.pick("A", "B", "C", "EMPTY", "DISK_1_PATH") }

func (p *program) word(depth int) string {
	switch p.r.IntN(14) {
	case 0:
		return `"$` + p.name() + `"`
	case 1:
		return `${` + p.name() + p.pick(":-", "-", ":+", "+") + p.pick("d", "$B", "$(false)", "$(echo s)", "${C:-e}", p.callIn()) + `}`
	case 2:
		return `"${` + p.name() + p.pick("%.*", "#*.", "%%[0-9]*", "##*/", "/e/x", "//./-", "%x") + `}"`
	case 3:
		if depth > 0 {
			return "$(" + p.command(depth-1) + "; " + p.command(depth-1) + ")"
		}
		return "$(echo x)"
	case 4:
		return "$((" + p.pick("N+1", "N*2", "DISK_COUNT-1", "7/2", "N==1") + "))"
	case 5:
		return `"` + p.name() + ` $` + p.name() + `"`
	case 6:
		return "$" + p.name()
	case 7:
		return "`" + p.pick("echo b", "false", "true") + "`"
	}
	return p.pick("x", "y.z", "'q r'", `"s"`, "1", "web", "a=b", "-n")
}

// callIn calls a function that is declared above, so that none calls itself.
func (p *program) callIn() string {
	if len(p.funcs) == 0 {
		return "x"
	}
	return "$(" + p.pick(p.funcs...) + " x)"
}

func (p *program) command(depth int) string {
	switch n := p.r.IntN(22); {
	case n < 5:
		return p.name() + p.pick("=", "=", "+=") + p.word(depth)
	case n < 7:
		return p.pick("true", "false", ":", "(exit 3)", "! true", "! false")
	case n < 9:
		return "[ " + p.pick(`"$A"`, `-n "$B"`, `-z $C`, `"$A" = x`, `$A != 1`, `! -d /etc`, `-n "$A" -a x = x`, `1 -lt 2`) + " ]"
	case n == 9:
		return "[[ " + p.pick(`$A == w*`, `-n $B && $C != x`, `$N -gt 0`, `$A =~ ^[a-z]+$`) + " ]]"
	case n == 10:
		return "echo " + p.word(depth) + " " + p.word(depth)
	case n == 11:
		return "N=$((N+1))"
	case n == 12:
		return ": ${" + p.name() + p.pick(":=", "=") + p.pick("d", "$A", "$(false)") + "}"
	case n == 13:
		return "export " + p.name() + "=" + p.word(depth)
	case n == 14 && len(p.funcs) > 0:
		return p.pick(p.funcs...) + " " + p.word(depth)
	case n == 15:
		return p.pick("echo x | grep -q x", "echo x | grep -q y", "false | true", "true | false", "echo "+p.name()+" | tr A B")
	case n == 16:
		return "unset " + p.name()
	case depth <= 0:
		return p.pick("true", "A=1", "false")
	case n == 17:
		return "{ " + p.command(depth-1) + "; " + p.command(depth-1) + "; }"
	case n == 18:
		return "if " + p.list(depth-1) + "; then " + p.command(depth-1) + "; else " + p.command(depth-1) + "; fi"
	case n == 19:
		return "for I in a " + p.word(0) + "; do " + p.command(depth-1) + "; " + p.command(depth-1) + "; done"
	case n == 20:
		return "case " + p.word(0) + " in x*) " + p.command(depth-1) + ";; \"\") " + p.command(depth-1) + " ;; *) " + p.command(depth-1) + "; esac"
	}
	return p.list(depth - 1)
}

func (p *program) list(depth int) string {
	s := p.command(depth)
	for p.r.IntN(3) > 0 {
		s += p.pick(" && ", " || ", " && ") + p.command(depth)
	}
	return s
}

func newProgram(seed uint64) string {
	p := &program{r: rand.New(rand.NewPCG(seed, 1))}
	p.b.WriteString("N=1\n")
	for i := range p.r.IntN(3) {
		f := fmt.Sprintf("f%d", i)
		fmt.Fprintf(&p.b, "%s() {\n  %s\n  %s\n}\n", f, p.list(2), p.list(2))
		p.funcs = append(p.funcs, f)
	}
	for range 1 + p.r.IntN(5) {
		switch p.r.IntN(4) {
		case 0:
			fmt.Fprintf(&p.b, "if %s\nthen\n  %s\nelif %s; then\n  %s\nfi\n", p.list(1), p.list(2), p.list(1), p.list(1))
		default:
			p.b.WriteString(p.list(2) + "\n")
		}
	}
	return p.b.String()
}

// SETTINGS_PROGRAMS asks for more programs, SETTINGS_SEED for others.
func TestRandomFilesAreEvaluatedAsByBash(t *testing.T) {
	count, seed := 150, 1
	if n, err := strconv.Atoi(os.Getenv("SETTINGS_PROGRAMS")); err == nil {
		count = n
	}
	if n, err := strconv.Atoi(os.Getenv("SETTINGS_SEED")); err == nil {
		seed = n
	}
	refused := 0
	for i := range count {
		text := newProgram(uint64(seed + i))
		d := compare(t, text)
		if strings.HasPrefix(d, "refused: ") {
			refused++
			if testing.Verbose() && count < 50 {
				t.Logf("%s\n%s", d, text)
			}
		} else if d != "" {
			t.Errorf("seed %d:\n%s\n%s", seed+i, text, d)
		}
	}
	t.Logf("%d of %d are refused", refused, count)
	if refused > count/3 {
		t.Errorf("%d of %d random files are refused: the test shows too little", refused, count)
	}
}
