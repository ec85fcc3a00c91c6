package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPasswordFileHasThePasswordOrItsHash(t *testing.T) {
	const hash = "$6$abcdefgh$gwJp6BAcQJv4VoNs3Pp2cU4Cm4ou3OeTRFX8cCNAbD8BC7iMqTkFD61dHBTEw2wSFuUGs6x5q0oKkJNQ1hwzU."
	file := filepath.Join(t.TempDir(), "password")
	for text, want := range map[string]string{
		hash + "\n": hash, "locked": "locked", "blank\n": "blank",
		"$6$abcdefgh$cut-short": "$6$abcdefgh$cut-short", // which the setting refuses
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := rootPassword(t.Context(), file); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if err := os.WriteFile(file, []byte("$ecret word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := rootPassword(t.Context(), file)
	if err != nil || !strings.HasPrefix(got, "$6$") {
		t.Fatalf("%q, %v", got, err)
	}
	again, err := exec.Command("openssl", "passwd", "-6", "-salt", strings.Split(got, "$")[2], "$ecret word").Output()
	if err != nil || strings.TrimSpace(string(again)) != got {
		t.Errorf("%q and %q, %v", got, again, err)
	}
}

func TestAPasswordFileThatOthersReadIsRefusedByInstallToo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("word\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in := installation{params: map[string]string{}}
	err := in.access(t.Context(), "", file)
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "chmod 600") || len(in.params) > 0 {
		t.Errorf("%v %v", err, in.params)
	}
}
