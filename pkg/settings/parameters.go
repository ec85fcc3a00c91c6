package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"

	"instance-debootstrap/pkg/pattern"
)

// Parameter is an OS parameter that Ganeti is told of.
type Parameter struct {
	Name string
	Text string // what it is
}

// parameterName keeps to what makes an environment variable's name of OSP_NAME.
var parameterName = pattern.New(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// Variable is the name by which the scripts and hooks see the parameter (Ganeti's
// lib/backend.py: upper case, each "-" a "_").
func (p Parameter) Variable() string {
	return "OSP_" + strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_"))
}

// ParametersList returns Ganeti's parameters.list: a line each, the name and
// what it is, first the table's, then the site's; no comments and no blank lines
// (ganeti-os-interface(7)).
func ParametersList(site []Parameter) string {
	var b strings.Builder
	for _, p := range append(ownParameters(), site...) {
		fmt.Fprintf(&b, "%s %s\n", p.Name, p.Text)
	}
	return b.String()
}

func ownParameters() (out []Parameter) {
	for _, s := range table {
		if s.Param != "" {
			out = append(out, Parameter{s.Param, fmt.Sprintf("%s (%s)", strings.TrimSuffix(firstSentence(s.Text), "."), s.Range)})
		}
	}
	return out
}

func firstSentence(text string) string {
	first, _, _ := strings.Cut(text, ". ")
	first, _, _ = strings.Cut(first, "; ")
	return first
}

// SiteParameters reads the OS parameters that a site has for its own hooks: a line
// each, the name and what it is; blank lines and lines that begin with # are left
// out. A file that isn't there has none. All faults of the file are in the one error,
// each with its line.
func SiteParameters(path string) (site []Parameter, err error) {
	text, err := readTrusted(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	taken := map[string]string{}
	for _, p := range ownParameters() {
		taken[p.Variable()] = "instance-debootstrap itself has " + p.Name
	}
	var faults []error
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		at := fmt.Sprintf("%s:%d", path, n)
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		p, err := parseParameter(line)
		if err == nil && taken[p.Variable()] != "" {
			err = fmt.Errorf("OS parameter %s is taken: %s; give yours another name, such as one that begins with the site's", p.Name, taken[p.Variable()])
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", at, err))
			continue
		}
		taken[p.Variable()] = at + " has " + p.Name
		site = append(site, p)
	}
	return site, errors.Join(faults...)
}

func parseParameter(line string) (Parameter, error) {
	name, text := line, ""
	if end := strings.IndexFunc(line, unicode.IsSpace); end >= 0 {
		name, text = line[:end], strings.TrimSpace(line[end:])
	}
	switch {
	case !utf8.ValidString(line) || strings.ContainsFunc(text, unicode.IsControl):
		return Parameter{}, errors.New("there is a control character in it, or it is not UTF-8: write the name and what the parameter is")
	case !parameterName().MatchString(name):
		return Parameter{}, fmt.Errorf("%s is not an OS parameter's name: letters, digits, _ and -, a letter first", pattern.Quote(name))
	case text == "":
		return Parameter{}, fmt.Errorf("OS parameter %s has no description, which Ganeti wants: write it behind the name", name)
	}
	return Parameter{name, text}, nil
}
