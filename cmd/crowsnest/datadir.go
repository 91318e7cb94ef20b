package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/reserve"
	"github.com/crowsnest-dev/crowsnest/storage/backup"
)

// format is the number of the data folder's layout. It rises when an older
// server could not read what a newer one wrote.
const format = 1

// A start on a full disk needs some room: file systems take a block for a folder, and databases make
// files anew after an orderly stop. The data folder has that in a file that a start lets go.
const (
	reserveFile  = "reserve"
	reserveBytes = 1 << 20
)

// dataDir is the folder of all that the server keeps, held by this process.
type dataDir struct {
	path string
	lock *os.File
	// fresh says that there was no data in it before.
	fresh bool
}

// openDataDir makes the folder where there is none, takes it for this process,
// and refuses one that another process has (fault.ErrConflict), that cannot be
// written (fault.ErrUnavailable), or that a newer version wrote, or whose restore did not end.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, fmt.Errorf("the data folder %s cannot be made: %w: %w", path, fault.ErrUnavailable, err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("the data folder %s cannot be written: give a folder that the user of the server may write to by --data: %w: %w", path, fault.ErrUnavailable, err)
	}
	d := &dataDir{path: path, lock: lock}
	if err := d.take(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func (d *dataDir) take() error {
	// The kernel lets go of the lock when the process ends, however it ends.
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("the data folder %s is in use by another crowsnest%s: end that one, or give this one a folder of its own by --data: %w", d.path, d.holder(), fault.ErrConflict)
		}
		return fmt.Errorf("the data folder %s cannot be locked (is it on a network file system?): %w: %w", d.path, fault.ErrUnavailable, err)
	}
	if err := reserve.LetGo(d.join(reserveFile)); err != nil {
		return fmt.Errorf("the data folder %s cannot be written: %w: %w", d.path, fault.ErrUnavailable, err)
	}
	if id, yes := backup.Unfinished(d.path); yes {
		return fmt.Errorf("the data folder %s is not whole: the restore of backup %s into it did not end; ask for it once more, it goes on, or empty the folder: %w", d.path, id, fault.ErrConflict)
	}
	if err := d.checkFormat(); err != nil {
		return err
	}
	// For the message above; the lock itself is what counts.
	if err := d.lock.Truncate(0); err != nil {
		return fmt.Errorf("the data folder %s cannot be written: %w: %w", d.path, fault.ErrUnavailable, err)
	}
	if _, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("the data folder %s cannot be written (is the disk full?): %w: %w", d.path, fault.ErrUnavailable, err)
	}
	return nil
}

// reserve takes the room for the next start.
func (d *dataDir) reserve() error { return reserve.Take(d.join(reserveFile), reserveBytes) }

// holder names the process that has the folder, where it is known.
func (d *dataDir) holder() string {
	raw := make([]byte, 20)
	n, _ := d.lock.ReadAt(raw, 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(raw[:n]))); err == nil {
		return fmt.Sprintf(" (process %d)", pid)
	}
	return ""
}

func (d *dataDir) checkFormat() error {
	path := filepath.Join(d.path, "FORMAT")
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.fresh = true
		return writeFile(path, strconv.Itoa(format)+"\n")
	case err != nil:
		return fmt.Errorf("read the data folder's format: %w: %w", fault.ErrUnavailable, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	switch {
	case err != nil || n < 1:
		return fmt.Errorf("%s holds %q, not a format number: this is no data folder of crowsnest, or it is damaged: %w", path, strings.TrimSpace(string(raw)), fault.ErrInvalid)
	case n > format:
		return fmt.Errorf("the data folder %s has format %d, this version knows up to %d: run the newer version that wrote it, or give another folder by --data: %w", d.path, n, format, fault.ErrInvalid)
	}
	return nil
}

// writeFile writes a file so that it is there whole or not at all.
func writeFile(path, text string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("the data folder cannot be written: %w: %w", fault.ErrUnavailable, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("the data folder cannot be written: %w", err), tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	if _, err := tmp.WriteString(text); err != nil {
		return err
	}
	if err := tmp.Chmod(0o640); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func (d *dataDir) join(name string) string { return filepath.Join(d.path, name) }

// Close lets go of the folder.
func (d *dataDir) Close() error { return d.lock.Close() }
