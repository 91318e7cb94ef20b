package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/internal/config"
)

// maxAnswer bounds what a command takes from a server into memory.
const maxAnswer = 256 << 20

// remote is how a command reaches a server.
type remote struct {
	server    string
	tokenFile string
	caFile    string

	token config.Secret
	http  *http.Client
}

func (r *remote) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.server, "server", "http://"+defaultListen, "address of the server")
	f.StringVar(&r.tokenFile, "token-file", "", "file that holds the token; a server without tokens needs none from its own machine")
	f.StringVar(&r.caFile, "ca-file", "", "file of CA certificates that the server's certificate is checked by; default: the system's")
}

// open checks the flags and reads the token. Commands call it first.
func (r *remote) open() error {
	u, err := url.Parse(r.server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("--server must be a URL such as http://%s, not %q", defaultListen, r.server)
	}
	r.server = strings.TrimRight(r.server, "/")
	if r.tokenFile != "" {
		if r.token, err = config.SecretFromFile(r.tokenFile); err != nil {
			return err
		}
	}
	tls, err := push.TLSConfig(r.caFile, false)
	if err != nil {
		return err
	}
	r.http = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: tls, ForceAttemptHTTP2: true,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, TLSHandshakeTimeout: 5 * time.Second,
		},
		// A token must not be handed on to wherever a server points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

func (r *remote) close() {
	if r.http != nil {
		r.http.CloseIdleConnections()
	}
}

// do sends a request and gives an answer of 2xx, whose body the caller closes.
func (r *remote) do(ctx context.Context, method, path string, contentType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("User-Agent", "crowsnest/"+version)
	if !r.token.Empty() {
		req.Header.Set("Authorization", "Bearer "+r.token.Reveal())
	}
	res, err := r.http.Do(req)
	if err != nil {
		if ctx.Err() == nil && strings.Contains(r.server, defaultListen) {
			return nil, fmt.Errorf("%w (is the server running? start one by \"crowsnest run\", or name another by --server)", err)
		}
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		defer func() { _ = res.Body.Close() }()
		return nil, refusal(res)
	}
	return res, nil
}

// refusal says in words what a server refused.
func refusal(res *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	var p problem.Problem
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") && json.Unmarshal(raw, &p) == nil {
		var b strings.Builder
		fmt.Fprintf(&b, "%s (%d)", p.Title, p.Status)
		if len(p.Errors) == 0 && p.Detail != "" {
			fmt.Fprintf(&b, ": %s", p.Detail)
		}
		for _, e := range p.Errors {
			fmt.Fprintf(&b, "\n  %s: %s", strings.TrimPrefix(e.Location, "body."), e.Message)
			if e.Value != nil {
				given, _ := json.Marshal(e.Value)
				fmt.Fprintf(&b, " (got %s)", given)
			}
		}
		if p.Instance != "" {
			fmt.Fprintf(&b, " [%s]", p.Instance)
		}
		if res.StatusCode == http.StatusUnauthorized {
			b.WriteString("\n  give a token by --token-file FILE")
		}
		return fmt.Errorf("%s", b.String())
	}
	var prom struct{ Error string }
	if json.Unmarshal(raw, &prom) == nil && prom.Error != "" {
		return fmt.Errorf("%s", prom.Error)
	}
	return fmt.Errorf("the server answered %s: %s", res.Status, strings.TrimSpace(string(raw[:min(len(raw), 500)])))
}

// json sends a request of our own API and reads its answer into out, which may
// be nil.
func (r *remote) json(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	contentType := ""
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
		contentType = "application/json"
	}
	res, err := r.do(ctx, method, api.Prefix+path, contentType, body)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if out == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(out)
}

// readInput reads a file, or what comes in for "-".
func readInput(cmd *cobra.Command, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(cmd.InOrStdin(), 16<<20))
	}
	return os.ReadFile(path)
}

func printJSON(w io.Writer, raw []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(w)
	return err
}

// printYAML prints a JSON document as YAML, with its separator.
func printYAML(w io.Writer, doc []byte) error {
	out, err := yaml.JSONToYAML(doc)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "---\n%s", out)
	return err
}
