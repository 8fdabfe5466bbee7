package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxSecret bounds a password file.
const maxSecret = 4 << 10

// ReadSecret reads a secret from a file, such as mqtt.password_file or a systemd credential below
// /run/credentials/edged.service/. One line end at its end is not part of it. An empty secret is an error.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			err = pe.Err
		}
		return nil, fmt.Errorf("config: secret %s: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // read only: nothing is lost
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("config: secret %s: %w", path, err)
	}
	if len(b) > maxSecret {
		return nil, fmt.Errorf("config: secret %s: larger than %v: this is no password", path, Size(maxSecret))
	}
	b = bytes.TrimSuffix(b, []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	if len(b) == 0 {
		return nil, fmt.Errorf("config: secret %s: is empty", path)
	}
	return b, nil
}
