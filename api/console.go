package api

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// contentSecurityPolicy lets the console run what came with it, and nothing
// else. Styles are allowed inline because Mantine sets its variables so.
const contentSecurityPolicy = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
	"connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

const notBuilt = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Crowsnest</title>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em">
<h1>The console was not built</h1>
<p>This server runs, but its binary holds no console. Build it with Node and Go by</p>
<pre>make build</pre>
<p>and start it again. The API works without it: <a href="/apis/crowsnest.dev/v1/status">status</a>,
<a href="/apis/crowsnest.dev/v1/openapi.json">OpenAPI</a>, <a href="/metrics">metrics</a>.</p>
</body></html>
`

// consoleFiles serves the built console.
type consoleFiles struct {
	files fs.FS // nil when it was not built
	index []byte
	// What scripts and styles shrink to, made when first asked for: each is sent
	// as often as there are readers, and a page waits for it.
	short sync.Map // name to func() []byte
}

func newConsole(files fs.FS) (*consoleFiles, error) {
	c := &consoleFiles{files: files, index: []byte(notBuilt)}
	if files == nil {
		return c, nil
	}
	var err error
	if c.index, err = fs.ReadFile(files, "index.html"); err != nil {
		return nil, fmt.Errorf("read the console: %w", err)
	}
	return c, nil
}

// fallback answers what no route does: the console's files, its page for every
// URL that a person opens, and 404 for everything else.
func (s *Server) fallback(w http.ResponseWriter, r *http.Request) {
	if isAPI(r.URL.Path) || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		problem.Write(w, r, problem.Fail(fault.ErrNotFound, fmt.Sprintf("there is no %s", r.URL.Path)))
		return
	}
	w.Header().Set("Content-Security-Policy", contentSecurityPolicy)
	if s.console.file(w, r) {
		return
	}
	// Whoever asks for the root wants to see that something is there.
	if r.URL.Path != "/" && !strings.Contains(r.Header.Get("Accept"), "text/html") {
		problem.Write(w, r, problem.Fail(fault.ErrNotFound, fmt.Sprintf("there is no %s", r.URL.Path)))
		return
	}
	// The page names the hashed files of its own build: it must be asked for
	// anew each time, or an update would leave browsers with files that are gone.
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	http.ServeContent(w, r, "index.html", time.Time{}, bytes.NewReader(s.console.index))
}

// file answers with a file of the console, false when there is none of that
// name.
func (c *consoleFiles) file(w http.ResponseWriter, r *http.Request) bool {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if c.files == nil || name == "" || name == "index.html" || !fs.ValidPath(name) {
		return false
	}
	info, err := fs.Stat(c.files, name)
	if err != nil || info.IsDir() {
		return false
	}
	body, err := fs.ReadFile(c.files, name)
	if err != nil {
		return false
	}
	if strings.HasPrefix(name, "assets/") {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable") // Vite puts a hash into their names
	} else {
		w.Header().Set("Cache-Control", "no-cache")
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		w.Header().Set("Content-Type", t)
	}
	if ext := path.Ext(name); (ext == ".js" || ext == ".css") && takesGzip(r) {
		w.Header().Add("Vary", "Accept-Encoding")
		w.Header().Set("Content-Encoding", "gzip")
		body = c.shortened(name, body)
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(body))
	return true
}

func (c *consoleFiles) shortened(name string, body []byte) []byte {
	made, _ := c.short.LoadOrStore(name, sync.OnceValue(func() []byte {
		var out bytes.Buffer
		z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // fails for levels that there are not
		_, _ = z.Write(body)                                    // a buffer takes all
		_ = z.Close()
		return out.Bytes()
	}))
	return made.(func() []byte)()
}

// takesGzip tells whether an answer may be compressed. Who says more than the name,
// such as a weight, is left to the general way.
func takesGzip(r *http.Request) bool {
	for _, coding := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(coding) == "gzip" {
			return true
		}
	}
	return false
}
