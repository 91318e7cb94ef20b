import type { Cluster, ClusterSource, Incident } from "@/api/types";
import { overview as m } from "@/i18n/overview";
import type { Part } from "@/ui/Bars";
import { rank, type State, stateOf } from "@/ui/state";

/** Clusters, the worst first; among equals the one with more severe incidents, then by name. */
export function worstFirst(clusters: readonly Cluster[]): Cluster[] {
  const weight = (c: Cluster) => c.incidents.critical * 1e6 + c.incidents.warning * 1e3 + c.workloads.abnormal;
  return [...clusters].sort(
    (a, b) => rank(stateOf(a.state)) - rank(stateOf(b.state)) || weight(b) - weight(a) || a.name.localeCompare(b.name),
  );
}

/** The state of everything: the worst that any cluster has. */
export const overallState = (clusters: readonly Cluster[]): State =>
  clusters.reduce<State>((worst, c) => (rank(stateOf(c.state)) < rank(worst) ? stateOf(c.state) : worst), "ok");

/** What a person would say of all clusters. */
export function overviewSentence(clusters: readonly Cluster[], active: readonly Incident[]): string {
  const [first] = worstFirst(clusters);
  if (!first) return "";
  const parts: string[] = [];
  const bad = clusters.filter((c) => c.state === "critical" || c.state === "warning");
  const silent = clusters.filter((c) => c.state === "stale");
  if (clusters.length === 1) {
    parts.push(m.says.one(first.name, first.sentence));
  } else if (bad.length > 0) {
    parts.push(m.says.attention(bad.length, clusters.length, first.name, first.sentence));
  } else if (silent.length === 0) {
    parts.push(m.says.well(clusters.length));
  }
  if (silent.length > 0 && clusters.length > 1) parts.push(m.says.silent(silent.length));
  const said = parts.join(m.says.join).replace(/\.$/, "");
  return `${said}${active.length > 0 ? `${m.says.stop}${m.says.active(active.length)}` : ""}${m.says.end}`;
}

export const phases = ["running", "pending", "failed", "unknown", "succeeded"] as const;
const tones: Record<(typeof phases)[number], Part["tone"]> = {
  running: "strong",
  pending: "warning",
  failed: "critical",
  unknown: "critical",
  succeeded: "quiet",
};

/** Pods by phase, running ones first. */
export const phaseParts = (pods: Readonly<Record<string, number>>): Part[] =>
  phases.map((name) => {
    const tone = tones[name];
    return { name: m.phases[name], n: pods[name] ?? 0, ...(tone ? { tone } : {}) };
  });

/** What the collector calls the sources that are users' own targets, each by the family that they are of. */
const scraped = "scrape/";

/** A source of a cluster that is in trouble, by a name for people, and how much of it. */
export interface Trouble {
  readonly cluster: Cluster;
  readonly name: string;
  readonly n: number;
}

const troubles = (clusters: readonly Cluster[], of: (s: ClusterSource) => { name: string; n: number }): Trouble[] =>
  clusters.flatMap((cluster) => cluster.sources.map((s) => ({ cluster, ...of(s) })).filter((t) => t.n > 0));

/** Scrape targets that do not answer as they should or cannot be read at all, by family. */
export const failingScrapes = (clusters: readonly Cluster[]): Trouble[] =>
  troubles(clusters, (s) => ({ name: s.name.slice(scraped.length), n: s.name.startsWith(scraped) && s.error ? s.expected - s.measured : 0 }));

/** Sources of readings that are silent. */
export const silentSources = (clusters: readonly Cluster[]): Trouble[] =>
  troubles(clusters, (s) => ({ name: s.name, n: s.up || s.name.startsWith(scraped) ? 0 : 1 }));

/** Names of troubles, with their clusters where there are several to choose from. */
export const troubleNames = (all: readonly Trouble[], several: boolean): string[] => all.map((t) => (several ? `${t.name} (${t.cluster.name})` : t.name));
