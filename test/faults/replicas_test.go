package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const (
	envReplica  = "CROWSNEST_FAULTS_REPLICA"  // a folder that says who has which containers
	envNumber   = "CROWSNEST_FAULTS_NUMBER"   // of the replica
	envBegin    = "CROWSNEST_FAULTS_BEGIN"    // when the first line was written, Unix milliseconds
	envReplicas = "CROWSNEST_FAULTS_REPLICAS" // any: the test runs, some 40 s

	replicaPods  = 6
	replicaEvery = 5 * time.Millisecond // between two lines of a pod
	replicaLines = 1600                 // of each instance
	replicaLives = 3
)

// spoken is a cluster of containers whose lines follow from the time alone, so that
// each process sees the same ones.
type spoken struct {
	begin  time.Time
	owners string // file
	number string

	mu   sync.Mutex
	read time.Time
	who  string
}

var (
	_ logs.Pods  = (*spoken)(nil)
	_ logs.Share = (*spoken)(nil)
)

// life is the instance that runs now.
func (s *spoken) life() int {
	return min(int(time.Since(s.begin)/(replicaLines*replicaEvery)), replicaLives-1)
}

func (s *spoken) Snapshot() *state.Snapshot {
	out := &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{}}
	for i := range replicaPods {
		name := fmt.Sprint("p", i)
		out.Pods["uid-"+name] = &object.Pod{Meta: object.Meta{UID: "uid-" + name, Namespace: "shop", Name: name, CreatedAt: s.begin}, Phase: object.PhaseRunning, StartedAt: s.begin,
			Containers: []object.Container{{Name: "app", State: "running", RestartCount: s.life(), StartedAt: s.begin}}}
	}
	return out
}

func (s *spoken) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name)},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", RestartCount: int32(s.life())}}}}, nil
}

func (s *spoken) PodLogs(ctx context.Context, _, name string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	life := s.life()
	if o.Previous {
		life--
	}
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
	go func() {
		for n := life * replicaLines; n < (life+1)*replicaLines; n++ {
			at := s.begin.Add(time.Duration(n) * replicaEvery)
			if o.SinceTime != nil && at.Before(o.SinceTime.Time) {
				continue
			}
			if wait := time.Until(at); wait > 0 {
				if !o.Follow {
					break
				}
				time.Sleep(wait)
			}
			if _, err := fmt.Fprintf(w, "%s line %d of %s\n", at.UTC().Format(time.RFC3339Nano), n, name); err != nil {
				return // nobody reads any more
			}
		}
		if o.Follow && life == replicaLives-1 {
			<-ctx.Done()
		}
		_ = w.Close()
	}()
	return r, nil
}

func (s *spoken) whose() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) > 50*time.Millisecond {
		raw, err := os.ReadFile(s.owners)
		if err == nil {
			s.who = string(raw)
		}
		s.read = time.Now()
	}
	return s.who
}

func (s *spoken) Owns(key string) bool {
	who := s.whose()
	return who != "" && string(who[int(key[len("uid-p")])%len(who)]) == s.number
}

func (s *spoken) Parts() (own int, parts uint64) {
	own, _ = strconv.Atoi(s.number)
	for _, c := range s.whose() {
		parts |= 1 << (c - '0')
	}
	if parts&(1<<own) == 0 {
		return -1, 0
	}
	return own, parts
}

// followPods is a replica of a collector without files.
func followPods(dir, address string) error {
	begin, err := strconv.ParseInt(os.Getenv(envBegin), 10, 64)
	if err != nil {
		return err
	}
	client, err := push.NewClient(push.ClientOptions{Server: "http://" + address, Sender: "all"})
	if err != nil {
		return err
	}
	s := &spoken{begin: time.UnixMilli(begin), owners: filepath.Join(dir, "owners"), number: os.Getenv(envNumber)}
	a, err := logs.NewAPI(logs.APIOptions{
		Pods: s, State: s, Share: s, Positions: client.LogPositions, Sender: "all", Poll: 100 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	return a.Run(context.Background(), client)
}

// Two replicas share containers that restart; each is killed, stopped for long while
// the other goes on, and the server is killed, too. Each line is stored once.
// (CROWSNEST_FAULTS_REPLICAS=1 go test -v -run Replicas ./test/faults)
func TestLinesOfReplicasArriveOnce(t *testing.T) {
	if os.Getenv(envReplicas) == "" {
		t.Skip(envReplicas + " is not set")
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	dir, begin := t.TempDir(), time.Now().Add(time.Second)
	owners := func(who string) {
		t.Helper()
		name := filepath.Join(dir, "owners")
		if err := os.WriteFile(name+".new", []byte(who), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	server := &child{env: []string{envLogServe + "=" + t.TempDir(), envLogAddress + "=" + address}}
	replicas := make([]*child, 2)
	for i := range replicas {
		replicas[i] = &child{env: []string{envReplica + "=" + dir, envNumber + "=" + strconv.Itoa(i), envBegin + "=" + strconv.FormatInt(begin.UnixMilli(), 10), envLogAddress + "=" + address}}
		defer replicas[i].kill()
	}
	defer server.kill()
	owners("01")
	server.start(t)
	for _, r := range replicas {
		r.start(t)
	}
	kills := 0
	for end := begin.Add(replicaLives * replicaLines * replicaEvery); time.Now().Before(end); kills++ {
		one := kills % 2
		other := strconv.Itoa(1 - one)
		time.Sleep(1500 * time.Millisecond)
		switch kills % 6 {
		case 0, 1: // another process takes its place, with nothing on its disk
			replicas[one].kill()
			time.Sleep(500 * time.Millisecond)
			owners(other)
			time.Sleep(time.Second)
			replicas[one].start(t)
			owners("01")
		case 2, 3: // it comes back when the other has gone on
			replicas[one].signal(t, syscall.SIGSTOP)
			owners(other)
			time.Sleep(1500 * time.Millisecond)
			replicas[one].signal(t, syscall.SIGCONT)
			owners("01")
		case 4:
			server.kill()
			server.start(t)
		case 5: // all change hands
			owners("10")
		}
	}
	const want = replicaPods * replicaLives * replicaLines
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		seen, doubled, odd, err := spokenOnce(address)
		if err == nil && seen == want && doubled == 0 && odd == "" {
			break
		}
		if time.Now().After(deadline) || doubled > 0 {
			replicas[0].kill()
			replicas[1].kill()
			t.Fatalf("of %d lines %d are there, %d doubled, odd: %q, %v\n%s\n%s", want, seen, doubled, odd, err, replicas[0].log.String(), replicas[1].log.String())
		}
	}
	replicas[0].kill()
	replicas[1].kill()
	t.Logf("%d lines, %d kills, stops and changes: 0 lost, 0 doubled; begun anew %d times", want, kills,
		strings.Count(replicas[0].log.String()+replicas[1].log.String(), "follows containers anew"))
}

// spokenOnce looks at what is stored.
func spokenOnce(address string) (seen, doubled int, odd string, err error) {
	resp, err := http.Get("http://" + address)
	if err != nil {
		return 0, 0, "", err
	}
	defer resp.Body.Close()
	count := map[string]int{}
	for in := json.NewDecoder(resp.Body); ; {
		var row []string
		if err := in.Decode(&row); err == io.EOF {
			break
		} else if err != nil {
			return 0, 0, "", err
		}
		if !strings.HasPrefix(row[1], "line ") || !strings.HasSuffix(row[1], row[0]) {
			odd = row[1]
			continue
		}
		if count[row[1]]++; count[row[1]] > 1 {
			doubled++
		}
	}
	return len(count), doubled, odd, nil
}
