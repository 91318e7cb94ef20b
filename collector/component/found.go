package component

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/crowsnest-dev/crowsnest/collector/state"
)

// found is an instance that shows as a static pod and can be asked itself.
type found struct {
	name string
	at   *url.URL
}

// discover gives the addresses of components whose static pods show where they
// listen, and why others cannot be asked. Components that were named by the
// configuration are left to it.
func (s *Source) discover(now *state.Snapshot) (all []found, hidden map[string]string) {
	hidden = map[string]string{}
	for _, p := range now.Pods {
		name := componentOf(p)
		if name == "" || name == CoreDNS || len(p.Command) == 0 || s.targets[name] != nil || p.Ended() || p.Terminating {
			continue
		}
		host := ""
		if n := now.Nodes[p.Node]; n != nil {
			host = n.InternalIP
		}
		switch at, why := addressOf(name, p.Command, host, s.o.ClientCert); {
		case at != nil:
			all = append(all, found{name, at})
		default:
			hidden[name] = fmt.Sprintf("%s on node %s %s", name, p.Node, why)
		}
	}
	return all, hidden
}

// addressOf reads a component's own flags.
func addressOf(name string, command []string, host string, clientCert bool) (at *url.URL, why string) {
	if host == "" {
		return nil, "has no address: its node's object does not show one"
	}
	if name == Etcd {
		const loopback = "shows its figures on loopback only (its --listen-metrics-urls)"
		for _, text := range strings.Split(flagOf(command, "listen-metrics-urls", ""), ",") {
			if u := reachable(text, host); u != nil {
				return u, ""
			}
		}
		for _, text := range strings.Split(flagOf(command, "listen-client-urls", ""), ",") {
			if u := reachable(text, host); u != nil && clientCert {
				return u, ""
			} else if u != nil {
				return nil, loopback + ", and else to those with a client certificate: give one with --component-cert-file"
			}
		}
		return nil, loopback
	}
	port := flagOf(command, "secure-port", map[string]string{Scheduler: "10259", ControllerManager: "10257"}[name])
	if port == "0" {
		return nil, "serves nothing (its --secure-port is 0)"
	}
	if u := reachable("https://"+net.JoinHostPort(flagOf(command, "bind-address", "0.0.0.0"), port), host); u != nil {
		return u, ""
	}
	return nil, "listens on loopback only (its --bind-address)"
}

// reachable gives the address as it is from elsewhere; nil for loopback and for
// what is none.
func reachable(text, host string) *url.URL {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil
	}
	ip := net.ParseIP(u.Hostname())
	switch {
	case ip == nil || ip.IsLoopback():
		return nil
	case ip.IsUnspecified():
		u.Host = net.JoinHostPort(host, u.Port())
	}
	return u
}

// flagOf gives a flag's value as --name=value or --name value.
func flagOf(command []string, name, otherwise string) string {
	for i, arg := range command {
		if v, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return v
		}
		if arg == "--"+name && i+1 < len(command) {
			return command[i+1]
		}
	}
	return otherwise
}
