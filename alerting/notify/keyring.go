package notify

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keyBytes makes it AES-256.
const keyBytes = 32

// Keyring encrypts secrets at rest with a key of its own file, so that a copy
// of the database alone does not give them away.
type Keyring struct{ aead cipher.AEAD }

// OpenKeyring reads the key file, or makes it with mode 0600 when there is
// none.
func OpenKeyring(path string) (*Keyring, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = createKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	if len(key) != keyBytes {
		return nil, fmt.Errorf("open key file %s: it has %d bytes instead of %d; restore it from a backup, or delete it and create all targets anew", path, len(key), keyBytes)
	}
	return NewKeyring(key)
}

// NewKeyring takes a key of 32 bytes.
func NewKeyring(key []byte) (*Keyring, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	return &Keyring{aead: aead}, nil
}

// createKey writes the key durably before anything is encrypted with it.
func createKey(path string) (key []byte, err error) {
	key = make([]byte, keyBytes)
	_, _ = rand.Read(key)                                   // never fails: it ends the program instead
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*") // has mode 0600
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(key)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return key, errors.Join(dir.Sync(), dir.Close())
}

// Seal encrypts. It can only be opened for the same owner.
func (k *Keyring) Seal(plain []byte, owner string) []byte {
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce)
	return k.aead.Seal(nonce, nonce, plain, []byte(owner))
}

// Open is the inverse of Seal.
func (k *Keyring) Open(sealed []byte, owner string) ([]byte, error) {
	n := k.aead.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("too short")
	}
	plain, err := k.aead.Open(nil, sealed[:n], sealed[n:], []byte(owner))
	if err != nil {
		return nil, errors.New("not encrypted with this key file: restore the key file that belongs to the database, or create the target anew")
	}
	return plain, nil
}
