package testbed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Disk is a small file system of its own, in memory, that can be filled.
type Disk struct{ Dir string }

// MountDisk mounts one of so many bytes on a folder, which needs root.
func MountDisk(dir string, bytes int64) (Disk, error) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.FormatInt(bytes, 10)); err != nil {
		return Disk{}, fmt.Errorf("mount a file system of %d bytes on %s: %w", bytes, dir, err)
	}
	return Disk{dir}, nil
}

// Unmount lets go of it, though files may be open.
func (d Disk) Unmount() error { return syscall.Unmount(d.Dir, syscall.MNT_DETACH) }

func (d Disk) hog() string { return filepath.Join(d.Dir, "hog") }

// Fill takes what is free, but for so many bytes, until Free.
func (d Disk) Fill(left uint64) error {
	f, err := os.Create(d.hog())
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing of it is read
	block := make([]byte, 64<<10)
	for {
		var st syscall.Statfs_t
		if err := syscall.Statfs(d.Dir, &st); err != nil {
			return fmt.Errorf("stat %s: %w", d.Dir, err)
		}
		free := st.Bavail * uint64(st.Bsize)
		if free <= left {
			return nil
		}
		if _, err := f.Write(block[:min(uint64(len(block)), free-left)]); err != nil {
			if errors.Is(err, syscall.ENOSPC) { // who else writes to it was faster
				return nil
			}
			return err
		}
	}
}

// Free gives back what Fill took.
func (d Disk) Free() error { return os.Remove(d.hog()) }
