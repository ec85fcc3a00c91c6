package settings

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"instance-debootstrap/pkg/pattern"
)

// momentLayout is how mirrors of snapshots name them.
const momentLayout = "20060102T150405Z"

var momentText = pattern.New(`^([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}T[0-9]{6}Z)$`)

// checkMoment takes a day, or a time as mirrors of snapshots name it.
func checkMoment(v string) error {
	if !momentText().MatchString(v) {
		return errors.New("must be a day such as 2026-01-31, or a time in UTC such as 20260131T120000Z")
	}
	if moment(v) == "" {
		return errors.New("there is no such day or time")
	}
	return nil
}

// moment is the time as mirrors name it, that of a day when it began; what is none is "".
func moment(v string) string {
	for _, layout := range []string{time.DateOnly, momentLayout} {
		if t, err := time.Parse(layout, v); err == nil {
			return t.Format(momentLayout)
		}
	}
	return ""
}

// ShowSnapshot is SNAPSHOT for people: the day where it is the beginning of one.
func ShowSnapshot(moment string) string {
	if t, err := time.Parse(momentLayout, moment); err == nil && strings.HasSuffix(moment, "T000000Z") {
		return t.Format(time.DateOnly)
	}
	return moment
}

// CheckSnapshot refuses a time that hasn't come yet: what is in its archive isn't known.
func (s *Settings) CheckSnapshot(now time.Time) error {
	t, err := time.Parse(momentLayout, s.Snapshot)
	if err == nil && t.After(now) {
		return errors.New("SNAPSHOT=" + s.Raw["SNAPSHOT"] + " has not come yet, by this node's clock (" + now.UTC().Format(time.DateTime) + " UTC): take a day that is over, or set the clock")
	}
	return nil
}

func checkSnapshotMirror(v string) error {
	u, err := url.Parse(v)
	switch {
	case err == nil && u.User != nil:
		return errors.New("can't have a user and password: those of MIRROR are used for its host")
	case err == nil && u.Scheme != "http" && u.Scheme != "https":
		return errors.New("must begin with http:// or https://")
	}
	return checkURL(v)
}
