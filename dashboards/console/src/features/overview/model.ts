import type { Cluster, Incident } from "@/api/types";
import type { Part } from "@/ui/Bars";
import { plural } from "@/ui/format";
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
    parts.push(`${first.name}: ${first.sentence}`);
  } else if (bad.length > 0) {
    parts.push(
      `${bad.length} of ${clusters.length} clusters ${bad.length === 1 ? "needs" : "need"} attention; worst is ${first.name}: ${first.sentence}`,
    );
  } else if (silent.length === 0) {
    parts.push(`All ${clusters.length} clusters are well`);
  }
  if (silent.length > 0 && clusters.length > 1) parts.push(`${plural(silent.length, "cluster")} ${silent.length === 1 ? "is" : "are"} silent`);
  const said = parts.join("; ").replace(/\.$/, "");
  return `${said}${active.length > 0 ? `. ${plural(active.length, "incident")} active` : ""}.`;
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
    return { name, n: pods[name] ?? 0, ...(tone ? { tone } : {}) };
  });
