package logs

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// MaskOptions say what is taken out of lines before they leave the node.
type MaskOptions struct {
	// Off leaves well-known secrets in: bearer and basic credentials, JSON Web
	// Tokens, keys of AWS and of other services that have a form of their own,
	// private keys, passwords in URLs, and values named password, secret, token.
	Off bool
	// Patterns are regular expressions (RE2) that are masked besides: their groups
	// or, without any, all that matches. At most 32 of 512 bytes.
	Patterns []string
}

// Rules by which something is masked, as they are counted.
const (
	maskBearer     = "bearer"
	maskJWT        = "jwt"
	maskAWS        = "aws_key"
	maskToken      = "token"
	maskPrivateKey = "private_key"
	maskURL        = "url_password"
	maskNamed      = "named_value"
	maskOwn        = "own_pattern"
)

var maskRules = []string{maskBearer, maskJWT, maskAWS, maskToken, maskPrivateKey, maskURL, maskNamed, maskOwn}

// masked stands for what was taken out.
const masked = "***"

const (
	maxNamedKey = 48
	maxURLUser  = 512
)

// finder finds a secret around the three bytes at s[i:] that are its trigger, and
// says where it lies. A finder looks at a bounded part of s, as each trigger calls
// it, but for the secret itself.
type finder struct {
	rule string
	find func(s string, i int) (from, to int, ok bool)
}

// triggers are three bytes in lower case that a secret of each kind contains,
// chosen to be rare in other lines.
var triggers = map[string]finder{
	"rer": {maskBearer, findBearer},
	"eyj": {maskJWT, findJWT},
	"kia": {maskAWS, findAWS}, "sia": {maskAWS, findAWS},
	"://": {maskURL, findURLPassword},
	"---": {maskPrivateKey, findPrivateKey},
	"hp_": {maskToken, findToken}, "ho_": {maskToken, findToken}, "hs_": {maskToken, findToken}, "hu_": {maskToken, findToken}, "hr_": {maskToken, findToken},
	"_pa": {maskToken, findToken}, "glp": {maskToken, findToken}, "xox": {maskToken, findToken}, "iza": {maskToken, findToken}, "_li": {maskToken, findToken}, "pm_": {maskToken, findToken},
	"swo": {maskNamed, findNamed}, "swd": {maskNamed, findNamed}, "pwd": {maskNamed, findNamed}, "sph": {maskNamed, findNamed}, "cre": {maskNamed, findNamed}, "oke": {maskNamed, findNamed},
	"pik": {maskNamed, findNamed}, "i_k": {maskNamed, findNamed}, "i-k": {maskNamed, findNamed}, "s_k": {maskNamed, findNamed}, "s-k": {maskNamed, findNamed}, "ssk": {maskNamed, findNamed},
	"e_k": {maskNamed, findNamed}, "e-k": {maskNamed, findNamed}, "tek": {maskNamed, findNamed}, "t_k": {maskNamed, findNamed}, "tke": {maskNamed, findNamed}, "riz": {maskNamed, findNamed},
}

// NewMask gives what takes secrets out of texts that are no lines of containers, by the
// same rules. It is for concurrent use.
func NewMask(o MaskOptions) (func(string) string, error) {
	m, err := newMasker(o, func(string) {})
	if err != nil {
		return nil, err
	}
	return m.mask, nil
}

// masker takes secrets out of texts. It is for concurrent use.
type masker struct {
	off bool
	// pairs says of each pair of bytes, as word has them, whether a trigger begins or ends
	// with it: looking at every second pair finds all of them.
	pairs   [1 << 16]uint8
	slots   [4096]uint8 // by the hash of three bytes: index in finders, 0 for none
	keys    [][3]byte
	finders []finder
	own     []*regexp.Regexp
	count   func(rule string)
}

func newMasker(o MaskOptions, count func(rule string)) (*masker, error) {
	m := &masker{off: o.Off, count: count, keys: make([][3]byte, 1), finders: make([]finder, 1)}
	for t, f := range triggers {
		m.keys, m.finders = append(m.keys, [3]byte{t[0], t[1], t[2]}), append(m.finders, f)
		h := slotOf(t[0], t[1], t[2])
		for m.slots[h] != 0 {
			h = (h + 1) % uint32(len(m.slots))
		}
		m.slots[h] = uint8(len(m.finders) - 1)
		for _, upper := range [...]bool{false, true} { // each half in either case
			for _, upper2 := range [...]bool{false, true} {
				for k, part := range [...]uint8{triggerBegins, triggerEnds} {
					m.pairs[pairOf(cased(t[k], upper), cased(t[k+1], upper2))] |= part
				}
			}
		}
	}
	var errs []error
	if len(o.Patterns) > wire.MaxMasks {
		errs = append(errs, fmt.Errorf("%d patterns to mask, at most %d are taken", len(o.Patterns), wire.MaxMasks))
	}
	for _, p := range o.Patterns {
		re, err := regexp.Compile(p)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("pattern to mask %q: %w", p, err))
		case p == "" || len(p) > wire.MaxMaskBytes || re.MatchString(""):
			errs = append(errs, fmt.Errorf("pattern to mask %q: must have 1 to %d bytes and must not match an empty text", p, wire.MaxMaskBytes))
		default:
			m.own = append(m.own, re)
		}
	}
	return m, errors.Join(errs...)
}

func cased(c byte, upper bool) byte {
	if upper && c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c - 'A' + 'a'
	}
	return c
}

// What masker.pairs says.
const (
	triggerBegins uint8 = 1 << iota
	triggerEnds
)

func pairOf(a, b byte) uint16 { return uint16(a) | uint16(b)<<8 }

func slotOf(a, b, c byte) uint32 {
	return (uint32(a)<<16 | uint32(b)<<8 | uint32(c)) * 2654435769 >> 20
}

// finder is that of a trigger; nil when the bytes are none.
func (m *masker) finder(a, b, c byte) *finder {
	for h := slotOf(a, b, c); m.slots[h] != 0; h = (h + 1) % uint32(len(m.slots)) {
		if k := m.slots[h]; m.keys[k] == [3]byte{a, b, c} {
			return &m.finders[k]
		}
	}
	return nil
}

// mask gives the text without its secrets.
func (m *masker) mask(s string) string {
	if !m.off {
		s = m.known(s)
	}
	for _, re := range m.own {
		s = m.pattern(re, s)
	}
	return s
}

func (m *masker) known(s string) string {
	var out []byte
	taken := 0 // of s, into out
	for i := m.next(s, 1); i < len(s); i = m.next(s, i+2) {
		part := m.pairs[pairOf(s[i-1], s[i])]
		for at := max(taken, i-2); at < i && at+3 <= len(s); at++ {
			if at == i-2 && part&triggerEnds == 0 || at == i-1 && part&triggerBegins == 0 {
				continue
			}
			f := m.finder(lower(s[at]), lower(s[at+1]), lower(s[at+2]))
			if f == nil {
				continue
			}
			from, to, ok := f.find(s, at)
			if !ok || from < taken || from >= to {
				continue
			}
			out = append(append(out, s[taken:from]...), masked...)
			taken = to
			m.count(f.rule)
			i = to | 1 // the next pair of the same parity
			i -= 2
			break
		}
	}
	if taken == 0 {
		return s
	}
	return string(append(out, s[taken:]...))
}

// next finds the pair, from the one that ends at s[i] on and of each two the second, that a
// trigger begins or ends with. It says where that ends, beyond s if there is none.
func (m *masker) next(s string, i int) int {
	for ; i+7 <= len(s); i += 8 {
		w := word(s[i-1 : i+7])
		if m.pairs[uint16(w)]|m.pairs[uint16(w>>16)]|m.pairs[uint16(w>>32)]|m.pairs[uint16(w>>48)] != 0 {
			break
		}
	}
	for i < len(s) && m.pairs[pairOf(s[i-1], s[i])] == 0 {
		i += 2
	}
	return i
}

func (m *masker) pattern(re *regexp.Regexp, s string) string {
	found := re.FindAllStringSubmatchIndex(s, -1)
	if found == nil {
		return s
	}
	var out []byte
	taken := 0
	for _, f := range found {
		spans := f
		if len(f) > 2 {
			spans = f[2:]
		}
		for k := 0; k < len(spans); k += 2 {
			if spans[k] < taken || spans[k] == spans[k+1] { // within one before, or not there
				continue
			}
			out = append(append(out, s[taken:spans[k]]...), masked...)
			taken = spans[k+1]
		}
		m.count(maskOwn)
	}
	return string(append(out, s[taken:]...))
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func wordEnd(s string, i int) int {
	for i < len(s) && isWord(s[i]) {
		i++
	}
	return i
}

// isCredential says whether a byte may be in a bearer token.
func isCredential(c byte) bool {
	return isWord(c) || c == '.' || c == '~' || c == '+' || c == '/' || c == '='
}

func credentialEnd(s string, i int) int {
	for i < len(s) && isCredential(s[i]) {
		i++
	}
	return i
}

func findBearer(s string, i int) (from, to int, ok bool) {
	if i < 3 || !strings.EqualFold(s[i-3:i], "bea") || i+4 > len(s) || s[i+3] != ' ' {
		return 0, 0, false
	}
	from = i + 4
	to = credentialEnd(s, from)
	return from, to, to-from >= 8
}

func findJWT(s string, i int) (from, to int, ok bool) {
	if s[i:i+3] != "eyJ" || i > 0 && isWord(s[i-1]) {
		return 0, 0, false
	}
	from = i
	for part := range 3 {
		end := wordEnd(s, i)
		if part < 2 && (end-i < 8 || end >= len(s) || s[end] != '.') {
			return 0, 0, false
		}
		to, i = end, end+1
	}
	return from, to, true
}

func findAWS(s string, i int) (from, to int, ok bool) {
	from = i - 1
	if from < 0 || s[from] != 'A' || from > 0 && isWord(s[from-1]) || s[from:i+3] != "AKIA" && s[from:i+3] != "ASIA" {
		return 0, 0, false
	}
	to = wordEnd(s, from)
	if to-from != 20 {
		return 0, 0, false
	}
	for _, c := range []byte(s[from:to]) {
		if c < '0' || c > '9' && c < 'A' || c > 'Z' {
			return 0, 0, false
		}
	}
	return from, to, true
}

// tokens of services that have a form of their own, with the least length of what
// follows.
var tokens = []struct {
	prefix string
	least  int
}{
	{"ghp_", 30}, {"gho_", 30}, {"ghs_", 30}, {"ghu_", 30}, {"ghr_", 30}, {"github_pat_", 22}, {"glpat-", 16}, {"AIza", 32},
	{"xoxb-", 10}, {"xoxp-", 10}, {"xoxa-", 10}, {"xoxr-", 10}, {"xoxs-", 10}, {"sk_live_", 16}, {"rk_live_", 16}, {"npm_", 30},
}

func findToken(s string, i int) (from, to int, ok bool) {
	from = i
	for from > 0 && i-from < 8 && isWord(s[from-1]) {
		from--
	}
	for _, t := range tokens {
		if strings.HasPrefix(s[from:], t.prefix) {
			to = wordEnd(s, from)
			return from, to, to-from >= len(t.prefix)+t.least
		}
	}
	return 0, 0, false
}

// findPrivateKey finds what is between the first and the last line of a private
// key in PEM. One without an end is taken to the end of the text.
func findPrivateKey(s string, i int) (from, to int, ok bool) {
	head := s[i:min(len(s), i+80)]
	begin := strings.Index(head, "-----BEGIN ")
	if begin < 0 || begin > 5 {
		return 0, 0, false
	}
	n := strings.Index(head, "PRIVATE KEY")
	if n < 0 {
		return 0, 0, false
	}
	n = strings.Index(s[i:min(len(s), i+100)], "KEY") + len("KEY")
	if k := strings.Index(s[i+n:min(len(s), i+n+16)], "-----"); k >= 0 {
		n += k + 5
	}
	from = i + n
	to = strings.Index(s[from:], "-----END ")
	if to < 0 {
		return from, len(s), true
	}
	return from, from + to, true
}

// findURLPassword finds the password of "scheme://user:password@host".
func findURLPassword(s string, i int) (from, to int, ok bool) {
	for k := i + 3; k < len(s) && k < i+3+maxURLUser; k++ {
		switch c := s[k]; c {
		case ':':
			if from == 0 {
				from = k + 1
			}
		case '@':
			// The last one before the host ends it, as people forget to escape it.
			to = k
		case ',', ';', ')': // may be in a password, and end a URL
			if to > 0 {
				return from, to, from > 0 && to > from
			}
		case '/', '?', '#', ' ', '\t', '\n', '"', '\'', '<', '>', '`', '\\':
			return from, to, from > 0 && to > from
		}
	}
	return from, to, from > 0 && to > from
}

// named are the ends of names whose values are secret.
var named = []string{"password", "passwd", "pwd", "passphrase", "secret", "token", "apikey", "api_key", "api-key", "access_key", "access-key", "accesskey",
	"secret_key", "secret-key", "secretkey", "private_key", "privatekey", "private-key", "accountkey", "authorization"}

// findNamed finds the value of a name that a trigger is part of: key=value,
// "key": "value", key: Basic value, "key":["value"], "key"=>"value", [key] => value.
func findNamed(s string, i int) (from, to int, ok bool) {
	end := i
	for end < len(s) && end-i < maxNamedKey && isWord(s[end]) {
		end++
	}
	start := i
	for start > 0 && i-start < maxNamedKey && isWord(s[start-1]) {
		start--
	}
	if !secretName(s[start:end]) {
		return 0, 0, false
	}
	k := end
	quoted := false // the name is
	if k < len(s) && s[k] == '\\' {
		k++
	}
	if k < len(s) && (s[k] == '"' || s[k] == '\'') {
		k++
		quoted = true
	}
	if k < len(s) && s[k] == ']' {
		k++
	}
	for k < len(s) && isBlank(s[k]) && k < end+8 {
		k++
	}
	if k >= len(s) || s[k] != '=' && s[k] != ':' {
		return 0, 0, false
	}
	k++
	if k < len(s) && (s[k] == '=' || s[k] == '/') { // a comparison, or a URL's scheme
		return 0, 0, false
	}
	if k < len(s) && s[k] == '>' && s[k-1] == '=' {
		k++
	}
	for k < len(s) && isBlank(s[k]) && k < end+16 {
		k++
	}
	if k < len(s) && s[k] == '[' { // headers are lists of values
		k++
	}
	escape := k < len(s) && s[k] == '\\'
	if escape {
		k++
	}
	if k < len(s) && (s[k] == '"' || s[k] == '\'') {
		from = k + 1
		to = quotedEnd(s, from, s[k], escape)
	} else if escape {
		return 0, 0, false
	} else {
		from, to = k, plainEnd(s, k)
		if quoted && to > from && (s[from] >= '0' && s[from] <= '9' || s[from] == '-' || s[from] == '[' || s[from] == '{') {
			return 0, 0, false // JSON that is no text
		}
	}
	value := s[from:to]
	for _, scheme := range [...]string{"Bearer ", "Basic ", "Token ", "Digest ", "Negotiate ", "NTLM ", "ApiKey "} {
		if len(value) > len(scheme) && strings.EqualFold(value[:len(scheme)], scheme) {
			return from + len(scheme), to, value[len(scheme):] != masked
		}
	}
	for _, scheme := range [...]string{"bearer", "basic", "token", "digest", "negotiate", "ntlm", "apikey"} { // without quotes: the value follows
		if strings.EqualFold(value, scheme) && to < len(s) && s[to] == ' ' {
			from = to + 1
			to = plainEnd(s, from)
			return from, to, to > from && s[from:to] != masked
		}
	}
	switch value {
	case "", masked, "null", "nil", "<nil>", "none", "None", "true", "false", "undefined":
		return 0, 0, false
	}
	// Names of Kubernetes' secrets are none.
	if end-start == len("secret") && isObjectName(value) {
		return 0, 0, false
	}
	return from, to, true
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// secretName says whether a name ends as those of secrets do.
func secretName(name string) bool {
	if name == "" {
		return false
	}
	last := lower(name[len(name)-1]) // tells most from the names of other things
	for _, n := range named {
		if n[len(n)-1] == last && len(name) >= len(n) && strings.EqualFold(name[len(name)-len(n):], n) {
			return true
		}
	}
	return false
}

func quotedEnd(s string, i int, quote byte, escaped bool) int {
	for i < len(s) {
		switch {
		case escaped && s[i] == '\\' && i+1 < len(s) && s[i+1] == quote:
			return i
		case !escaped && s[i] == '\\':
			i++
		case s[i] == quote || s[i] == '\n':
			return i
		}
		i++
	}
	return len(s)
}

func plainEnd(s string, i int) int {
	for i < len(s) && strings.IndexByte(" \t\n\r,;&\"')]}<>|", s[i]) < 0 {
		i++
	}
	return i
}

// isObjectName recognises "namespace/name".
func isObjectName(s string) bool {
	slash := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.':
		case c == '/' && i > 0 && !slash:
			slash = true
		default:
			return false
		}
	}
	return slash
}
