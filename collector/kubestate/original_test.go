package kubestate

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// recorded is the whole text of the original's own program.
const (
	recorded = "testdata/kube-state-metrics-v2.20.0.txt"
	howMade  = `# What kube-state-metrics v2.20.0, its own program, shows of objects.yaml, which an API server of a few lines served to it.
# Made anew by: KUBE_STATE_METRICS=PROGRAM go test -count 1 -run TestAllThatTheOriginalShows ./collector/kubestate
`
)

// notOurs are the families of the original that we do not make, by the beginning
// of their names, with the reason. docs/kube-prometheus-stack.md has the same.
var notOurs = map[string]string{
	"kube_configmap_": "who may watch ConfigMaps may read them all",
	"kube_secret_":    "who may watch Secrets may read them all",
}

// What the original shows of every resource that it shows by default, we show:
// each family with its type and help, each series with its value. What we leave
// out is in notOurs, and we add nothing.
func TestAllThatTheOriginalShows(t *testing.T) {
	objects := readObjects(t)
	if program := os.Getenv("KUBE_STATE_METRICS"); program != "" {
		record(t, program, objects)
	}
	raw, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	theirs := lines(string(raw))

	s := open(t)
	for _, o := range objects {
		s.Put(o.typed)
	}
	var text strings.Builder
	if err := s.Write(t.Context(), 0, 1, &text); err != nil {
		t.Fatal(err)
	}
	ours := lines(text.String())

	families, used := 0, map[string]bool{}
	for line := range theirs {
		name := familyOf(line)
		if strings.HasPrefix(line, "# TYPE ") {
			families++
		}
		left := ""
		for prefix := range notOurs {
			if strings.HasPrefix(name, prefix) {
				left = prefix
			}
		}
		switch {
		case left != "":
			used[left] = true
			if ours[line] != 0 {
				t.Errorf("we show what is told to be left out: %s", line)
			}
		case ours[line] != theirs[line]:
			t.Errorf("the original has %d of this line, we have %d: %s", theirs[line], ours[line], line)
		}
	}
	for line := range ours {
		if theirs[line] == 0 {
			t.Errorf("the original has no such line: %s", line)
		}
	}
	for prefix := range notOurs {
		if !used[prefix] {
			t.Errorf("the original has no %s", prefix)
		}
	}
	if families < 250 {
		t.Errorf("the record has only %d families", families)
	}
	t.Logf("%d families, %d lines", families, len(theirs))
}

// lines counts each line of a text: the order of objects is nobody's promise.
func lines(text string) map[string]int {
	out := map[string]int{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		comment := strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# HELP ") && !strings.HasPrefix(line, "# TYPE ")
		if line != "" && !comment {
			out[line]++
		}
	}
	return out
}

// familyOf is the name that a line is about.
func familyOf(line string) string {
	for _, prefix := range []string{"# HELP ", "# TYPE "} {
		line = strings.TrimPrefix(line, prefix)
	}
	if at := strings.IndexAny(line, "{ "); at >= 0 {
		line = line[:at]
	}
	return line
}

type oneObject struct {
	group string // with version, as in a path
	kind  string
	raw   json.RawMessage
	typed runtime.Object
}

func readObjects(t *testing.T) []oneObject {
	t.Helper()
	raw, err := os.ReadFile("testdata/objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all []json.RawMessage
	if err := yaml.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	var out []oneObject
	for _, one := range all {
		typed, kind, err := scheme.Codecs.UniversalDeserializer().Decode(one, nil, nil)
		if err != nil {
			t.Fatalf("%v in %s", err, one)
		}
		out = append(out, oneObject{group: kind.GroupVersion().String(), kind: kind.Kind, raw: one, typed: typed})
	}
	// Each resource of ours has one, so that its families are compared at all.
	s := open(t)
	for typ, k := range s.kinds {
		if !slices.ContainsFunc(out, func(o oneObject) bool { return reflect.TypeOf(o.typed) == typ }) {
			t.Errorf("testdata/objects.yaml has none of %s", k.resource)
		}
	}
	return out
}

// record asks the original's own program.
func record(t *testing.T, program string, objects []oneObject) {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/version":
			_, _ = io.WriteString(w, `{"major":"1","minor":"34","gitVersion":"v1.34.4"}`)
			return
		case r.URL.Query().Get("sendInitialEvents") != "":
			http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`, http.StatusUnprocessableEntity)
			return
		case r.URL.Query().Get("watch") != "":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		group, resource := path.Split(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/apis/"), "/api/"))
		group = strings.TrimSuffix(group, "/")
		list := map[string]any{"apiVersion": group, "kind": "List", "metadata": map[string]any{"resourceVersion": "20"}}
		items := []json.RawMessage{}
		for _, o := range objects {
			name := strings.ToLower(o.kind)
			if group == o.group && (resource == name+"s" || resource == name+"es" || resource == strings.TrimSuffix(name, "y")+"ies") {
				items = append(items, o.raw)
				list["kind"] = o.kind + "List"
			}
		}
		if len(items) == 0 {
			http.NotFound(w, r)
			return
		}
		list["items"] = items
		_ = json.NewEncoder(w).Encode(list)
	}))
	defer api.Close()
	defer api.CloseClientConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	port, other := freePort(t), freePort(t)
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "--apiserver="+api.URL, "--host=127.0.0.1", "--port="+port, "--telemetry-host=127.0.0.1", "--telemetry-port="+other)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	want := map[string]bool{} // a family of each resource
	for _, o := range objects {
		want["kube_"+strings.ToLower(o.kind)] = true
	}
	for {
		text := scraped(ctx, "http://127.0.0.1:"+port+"/metrics")
		missing := ""
		for prefix := range want {
			if !strings.Contains(text, prefix) {
				missing = prefix
			}
		}
		if missing == "" {
			if err := os.WriteFile(recorded, []byte(howMade+text), 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the original shows no %s; it says\n%s", missing, log.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func scraped(ctx context.Context, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return ""
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = res.Body.Close() }()
	raw, _ := io.ReadAll(res.Body)
	return string(raw)
}

func freePort(t *testing.T) string {
	t.Helper()
	address, err := testbed.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
