package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/trust"
)

// Where a guest's apt looks (sources.list(5), apt_preferences(5)).
const (
	sourcesFolder = "/etc/apt/sources.list.d/"
	pinsFolder    = "/etc/apt/preferences.d/"
)

var (
	// signedByField is deb822's field; a key within it follows on lines of its own.
	signedByField  = pattern.New(`(?mi)^signed-by:[ \t]*(/\S.*)$`)
	signedByOption = pattern.New(`(?m)^deb(?:-src)?[ \t]+\[[^]]*\bsigned-by=(/[^] \t]+)`)
)

// moreSources reads EXTRA_SOURCES: a file of sources in one of apt's formats, the keys
// that it names, and the pins beside it, which have its name and end in .pref. They are
// text by path, as the guest has them.
func moreSources(ctx context.Context, s *settings.Settings) (map[string]string, error) {
	path := s.ExtraSources
	if path == "" {
		return nil, nil
	}
	files, err := readSources(ctx, path, s.SharedFiles == "refuse")
	if err != nil {
		return nil, fmt.Errorf("EXTRA_SOURCES: %w", err)
	}
	return files, nil
}

func readSources(ctx context.Context, path string, strict bool) (map[string]string, error) {
	text, err := trustedFile(ctx, path, strict)
	if err != nil {
		return nil, err
	}
	files := map[string]string{sourcesFolder + filepath.Base(path): text}
	for _, key := range signingKeys(text) {
		if isDistributionKey(key) {
			continue // the guest has its own
		}
		if files[key], err = trustedFile(ctx, key, strict); err != nil {
			return nil, fmt.Errorf("%s: Signed-By: %w", path, err)
		}
	}
	pins := strings.TrimSuffix(path, filepath.Ext(path)) + ".pref"
	text, err = trustedFile(ctx, pins, strict)
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	files[pinsFolder+filepath.Base(pins)] = text
	return files, err
}

// signingKeys are the files of keys that sources name.
func signingKeys(text string) (out []string) {
	for _, m := range append(signedByField().FindAllStringSubmatch(text, -1), signedByOption().FindAllStringSubmatch(text, -1)...) {
		for _, key := range strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
			if strings.HasPrefix(key, "/") {
				out = append(out, filepath.Clean(key))
			}
		}
	}
	return out
}

func isDistributionKey(path string) bool {
	dir, name := filepath.Split(path)
	return dir == "/usr/share/keyrings/" && (strings.HasPrefix(name, "debian-archive-") || strings.HasPrefix(name, "ubuntu-archive-"))
}

// trustedFile reads a file of the node that comes into guests.
func trustedFile(ctx context.Context, path string, strict bool) (string, error) {
	warnings, err := trust.Check(path, strict)
	if err != nil {
		return "", err
	}
	for _, text := range warnings {
		warn(ctx, "%s", text)
	}
	text, err := readKeyFile(path)
	if err != nil {
		err = fmt.Errorf("file %s on this node: %w", path, err)
	}
	return text, err
}
