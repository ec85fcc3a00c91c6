package bash

import (
	"bytes"
	"errors"
	"io/fs"

	"instance-debootstrap/pkg/pattern"
)

// literalInclude is a file that a line evaluates by its name.
var literalInclude = pattern.New(`(?m)(?:^|[;&|{(]|\bthen\b|\belse\b|\bdo\b)[ \t]*(?:\.|source)[ \t]+["']?(/[^\s;&|"'$()<>*?` + "`" + `\[\]\\]+)`)

// readAll reads a file and those that it includes by name, and looks at all before
// bash does. A file that is included and isn't there is bash's to fail of.
func (s *Shell) readAll(path string) (map[string][]byte, error) {
	texts := map[string][]byte{}
	for todo := []string{path}; len(todo) > 0; todo = todo[1:] {
		name := todo[0]
		if _, seen := texts[name]; seen {
			continue
		}
		text, err := s.cfg.ReadFile(name)
		if name != path && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = checkText(name, text)
		}
		if err != nil {
			return nil, err
		}
		texts[name] = text
		for _, m := range literalInclude().FindAllSubmatch(text, -1) {
			if name := string(m[1]); !ownText(name) {
				todo = append(todo, name)
			}
		}
	}
	return texts, nil
}

// checkIncluded looks at the files that were included by names which only bash knew.
func (s *Shell) checkIncluded(a answer, texts map[string][]byte) error {
	for name, paths := range a.files {
		if _, seen := texts[name]; seen || ownText(name) {
			continue
		}
		for _, path := range paths {
			if text, err := s.cfg.ReadFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			} else if err := checkText(path, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// isBlank tells whether a file has nothing but comments and blank lines.
func isBlank(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.Trim(line, " \t\n"); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}
