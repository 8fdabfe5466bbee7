package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxSecret bounds a password file.
const maxSecret = 4 << 10

// credentials is the folder in which systemd shows the secrets of LoadCredential= to their service, and to
// root, while it runs.
const credentials = "/run/credentials/"

// secretHint says what a person can do who may not read a service's secret.
func secretHint(path string, err error) string {
	switch {
	case strings.HasPrefix(path, credentials) && errors.Is(err, fs.ErrPermission):
		return ": systemd shows a credential to its service and to root: put sudo before the command, or name a file of your own: EDGED_MQTT_PASSWORD_FILE=FILE"
	case strings.HasPrefix(path, credentials) && errors.Is(err, fs.ErrNotExist):
		return ": a credential is there while its service runs, where the unit has LoadCredential=; else name a file of your own: EDGED_MQTT_PASSWORD_FILE=FILE"
	case errors.Is(err, fs.ErrPermission):
		return ": put sudo before the command, or name a file of your own: EDGED_MQTT_PASSWORD_FILE=FILE"
	}
	return ""
}

// ReadSecret reads a secret from a file, such as mqtt.password_file or a systemd credential below
// /run/credentials/edged.service/. One line end at its end is not part of it. An empty secret is an error.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			err = pe.Err
		}
		return nil, fmt.Errorf("config: secret %s: %w%s", path, err, secretHint(path, err))
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
