package settings

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

// hashes has the node's own crypt(3) make one hash by each of its methods.
func hashes(t *testing.T) (out []string) {
	t.Helper()
	for _, setting := range []string{
		"$1$abcdefgh", "$1$", "$5$abc", "$5$rounds=5000$abc", "$6$abcdefghijklmnop", "$6$rounds=5000$a", "$2a$05$abcdefghijklmnopqrstuu", "$2b$05$abcdefghijklmnopqrstuu",
		"$2x$05$abcdefghijklmnopqrstuu", "$2y$05$abcdefghijklmnopqrstuu", "$y$j75$abcdefgh", "$y$j9T$", "$gy$j75$abcdefgh", "$7$CU..../....abcdefgh",
		"$sha1$1000$abcdefgh", "$md5$abcdefgh", "$md5,rounds=5000$abcdefgh$", "$3$",
	} {
		hash, err := exec.Command("perl", "-e", `print crypt("hunter2", $ARGV[0])`, setting).Output()
		if err != nil || !strings.HasPrefix(string(hash), setting) {
			t.Fatalf("crypt %s: %s, %v", setting, hash, err)
		}
		out = append(out, string(hash))
	}
	return out
}

func TestAHashIsTakenWhereCryptMadeItAndRefusedWhereItWasCut(t *testing.T) {
	for _, hash := range hashes(t) {
		if err := checkRootPassword(hash); err != nil {
			t.Errorf("%s: %v", hash, err)
		}
		for _, cut := range []string{hash[:len(hash)-1], hash[1:], hash + ":", hash + "\n", " " + hash} {
			if checkRootPassword(cut) == nil {
				t.Errorf("%q is taken", cut)
			}
		}
	}
}

func TestAPasswordIsNeverTakenForAHash(t *testing.T) {
	for _, password := range []string{"hunter2secret", "abJnggxhB/yWI", "_J9..rasm6f5ycSbUcd6", "Trixie2026...", "$6$hunter2", "$ecret$", "$y$"} {
		err := checkRootPassword(password)
		if err == nil {
			t.Errorf("%q is taken for a hash", password)
		} else if strings.Contains(err.Error(), password) {
			t.Errorf("the message shows it: %v", err)
		}
	}
}

func TestAHashThatTheSuitesLibcCannotCheckIsRefused(t *testing.T) {
	for _, hash := range hashes(t) {
		sha, md5 := strings.HasPrefix(hash, "$5$") || strings.HasPrefix(hash, "$6$"), strings.HasPrefix(hash, "$1$")
		for suite, want := range map[string]bool{
			"etch": md5, "gutsy": md5, "lenny": md5 || sha, "buster": md5 || sha, "eoan": md5 || sha,
			"bullseye": true, "focal": true, "trixie": true, "sid": true, "a-suite-to-come": true,
		} {
			s, err := Check(context.Background(), Sources{VariantsDir: "/v", Params: map[string]string{"suite": suite, "root_password": hash}})
			if err == nil {
				err = s.CheckPassword()
			}
			if (err == nil) != want {
				t.Errorf("%s with %s: %v", suite, hash, err)
			}
			if err != nil && (!strings.Contains(err.Error(), "OS parameter root_password") || !strings.Contains(err.Error(), "mkpasswd -m") || strings.Contains(err.Error(), hash)) {
				t.Errorf("%s: the message: %v", suite, err)
			}
		}
	}
}
