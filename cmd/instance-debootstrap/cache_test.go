package main

import (
	"testing"
	"time"
)

func TestAnAgeHasOneUnit(t *testing.T) {
	for ago, want := range map[time.Duration]string{
		10 * time.Second: "0m", 61 * time.Second: "1m", 119 * time.Minute: "119m", 5*time.Hour + 59*time.Minute: "5h", 47 * time.Hour: "47h", 49 * time.Hour: "2d",
	} {
		if got := age(time.Now().Add(-ago)); got != want {
			t.Errorf("%v ago: %s, want %s", ago, got, want)
		}
	}
	if got := age(time.Time{}); got != "-" {
		t.Error(got)
	}
}
