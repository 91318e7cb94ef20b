// Package console owns the built web console and hands its files to the server.
// It must not know HTTP, the API or where the console is mounted.
package console

import (
	"embed"
	"io/fs"
)

// dist holds .gitkeep alone until `npm run build` has run, so that Go builds
// without Node.
//
//go:embed all:dist
var dist embed.FS

// FS gives the console's files, index.html at the root. It is false when the
// binary was built without the console.
func FS() (fs.FS, bool) {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, false
	}
	if _, err := fs.Stat(files, "index.html"); err != nil {
		return nil, false
	}
	return files, true
}
