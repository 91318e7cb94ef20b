package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Place is where backups lie: a Folder or a Bucket. One backup at a time works on
// it; reading needs nobody's leave.
type Place interface {
	fmt.Stringer
	// lock keeps others away; fault.ErrConflict while another backup works on it.
	lock(ctx context.Context) (unlock func() error, err error)
	// begin removes what an interrupted backup has left of its own, and makes room.
	// What backups share stays: the next one goes on from it.
	begin(ctx context.Context, id string) error
	// put copies a file, unless the same is there, and reads back what it wrote.
	put(c *copier, id, from string, f File) error
	// seal writes the manifest, which makes the backup whole.
	seal(ctx context.Context, id string, manifest []byte) error
	// open reads a file of a whole backup.
	open(ctx context.Context, id string, f File) (io.ReadCloser, error)
	// list gives the whole backups, the newest last.
	list(ctx context.Context) ([]*Manifest, error)
	// prune removes all but the newest backups, and what none has any more.
	prune(ctx context.Context, keep int) error
}

// List gives the whole backups of a place, the newest last.
func List(ctx context.Context, from Place) ([]*Manifest, error) { return from.list(ctx) }

// keyOf says where a file lies, by slashes; own is the backup's own folder.
func keyOf(own string, f File) string {
	if strings.HasPrefix(f.Path, logsPart) {
		return path.Join(linesDir, f.SHA256[:2], f.SHA256)
	}
	rel, block := inBlock(f.Path)
	switch {
	case !block:
		return path.Join(own, filesDir, f.Path)
	case immutable(rel):
		return path.Join(blocksDir, rel)
	}
	return path.Join(own, blocksDir, rel)
}

// ownDir of a backup.
func ownDir(id string) string { return path.Join(backupsDir, id) }

// parseManifest reads that of the backup that lies in a folder of this name.
func parseManifest(raw []byte, where, id string) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("read backup %s: %w: %v", where, fault.ErrMalformed, err)
	}
	if m.Format > format {
		return nil, fmt.Errorf("backup %s has format %d, this version knows up to %d: use the newer version that made it: %w", where, m.Format, format, fault.ErrInvalid)
	}
	if m.ID != id { // who removes a backup goes by its ID
		return nil, fmt.Errorf("backup %s says that it is %q: %w", where, m.ID, fault.ErrMalformed)
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return nil, fmt.Errorf("backup %s names the file %q, which lies outside: %w", where, f.Path, fault.ErrMalformed)
		}
		if raw, err := hex.DecodeString(f.SHA256); err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("backup %s has no checksum of %s: %w", where, f.Path, fault.ErrMalformed)
		}
	}
	return m, nil
}

// divide says which backups go when so many stay, and what
// the others use, blocks by id and files of lines by checksum.
func divide(all []*Manifest, keep int) (gone []*Manifest, used map[string]bool) {
	gone, all = all[:max(0, len(all)-keep)], all[max(0, len(all)-keep):]
	used = map[string]bool{}
	for _, m := range all {
		for _, f := range m.Files {
			if rel, ok := inBlock(f.Path); ok {
				id, _, _ := strings.Cut(rel, "/")
				used[id] = true
			} else if strings.HasPrefix(f.Path, logsPart) {
				used[f.SHA256] = true
			}
		}
	}
	return gone, used
}

func byID(all []*Manifest) []*Manifest {
	slices.SortFunc(all, func(a, b *Manifest) int { return strings.Compare(a.ID, b.ID) })
	return all
}
