/** What the palette can open. */
export interface Entry {
  readonly key: string;
  readonly kind: "page" | "action" | "cluster" | "namespace" | "node" | "workload" | "service" | "pod" | "policy";
  readonly name: string;
  /** Where it is: "prod-1 ▸ shop". */
  readonly place: string;
  readonly to: string;
  /** Of an action: what it does. */
  readonly run?: () => void;
}

const kindOrder: Record<Entry["kind"], number> = { page: 0, action: 1, cluster: 2, namespace: 3, node: 4, workload: 5, service: 6, pod: 7, policy: 8 };

/**
 * How well an entry answers what was typed; undefined when it does not. Each word must be in the
 * entry's kind, name or place. A name that begins with the word beats one that has it at the start of a
 * part, which beats one that has it anywhere; short names beat long ones.
 */
export function score(entry: Entry, words: readonly string[]): number | undefined {
  const name = entry.name.toLowerCase();
  const rest = `${entry.kind} ${entry.place}`.toLowerCase();
  let total = 0;
  for (const w of words) {
    if (name === w) total += 100;
    else if (name.startsWith(w)) total += 60;
    else if (name.includes(`-${w}`) || name.includes(`/${w}`) || name.includes(` ${w}`) || name.includes(`.${w}`)) total += 40;
    else if (name.includes(w)) total += 20;
    else if (rest.includes(w)) total += 8;
    else return undefined;
  }
  return total - name.length / 100 - kindOrder[entry.kind];
}

/** The best entries, at most `limit`. With nothing typed: pages and clusters. */
export function find(entries: readonly Entry[], typed: string, limit: number): Entry[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return entries.filter((e) => kindOrder[e.kind] <= 2).slice(0, limit);
  return entries
    .flatMap((entry) => {
      const s = score(entry, words);
      return s === undefined ? [] : [{ entry, s }];
    })
    .sort((a, b) => b.s - a.s || a.entry.name.localeCompare(b.entry.name))
    .slice(0, limit)
    .map(({ entry }) => entry);
}
