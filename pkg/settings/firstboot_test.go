package settings

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestUserDataIsRefusedWhereCloudInitCouldNotReadIt(t *testing.T) {
	message := func(parts ...string) string {
		return "Content-Type: multipart/mixed; boundary=\"==b==\"\nMIME-Version: 1.0\n\n--==b==\n" + strings.Join(parts, "\n--==b==\n") + "\n--==b==--\n"
	}
	config := "Content-Type: text/cloud-config\n\n#cloud-config\npackages: [less]\n"
	encoded := func(text string) string {
		return "Content-Type: text/x-shellscript\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte(text)) + "\n"
	}
	for _, good := range []string{
		"#cloud-config\npackages: [less]\n", "#cloud-config\r\npackages:\r\n - less\r\n", "#cloud-config \n\n# a comment\nruncmd: [[ls, -l]]\n", "#!/bin/sh\ntrue\n",
		"#! /usr/bin/env python3\n", "#include\nhttps://example.org/a\n", "#include https://example.org/a\n", "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    a: b\n",
		"## template: jinja\n#cloud-config\n{% if v1 %}\na: b\n{% endif %}\n", "#cloud-boothook\nls\n", "#part-handler\n",
		message(config), message(config, encoded("#!/bin/sh\ntrue\n")), "From nobody Mon Jan  1 2026\n" + message(config), "MIME-Version: 1.0\n" + message(config)[:0] + strings.Replace(message(config), "MIME-Version: 1.0\n", "", 1),
		message("Content-Type: text/plain\n\n#cloud-config\na: b\n"), message("Content-Type: text/x-own-type\n\nanything\n"),
	} {
		if err := CheckUserData(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"packages: [less]\n": "first line", "# cloud-config\na: b\n": "first line", "#cloud-confg\na: b\n": "first line", "\x1f\x8b\x08": "first line", "": "first line",
		"#cloud-config\n":                                      "nothing after its first line",
		"#cloud-config\n- a\n":                                 "line 2: cloud-init expects keys",
		"#cloud-config\npackages: [less\nCANARY: x":            "is no YAML",
		"#cloud-config\na: b\n\tCANARY: x\n":                   "is no YAML: line",
		"#cloud-config\nruncmd: [a]\nb: c\nruncmd: [CANARY]\n": "line 4: a key that is there already",
		"#cloud-config-archive\na: b\n":                        "a list",
		"#!bin/sh\n":                                           "must begin with #!",
		"#!/bin/sh\r\nls\r\n":                                  "line ends of DOS",
		message():                                              "can't be read",
		message(config, "Content-Type: text/cloud-config\n\na: [CANARY\n"): "part 2: is no YAML",
		message(encoded("CANARY")): "part 1: must begin with #!",
		message("Content-Type: text/x-shellscript\nContent-Transfer-Encoding: base64\n\n#!CANARY\n"): "isn't encoded as",
		strings.TrimSuffix(message(config), "\n--==b==--\n"):                                         "last boundary",
		"Content-Type: multipart/mixed\n\nCANARY\n":                                                  "part 1 can't be read",
		"Content-Type: text/plain; boundary=\"\n\n":                                                  "can't be read",
	} {
		if err := CheckUserData(bad); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%q: error %v, want %q", bad, err, want)
		}
	}
}

func TestAMessageInAMessageAndSoOnIsRefused(t *testing.T) {
	text := "#cloud-config\na: b\n"
	for i := range 10 {
		boundary := "b" + strings.Repeat("x", i)
		text = "Content-Type: multipart/mixed; boundary=" + boundary + "\n\n--" + boundary + "\n" + text + "\n--" + boundary + "--\n"
		if i == 0 {
			text = strings.Replace(text, "#cloud", "Content-Type: text/cloud-config\n\n#cloud", 1)
		}
	}
	if err := CheckUserData(text); err == nil || !strings.Contains(err.Error(), "too many messages") {
		t.Error(err)
	}
}

func TestAPathIsShownAndAScriptIsNot(t *testing.T) {
	s := &Settings{Raw: map[string]string{"FIRST_BOOT": "/root/first", "USER_DATA": "#cloud-config\npassword: canary\n"}, Origin: map[string]string{}}
	if text := s.String(); strings.Contains(text, "canary") || !strings.Contains(text, "USER_DATA=(hidden)") || !strings.Contains(text, `FIRST_BOOT="/root/first"`) {
		t.Error(text)
	}
}

func TestAVariantMayLeaveUserDataOut(t *testing.T) {
	l := newLab(t)
	l.defaults("USER_DATA=/etc/user-data\nFIRST_BOOT=/etc/first\n")
	l.write("variants/default.conf", "USER_DATA=\n")
	l.src.Variant = "default"
	if s := l.must(); s.UserData != "" || s.FirstBoot != "/etc/first" {
		t.Errorf("%q, %q", s.UserData, s.FirstBoot)
	}
}

func TestTheLineIsNamedInWhichYAMLHasItsFault(t *testing.T) {
	long := "#cloud-config\nwrite_files:\n" + strings.Repeat("- path: /a\n  content: |\n   [ \" {\n", 300)
	for text, want := range map[string]string{
		"#cloud-config\nusers:\n  - name: bob\n   sudo: ALL\n":                                 "line 4:",
		"#cloud-config\nusers: [bob\n":                                                         "line 2:",
		"#cloud-config\na: b\n\tc: d\n":                                                        "line 3:",
		"#cloud-config\nruncmd:\n - [echo,\n    hi]\nwrite_files:\n - path: /x\n   a: b : c\n": "line 7:",
		"#cloud-config\na: \"b\n\n  c\"\nd: 'e\nf: g\n":                                        "line 5:",
		long + "a: {\n":        "line 903:",
		long + "a: b\n c: d":   "line 904:",
		"#cloud-config\na: *b": "line 2:",
	} {
		if err := CheckUserData(text); err == nil || !strings.Contains(err.Error(), "is no YAML: "+want) {
			t.Errorf("%q: error %v, want %q", text[max(0, len(text)-60):], err, want)
		}
	}
}
