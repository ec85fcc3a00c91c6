package main

import (
	"strings"
	"testing"
	"time"
)

func TestFiguresTakeThePlaceOfTheOldOnesOnly(t *testing.T) {
	got, err := between([]byte("above\n"+beginMark+"old\n"+endMark+"below\n"), []byte("new\n"))
	if want := "above\n" + beginMark + "new\n" + endMark + "below\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := between([]byte("no marks"), nil); err == nil {
		t.Error("a text without the marks is written to")
	}
}

func TestUsageIsOfTheCommandAndItsChildrenOnly(t *testing.T) {
	a := &accounting{records: []exited{
		{pid: 30, parent: 20, command: "tar", cpu: 3, peakKiB: 5},                  // a grandchild, which ends first
		{pid: 21, parent: 10, command: "exe", cpu: 1, peakKiB: 9},                  // a thread of ours
		{pid: 20, parent: 10, command: "create", cpu: 2, peakKiB: 8},               //
		{pid: 99, parent: 98, command: "create", cpu: time.Hour, peakKiB: 1 << 30}, // somebody else's
	}}
	u, err := a.end(10)
	if err != nil || u.CPU != 6 || u.OwnCPU != 3 || u.OwnPeakKiB != 9 || u.PeakKiB != 5 || u.PeakTool != "tar" {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestRatiosAreOfTheMedians(t *testing.T) {
	s := summarise("ours", []sample{{Wall: 4 * time.Second}, {Wall: time.Second}, {Wall: 2 * time.Second}})
	if s.Wall != 2*time.Second || s.Fastest != time.Second || s.Slowest != 4*time.Second {
		t.Errorf("%+v", s)
	}
	if got := ratio(s.Wall, 8*time.Second); got != "0.25" {
		t.Errorf("ratio %s", got)
	}
	if got := peaks(side{}); strings.Contains(got, "MiB") {
		t.Errorf("a peak out of nothing: %s", got)
	}
}

func TestTheLinesOfSomeRowsAreReplaced(t *testing.T) {
	old := "# Figures\n\nMeasured on Monday:\nslow.\n\n### Wall\n\n| what | time |\n|---|---|\n| a | 1 |\n| b | 2 |\n\n### CPU\n\n| a | 3 |\n\nSaid of it.\n"
	some := "\nMeasured on Tuesday: fast.\n\n### Wall\n\n| what | time |\n|---|---|\n| b | 9 |\n"
	want := "# Figures\n\nMeasured on Monday:\nslow.\n\nSome rows anew: measured on Tuesday: fast.\n\n### Wall\n\n| what | time |\n|---|---|\n| a | 1 |\n| b | 9 |\n\n### CPU\n\n| a | 3 |\n\nSaid of it.\n"
	if got := string(merge([]byte(old), []byte(some))); got != want {
		t.Errorf("%s", got)
	}
	for line := range strings.Lines(wrapped(old + "\nMeasured on " + strings.Repeat("Tuesday ", 20) + "\n")) {
		if len(line) > 101 {
			t.Errorf("%d letters: %s", len(line), line)
		}
	}
}
