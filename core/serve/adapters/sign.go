package adapters

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"aead.dev/minisign"

	"edged/core/model/digest"
)

// publicKey is one of adapters.public_keys.
type publicKey struct {
	text string
	key  minisign.PublicKey
}

// SignatureSuffix is the suffix that minisign appends to the name of the file that it signed.
const SignatureSuffix = ".minisig"

// maxSignature bounds a signature file: four lines.
const maxSignature = 8 << 10

// maxUnhashed bounds a file whose signature is of the old kind, which is over the whole file instead of its hash and is
// verified in memory.
const maxUnhashed = 64 << 20

func parseKeys(texts []string) ([]publicKey, error) {
	var keys []publicKey
	for _, text := range texts {
		k := publicKey{text: text}
		if err := k.key.UnmarshalText([]byte(text)); err != nil {
			return nil, fmt.Errorf("adapters: public_keys: %q is no minisign public key, such as RWQ… of 56 characters", text)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// verify holds the copies of a drop's files against the signatures beside the originals and returns the key that signed
// all of them. Copies and originals are in the same order.
func verify(keys []publicKey, originals, copies []digest.File) (signer string, err error) {
	for i, file := range originals {
		text, err := readSignature(file.Path + SignatureSuffix)
		if errors.Is(err, os.ErrNotExist) {
			return "", unfinishedError{
				fmt.Errorf("%s is not signed: adapters.public_keys is set, and %s is missing", base(file), base(file)+SignatureSuffix),
			}
		}
		var signature minisign.Signature
		if err == nil {
			err = signature.UnmarshalText(text)
		}
		if err != nil {
			return "", fmt.Errorf("%s%s is no minisign signature: %w", base(file), SignatureSuffix, err)
		}
		key, ok := keyOf(keys, signature.KeyID)
		if !ok {
			return "", fmt.Errorf("%s is signed with the key %016X, which is none of adapters.public_keys", base(file), signature.KeyID)
		}
		if signer != "" && signer != key.text {
			return "", fmt.Errorf("%s is signed with another key than the other files of this adapter", base(file))
		}
		signer = key.text
		switch ok, err := verifyFile(key.key, copies[i].Path, signature, text); {
		case err != nil:
			return "", err
		case !ok:
			return "", fmt.Errorf(
				"%s does not match its signature: it was changed after it was signed, or %s belongs to another file",
				base(file),
				base(file)+SignatureSuffix,
			)
		}
	}
	return signer, nil
}

func base(f digest.File) string { return filepath.Base(f.Path) }

func keyOf(keys []publicKey, id uint64) (publicKey, bool) {
	for _, k := range keys {
		if k.key.ID() == id {
			return k, true
		}
	}
	return publicKey{}, false
}

func readSignature(path string) ([]byte, error) {
	file, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // opened for reading: nothing to lose
	if size > maxSignature {
		return nil, fmt.Errorf("it has %d bytes", size)
	}
	return io.ReadAll(io.LimitReader(file, maxSignature))
}

func verifyFile(key minisign.PublicKey, path string, signature minisign.Signature, text []byte) (bool, error) {
	file, size, err := openRegular(path)
	if err != nil {
		return false, err
	}
	defer file.Close() //nolint:errcheck // opened for reading: nothing to lose
	if signature.Algorithm == minisign.EdDSA {
		if size > maxUnhashed {
			return false, fmt.Errorf(
				"%s has a signature of the old kind, which is taken up to %d bytes: sign it with minisign -S -H",
				filepath.Base(path),
				maxUnhashed,
			)
		}
		data, err := io.ReadAll(io.LimitReader(file, maxUnhashed))
		return err == nil && minisign.Verify(key, data, text), err
	}
	r := minisign.NewReader(file)
	if _, err := io.Copy(io.Discard, r); err != nil {
		return false, err
	}
	return r.Verify(key, text), nil
}
