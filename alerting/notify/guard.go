package notify

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// errRefused is an address that webhooks must not reach.
var errRefused = errors.New("address is not allowed")

// special are further ranges that are nobody's web server: they lead into the
// provider's network, to nowhere, or by translation to any of the others.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),      // "this network"
	netip.MustParsePrefix("100.64.0.0/10"),  // carrier-grade NAT; clouds use it inside
	netip.MustParsePrefix("192.0.0.0/24"),   // protocol assignments
	netip.MustParsePrefix("198.18.0.0/15"),  // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),    // reserved, and broadcast
	netip.MustParsePrefix("::/96"),          // IPv4-compatible, of old
	netip.MustParsePrefix("64:ff9b::/96"),   // NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64, local
	netip.MustParsePrefix("2002::/16"),      // 6to4
	netip.MustParsePrefix("2001::/32"),      // Teredo
	netip.MustParsePrefix("fec0::/10"),      // site-local, of old
	netip.MustParsePrefix("100::/64"),       // discard
}

// Guard keeps webhooks from the network that the server stands in: whoever may
// create a target could otherwise make the server ask its neighbours, or a
// cloud's metadata service, in its name.
type Guard struct {
	// Allowed ranges are reached although they are private.
	Allowed []netip.Prefix
}

// Check refuses loopback, link-local, unspecified, multicast, private and
// other special addresses that are not in an allowed range.
func (g *Guard) Check(ip netip.Addr) error {
	ip = ip.Unmap().WithZone("") // ::ffff:127.0.0.1 is 127.0.0.1
	if !ip.IsValid() {
		return fmt.Errorf("%w: not an IP address", errRefused)
	}
	for _, p := range g.Allowed {
		if p.Contains(ip) {
			return nil
		}
	}
	what := ""
	switch {
	case ip.IsLoopback():
		what = "loopback"
	case ip.IsLinkLocalUnicast(), ip.IsLinkLocalMulticast(), ip.IsInterfaceLocalMulticast():
		what = "link-local"
	case ip.IsUnspecified():
		what = "unspecified"
	case ip.IsMulticast():
		what = "multicast"
	case ip.IsPrivate():
		what = "private"
	default:
		for _, p := range special {
			if p.Contains(ip) {
				what = "reserved"
			}
		}
	}
	if what == "" {
		return nil
	}
	return fmt.Errorf("%w: %s is a %s address; allow its range with --allow-webhook-cidr if the receiver is really there", errRefused, ip, what)
}

// control is called by the dialer with the address that is connected to, after
// names were resolved: a name that leads elsewhere at the second look gains
// nothing.
func (g *Guard) control(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return g.Check(ip)
}
