package testbed

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is one of our programs, run outside the cluster.
type Process struct {
	Name string
	Log  string // file of its output
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; read after done
}

// Start runs a program; its output goes to dir/name.log.
func Start(dir, name, program string, args ...string) (*Process, error) {
	p := &Process{Name: name, Log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	p.cmd = exec.Command(program, args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Peer builds somebody else's program from its own module in tools/peers, once.
func Peer(ctx context.Context, root, name, pkg string) (program, version string, err error) {
	module := filepath.Join(root, "tools/peers", name)
	list := exec.CommandContext(ctx, "go", "list", "-f", "{{.Module.Version}}", pkg)
	list.Dir = module
	out, err := list.Output()
	if err != nil {
		return "", "", fmt.Errorf("find %s: %w", pkg, err)
	}
	version = strings.TrimSpace(string(out))
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	program = filepath.Join(cache, "crowsnest-bench", name+"-"+version)
	if _, err := os.Stat(program); err == nil {
		return program, version, nil
	}
	fmt.Fprintf(os.Stderr, "building %s %s\n", pkg, version)
	build := exec.CommandContext(ctx, "go", "build", "-o", program, pkg)
	build.Dir, build.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	return program, version, nil
}

// FreeAddress gives a loopback address that nobody listens on. Fixed ones would
// meet what else runs on a developer's machine, and talk to it.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the process as a crash would, and waits for that.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the process to end, as Ctrl-C does, and gives its exit; one that
// does not end within the time is killed, which is an error.
func (p *Process) Stop(timeout time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		p.Kill()
		return fmt.Errorf("%s did not end within %s", p.Name, timeout)
	}
}

// Tail gives the end of the process' output.
func (p *Process) Tail(lines int) string {
	raw, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// HasOpen says whether a process has a file open, by the path that it has now.
func HasOpen(pid int, path string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is good
	return slices.ContainsFunc(links, func(l string) bool {
		to, err := os.Readlink(l)
		return err == nil && to == path
	})
}

// Hold stops a process, all of its threads, until the function that it gives is called.
func Hold(ctx context.Context, pid int) (letGo func(), err error) {
	letGo = func() { _ = syscall.Kill(pid, syscall.SIGCONT) } // it is gone, or goes on
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return nil, fmt.Errorf("stop process %d: %w", pid, err)
	}
	err = Await(ctx, 5*time.Second, time.Millisecond, func(context.Context) error {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		for _, path := range stats {
			raw, err := os.ReadFile(path)
			if err == nil && !strings.Contains(string(raw), ") T ") {
				return fmt.Errorf("process %d still runs", pid)
			}
		}
		return nil
	})
	if err != nil {
		letGo()
		return nil, err
	}
	return letGo, nil
}

// Usage is what a process has used and holds.
type Usage struct {
	CPU time.Duration // since its start
	RSS int64         // bytes, file-backed pages included
	// Anonymous is the part of RSS that no file backs: what the process really
	// costs beyond its program file.
	Anonymous int64
}

// UsageOf reads /proc.
func UsageOf(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	// The program's name, in brackets, may hold spaces; what follows it does not.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return Usage{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	usage := Usage{CPU: time.Duration(user+system) * (time.Second / 100)} // USER_HZ is 100 on every Linux that Go knows
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Usage{}, err
	}
	for _, line := range strings.Split(string(status), "\n") {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			usage.RSS = kib << 10
		case "RssAnon":
			usage.Anonymous = kib << 10
		}
	}
	return usage, nil
}

// WaitReady waits until the server at url says that it is ready.
func (p *Process) WaitReady(ctx context.Context, server *Server, timeout time.Duration) error {
	err := Await(ctx, timeout, 100*time.Millisecond, func(ctx context.Context) error {
		select {
		case <-p.done:
			return nil
		default:
			return server.Ready(ctx)
		}
	})
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %v\n%s", p.Name, p.err, p.Tail(30))
	default:
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", p.Name, err, p.Tail(30))
	}
	return nil
}
