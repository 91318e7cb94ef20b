package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Names that the library gives its files (lib/logstorage/filenames.go, v1.52.2).
const (
	partitionsDir = "partitions"
	snapshotsDir  = "snapshots"
	datadbDir     = "datadb"
	indexdbDir    = "indexdb"
	partsFile     = "parts.json"
	metadataFile  = "metadata.json"
	lockFile      = "flock.lock"
	deletionsFile = "delete_tasks.json"
	deleteMark    = ".delete-this-dir" // a folder that is being removed
	partitionName = "20060102"
	// newestFormat is partFormatLatestVersion: the library panics on newer parts.
	newestFormat = 3
)

// checkFolder finds out beforehand what would make the library panic, makes the
// folder when it is not there, and clears snapshots of commits that a crash
// interrupted (their hard links would hold disk space for ever).
func checkFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	// What a crash left behind of earlier probes and of the reserve.
	stale, err := filepath.Glob(filepath.Join(dir, ".writable-*"))
	if err != nil {
		return err
	}
	for _, path := range append(stale, filepath.Join(dir, reserveFile)) {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the folder is not writable: %w", err)
		}
	}
	partitions := filepath.Join(dir, partitionsDir)
	entries, err := os.ReadDir(partitions)
	fresh := errors.Is(err, os.ErrNotExist)
	// What is there can be read on a full disk, too; a new store is made of files.
	if err := writeProbe(dir); err != nil && (fresh || !fault.DiskFull(err)) {
		return fmt.Errorf("the folder is not writable: %w", err)
	}
	if err := checkLock(filepath.Join(dir, lockFile)); err != nil {
		return err
	}
	if fresh {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(partitions, e.Name())
		if _, err := time.Parse(partitionName, e.Name()); err != nil || !e.IsDir() {
			return fmt.Errorf("%s does not belong there: move it away; the folder holds one sub-folder per day", path)
		}
		if err := os.RemoveAll(filepath.Join(path, snapshotsDir)); err != nil {
			return fmt.Errorf("clear snapshots of a commit that was interrupted: %w", err)
		}
		if err := checkPartition(path); err != nil {
			return err
		}
	}
	return nil
}

// checkLock says whether another process has the store open.
func checkLock(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open lock file: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return errors.New("another process has it open; stop that one first")
		}
		return fmt.Errorf("lock %s: %w", path, err)
	}
	return nil
}

func checkPartition(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for _, e := range entries {
		has[e.Name()] = true
	}
	if len(entries) == 0 || has[deleteMark] {
		return nil // the library removes the rest of it
	}
	if has[datadbDir] && !has[indexdbDir] {
		return damaged(path, "its index is missing")
	}
	for _, sub := range []string{datadbDir, indexdbDir} {
		if has[sub] {
			if err := checkParts(path, filepath.Join(path, sub)); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkParts reads the list of parts and each one's header.
func checkParts(partition, dir string) error {
	names, err := readParts(dir)
	if errors.Is(err, os.ErrNotExist) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() && filepath.Base(dir) == datadbDir {
				return damaged(partition, "its list of parts is missing")
			}
		}
		return nil // the day was being made when the process was killed
	}
	if err != nil {
		return damaged(partition, err.Error())
	}
	for _, name := range names {
		var header struct{ FormatVersion uint }
		if err := readJSON(filepath.Join(dir, name, metadataFile), &header); err != nil {
			return damaged(partition, err.Error())
		}
		if header.FormatVersion > newestFormat {
			return fmt.Errorf("%s was written by a newer version (format %d, this one knows up to %d): start that version again, or restore a backup from before the upgrade",
				filepath.Join(dir, name), header.FormatVersion, newestFormat)
		}
	}
	return nil
}

func damaged(partition, what string) error {
	return fmt.Errorf("the day %s is damaged (%s): restore %s from a backup, or move it away to go on without that day",
		filepath.Base(partition), what, partition)
}

// readParts gives the names of the file parts in dir, as the library last wrote them.
func readParts(dir string) ([]string, error) {
	var names []string
	err := readJSON(filepath.Join(dir, partsFile), &names)
	return names, err
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// checkWritable looks at what makes the library panic in the middle of a write.
func checkWritable(dir string, minFree uint64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("log store %s cannot be reached (%v): %w", dir, err, fault.ErrUnavailable)
	}
	if free := st.Bavail * uint64(st.Bsize); free < minFree {
		return fmt.Errorf("log store is read-only: %d MiB of disk space are free, %d MiB are needed: %w", free>>20, minFree>>20, fault.ErrUnavailable)
	}
	if st.Files > 0 && st.Ffree < 1000 {
		return fmt.Errorf("log store is read-only: the file system has only %d inodes left: %w", st.Ffree, fault.ErrUnavailable)
	}
	if err := unix.Access(filepath.Join(dir, partitionsDir), unix.W_OK); err != nil {
		return fmt.Errorf("log store is read-only: its folder is not writable (%v): %w", err, fault.ErrUnavailable)
	}
	return nil
}
