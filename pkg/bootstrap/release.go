package bootstrap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/pattern"
)

// release is what the Release file of a suite says ("Debian Repository Format"). It
// isn't verified here: it serves for messages and for the choice of sources, and
// whatever is installed is verified by the tools.
type release struct {
	components       []string
	date, validUntil time.Time // zero: it names none
	ubuntu           bool
}

// fetcher fetches Release files with what the bootstrap tool fetches with: apt's own
// helper, or wget. Both go by the proxy and the password that the tool has.
type fetcher struct {
	tool string // debootstrap or mmdebstrap
	auth string // the folder of the mirror's password, "" is none
	dir  string // for files
	// atOnce are the requests that are under way beside each other.
	atOnce *sync.WaitGroup
}

// saysNotThere is how wget and apt-helper tell it.
var saysNotThere = pattern.New(`ERROR 404:|\s404\s+Not Found`)

// errNotThere is an archive that answers and hasn't got it.
var errNotThere = errors.New("it isn't there (404)")

// saysBusy is how they tell of an archive that takes fewer requests at once, or has no time.
var saysBusy = pattern.New(`ERROR (429|503):|\s(429|503)\s`)

// busy is why such an archive hasn't answered.
type busy struct{ error }

// answerTime is how long an archive has for one file.
const answerTime = 8 * time.Second

// reaches tells whether the archive is one that can be asked.
func (f fetcher) reaches(uri string) bool {
	return strings.HasPrefix(uri, "http://") || strings.HasPrefix(uri, "https://")
}

// request is what an archive has been asked: for the Release file of a suite.
type request struct {
	uri, suite string
	answer     func() (release, error) // waits for it
}

// ask asks an archive, and goes on meanwhile: most of the time is the way there and back. One
// that is busy is asked once more when all others have their answers.
func (f fetcher) ask(ctx context.Context, uri, suite string) request {
	type result struct {
		release
		error
	}
	came := make(chan result, 1)
	f.atOnce.Go(func() {
		r, err := f.release(ctx, uri, suite)
		came <- result{r, err}
	})
	return request{uri, suite, sync.OnceValues(func() (release, error) {
		r := <-came
		if errors.As(r.error, &busy{}) && ctx.Err() == nil {
			f.atOnce.Wait()
			return f.release(ctx, uri, suite)
		}
		return r.release, r.error
	})}
}

// release returns what an archive says of a suite. An error that is errNotThere means
// that the archive has none of that name, any other that it doesn't answer.
func (f fetcher) release(ctx context.Context, uri, suite string) (r release, err error) {
	for _, name := range []string{"InRelease", "Release"} {
		var text string
		if text, err = f.fetch(ctx, uri+"/dists/"+suite+"/"+name); err == nil {
			return parseRelease(text), nil
		}
		if !errors.Is(err, errNotThere) {
			break
		}
	}
	return release{}, fmt.Errorf("%s/dists/%s: %w", uri, suite, err)
}

func (f fetcher) fetch(ctx context.Context, url string) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	file := filepath.Join(f.dir, rand.Text())
	defer os.Remove(file)
	// wget leaves a wget-log where it is when it gets SIGHUP.
	c := command.Cmd{Quiet: true, Dir: f.dir, Args: []string{"wget", "-nv", "-T", "5", "-t", "1", "-O", file, url}}
	if f.auth != "" {
		c.Env = []string{"HOME=" + f.auth}
	}
	if f.tool == Mmdebstrap {
		c.Args = []string{aptHelper, "-o", "Acquire::http::Timeout=5", "-o", "Acquire::https::Timeout=5", "-o", "Acquire::Retries=0", "-o", "APT::Sandbox::User=root"}
		if f.auth != "" {
			c.Args = append(c.Args, "-o", "Dir::Etc::netrc="+f.auth+"/auth.conf")
		}
		c.Args = append(c.Args, "download-file", url, file)
	}
	err := command.Run(bounded, c)
	if cause := context.Cause(ctx); cause != nil {
		return "", cause
	}
	if err != nil && saysNotThere().MatchString(strings.ReplaceAll(err.Error(), url, "")) {
		return "", errNotThere
	}
	if err != nil && saysBusy().MatchString(strings.ReplaceAll(err.Error(), url, "")) {
		return "", busy{briefly(err)}
	}
	if err != nil {
		return "", briefly(err)
	}
	const most = 4 << 20 // of sid it is 0.3 MiB
	if st, err := os.Stat(file); err != nil || st.Size() > most {
		return "", errors.Join(err, fmt.Errorf("it is larger than %d MiB", most>>20))
	}
	raw, err := os.ReadFile(file)
	return string(raw), err
}

// aptSays matches the reason in what apt-helper prints, which names the address twice.
var aptSays = pattern.New(`E: Failed to fetch \S+\s+(.+?)(; E: Download Failed)?$`)

// briefly is why a file didn't come, of which the caller names the address.
func briefly(err error) error {
	if m := aptSays().FindStringSubmatch(err.Error()); m != nil {
		return errors.New(m[1])
	}
	return err
}

// aptHelper is apt's tool to fetch one file, since apt 0.9.
const aptHelper = "/usr/lib/apt/apt-helper"

// parseRelease takes the fields of a Release file, signed within itself or not.
func parseRelease(text string) (r release) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "Components":
			for _, c := range strings.Fields(value) {
				// Security archives of old suites have a folder in the name.
				r.components = append(r.components, strings.TrimPrefix(c, "updates/"))
			}
		case "Origin":
			r.ubuntu = value == "Ubuntu"
		case "Date":
			r.date = releaseTime(value)
		case "Valid-Until":
			r.validUntil = releaseTime(value)
		case "MD5Sum", "SHA256": // the list of files: no field follows that is meant here
			return r
		}
	}
	return r
}

// releaseTime is zero for what it can't read.
func releaseTime(value string) time.Time {
	for _, layout := range []string{time.RFC1123, "Mon, _2 Jan 2006 15:04:05 MST"} {
		if t, err := time.Parse(layout, value); err == nil {
			return t
		}
	}
	return time.Time{}
}
