package bash

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"time"

	"mvdan.cc/sh/v3/interp"
)

// read reads a line itself, since the interpreter splits it in another way.
func (s *Shell) read(ctx context.Context, hc interp.HandlerContext, args []string) ([]string, error) {
	names := args[1:]
	if len(names) == 0 || names[0] != "-r" {
		return s.unsupported(hc.Pos, "read without -r", "use read -r NAME …")
	}
	names = names[1:]
	for _, n := range names {
		if !validName(n) || n == "IFS" {
			return s.unsupported(hc.Pos, "read -r "+n, "use read -r NAME …")
		}
	}
	s.mu.Unlock() // the other end of the pipe runs commands, too
	line, ok := readLine(ctx, hc.Stdin)
	s.mu.Lock()
	if strings.ContainsAny(line, "\x00") {
		return s.unsupported(hc.Pos, "read of a binary file", "read text")
	}
	var text strings.Builder
	if len(names) == 0 {
		text.WriteString("REPLY=" + quote(line))
	}
	ifs := " \t\n"
	if v := hc.Env.Get("IFS"); v.IsSet() {
		ifs = v.String()
	}
	for i, word := range splitLine(line, ifs, len(names)) {
		text.WriteString(names[i] + "=" + quote(word) + ";")
	}
	if !ok {
		text.WriteString("\nfalse")
	}
	return []string{"eval", text.String()}, nil
}

// splitLine splits a line into n fields as read -r does: blanks of IFS around
// a field are dropped, other characters of IFS end one each, and the last field
// takes the rest.
func splitLine(line, ifs string, n int) []string {
	blanks := ""
	for _, r := range " \t\n" {
		if strings.ContainsRune(ifs, r) {
			blanks += string(r)
		}
	}
	if n == 0 {
		return nil
	}
	// next cuts the first field and the characters that end it.
	next := func(s string) (field, rest string) {
		i := strings.IndexAny(s, ifs)
		if ifs == "" || i < 0 {
			return s, ""
		}
		field, rest = s[:i], strings.TrimLeft(s[i:], blanks)
		if rest != "" && strings.IndexAny(rest, ifs) == 0 {
			rest = strings.TrimLeft(rest[1:], blanks)
		}
		return field, rest
	}
	fields := make([]string, n)
	rest := strings.TrimLeft(line, blanks)
	for i := range n - 1 {
		fields[i], rest = next(rest)
	}
	if field, more := next(rest); more == "" {
		fields[n-1] = field
	} else {
		fields[n-1] = strings.TrimRight(rest, blanks)
	}
	return fields
}

// readLine reads one line, byte by byte: what follows is the next command's.
func readLine(ctx context.Context, r io.Reader) (line string, complete bool) {
	if r == nil {
		return "", false
	}
	if f, ok := r.(*os.File); ok {
		stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })
		defer stop()
	}
	var buf bytes.Buffer
	var b [1]byte
	for {
		if n, err := r.Read(b[:]); n == 0 || err != nil && n == 0 {
			return buf.String(), false
		}
		if b[0] == '\n' {
			return buf.String(), true
		}
		buf.WriteByte(b[0])
	}
}
