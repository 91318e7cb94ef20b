// Package reserve owns disk space that is held in a file for when the disk is full. It must not
// know who needs it then.
package reserve

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Take holds so many bytes in a file. It fails, and leaves no file, where there is less, or the file
// system cannot hold space.
func Take(path string, bytes int64) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, bytes); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// LetGo gives back what Take held, if anything.
func LetGo(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
