package guest

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
)

const (
	sourcesList  = "/etc/apt/sources.list"
	sourcesParts = "/etc/apt/sources.list.d"
	// maxSources bounds a file of sources in bytes, and maxSourceLines what is taken of all.
	maxSources     = 1 << 20
	maxSourceLines = 100
)

// ReadSources returns what the guest's apt installs packages from, as "URI SUITE
// COMPONENT…" without options, from both of apt's formats (sources.list(5)). What is
// disabled, and sources of source packages alone, are left out.
func ReadSources(r *Root) (out []string, err error) {
	names := []string{sourcesList}
	parts, err := r.ReadDir(sourcesParts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(parts)
	for _, name := range parts {
		if strings.HasSuffix(name, ".list") || strings.HasSuffix(name, ".sources") {
			names = append(names, sourcesParts+"/"+name)
		}
	}
	for _, name := range names {
		if st, err := r.Stat(name); err != nil || !st.Mode().IsRegular() || len(out) > maxSourceLines {
			continue
		}
		text, err := r.ReadFile(name, maxSources)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(name, ".sources") {
			out = append(out, stanzaSources(string(text))...)
		} else {
			out = append(out, lineSources(string(text))...)
		}
	}
	return out[:min(len(out), maxSourceLines)], nil
}

func lineSources(text string) (out []string) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "\t") {
			continue
		}
		if rest = strings.TrimSpace(rest); strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		rest, _, _ = strings.Cut(rest, "#")
		out = append(out, strings.Join(strings.Fields(rest), " "))
	}
	return out
}

// stanzaSources reads deb822's paragraphs: a field goes on in lines that begin with a
// blank.
func stanzaSources(text string) (out []string) {
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		fields, last := map[string]string{}, ""
		for line := range strings.Lines(paragraph) {
			name, value, ok := strings.Cut(line, ":")
			switch {
			case strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
				fields[last] += " " + strings.TrimSpace(line)
			case ok:
				last = strings.ToLower(strings.TrimSpace(name))
				fields[last] = strings.TrimSpace(value)
			}
		}
		enabled := strings.ToLower(fields["enabled"])
		if enabled == "no" || enabled == "false" || !slices.Contains(strings.Fields(fields["types"]), "deb") {
			continue
		}
		for _, uri := range strings.Fields(fields["uris"]) {
			for _, suite := range strings.Fields(fields["suites"]) {
				if len(out) > maxSourceLines {
					return out
				}
				out = append(out, strings.Join(append([]string{uri, suite}, strings.Fields(fields["components"])...), " "))
			}
		}
	}
	return out
}
