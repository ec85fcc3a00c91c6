package receipt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"instance-debootstrap/pkg/guest"
)

// SignatureFile is where the guest has the signature of its receipt, as `ssh-keygen -Y sign`
// makes it.
const SignatureFile = File + ".sig"

// namespace is what the signatures are for (ssh-keygen(1), -n).
const namespace = "instance-debootstrap-receipt"

// maxKeys bounds files of keys and signatures, in bytes.
const maxKeys = 64 << 10

// Signer signs receipts with the key of this node or cluster.
type Signer struct{ key ssh.Signer }

// ReadSigner reads an ssh private key without a passphrase, that nobody else can read.
func ReadSigner(path string) (*Signer, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read %s: chmod 600 %[1]s", path)
	}
	text, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("%s has a passphrase, which nobody is there to give: make a key of its own for this (ssh-keygen -t ed25519 -N '')", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is no ssh private key: %w", path, err)
	}
	return &Signer{key}, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := make([]byte, maxKeys)
	n, err := io.ReadFull(f, text)
	switch {
	case err == nil:
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxKeys-1)
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s is empty", path)
	case !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, err
	}
	return text[:n], nil
}

// signature of a text; nil signs nothing.
func (s *Signer) signature(text []byte) (string, error) {
	if s == nil {
		return "", nil
	}
	sig, err := sshsig.Sign(bytes.NewReader(text), s.key, sshsig.HashSHA512, namespace)
	if err != nil {
		return "", fmt.Errorf("sign the receipt: %w", err)
	}
	return string(sshsig.Armor(sig)), nil
}

// Keys are the public ones that receipts may be signed with.
type Keys struct{ keys []ssh.PublicKey }

// ReadKeys reads those of a file, one a line, as authorized_keys has them.
func ReadKeys(path string) (*Keys, error) {
	rest, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	k := &Keys{}
	for err == nil {
		var key ssh.PublicKey
		if key, _, _, rest, err = ssh.ParseAuthorizedKey(rest); err == nil { // it skips comments
			k.keys = append(k.keys, key)
		}
	}
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("%s has no ssh public key: %w", path, err)
	}
	return k, nil
}

// Signature is what is found of a receipt's signature.
type Signature struct {
	By    string `json:"by,omitempty"`    // the key's fingerprint, as ssh-keygen -l prints it
	Fault string `json:"fault,omitempty"` // why it is by none of the keys
}

// Verify looks at the signature of the guest's receipt.
func (k *Keys) Verify(root *guest.Root) *Signature {
	by, err := k.signer(root)
	if err != nil {
		return &Signature{Fault: err.Error()}
	}
	return &Signature{By: by}
}

func (k *Keys) signer(root *guest.Root) (fingerprint string, err error) {
	armored, err := root.ReadFile(SignatureFile, maxKeys)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("the guest has no " + SignatureFile)
	}
	if err != nil {
		return "", err
	}
	text, err := root.ReadFile(File, maxBytes)
	if err != nil {
		return "", err
	}
	sig, err := sshsig.Unarmor(armored)
	if err != nil {
		return "", fmt.Errorf("%s is no signature: %w", SignatureFile, err)
	}
	for _, key := range k.keys {
		if sshsig.Verify(bytes.NewReader(text), sig, key, sig.HashAlgorithm, namespace) == nil {
			return ssh.FingerprintSHA256(key), nil
		}
	}
	return "", errors.New("it isn't signed by any of these keys, or was changed since")
}
