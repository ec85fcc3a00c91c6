package transport

import (
	"context"
	"fmt"
	"strings"

	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
)

// LossError says what a backup or a tree has lost on its way, though the tool that
// moved it ended well: GNU tar only warns of an extended attribute, an ACL or a
// capability that it can't read or set. All else was moved.
type LossError struct {
	Tool  string
	Count int      // lines that the tool said
	First []string // the first of them
}

func (e *LossError) Error() string {
	return fmt.Sprintf("%s warned of %d losses, first: %s", e.Tool, e.Count, strings.Join(e.First, "; "))
}

// shownLosses is how many of a tool's warnings stand in the error.
const shownLosses = 3

// Losses listens to what a tool says.
type Losses struct {
	LossError
	harmless []func(line string) bool
}

// Listen makes a Losses of what is harmless of what a tool says.
func Listen(tool string, harmless ...func(line string) bool) *Losses {
	return &Losses{LossError: LossError{Tool: tool}, harmless: harmless}
}

// Line is told every line.
func (l *Losses) Line(text string) {
	for _, is := range l.harmless {
		if is(text) {
			return
		}
	}
	l.add(text)
}

func (l *Losses) add(text string) {
	if l.Count++; l.Count <= shownLosses {
		l.First = append(l.First, text)
	}
}

// Fault is nil when nothing was lost.
func (l *Losses) Fault() error {
	if l.Count == 0 {
		return nil
	}
	return &l.LossError
}

// matches makes a test of lines out of a pattern. NAME stands for a file's name as
// tar quotes it, where a colon of the name's own has a backslash: what a guest
// calls its files, or their attributes, doesn't make a loss look harmless.
func matches(expr string) func(string) bool {
	form := pattern.New(`^tar: ` + strings.ReplaceAll(expr, "NAME", `(?:[^:\\]|\\.)+`) + `$`)
	return func(line string) bool { return form().MatchString(line) }
}

// What GNU tar says that is no loss; whatever it says beside is taken for one.
var (
	packHarmless = []func(string) bool{
		matches(`NAME: socket ignored`), // tar has none, and their makers make them anew
		matches(`NAME: (file|directory) is on a different filesystem; not dumped`),
	}
	unpackHarmless = []func(string) bool{
		matches("Removing leading `[./]*' from (member names|hard link targets)"), // an absolute name stays in the guest
		matches("Substituting `\\.' for empty member name"),
		matches(`Extracting contiguous files as regular files`),
		// What other programs note of the file's place on the disk they read it from.
		matches(`Ignoring unknown extended header keyword '(SCHILY\.(dev|ino|nlink|filetype)|LIBARCHIVE\.creationtime)'`),
	}
)

// OrLoss takes the word of who moved a tree: what it lost of the files' attributes ends
// the run, or is one warning where METADATA_LOSS is warn. what is the tree, for the
// message.
func OrLoss(ctx context.Context, metadataLoss, what string, err error) error {
	loss, ok := err.(*LossError) //nolint:errorlint // one that is a part of another failure doesn't count
	switch {
	case !ok:
		return err
	case metadataLoss == "warn":
		tell.Warn(ctx, "%s is incomplete: %v", what, loss)
		return nil
	}
	return fmt.Errorf("%s would be incomplete: %w: set METADATA_LOSS=warn to accept that", what, loss)
}
