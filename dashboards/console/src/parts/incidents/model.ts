import type { Incident } from "@/api/types";
import { incidents as m } from "@/i18n/incidents";
import { server } from "@/i18n/server";
import { clock, instant } from "@/ui/format";
import { rank, type State, stateOf } from "@/ui/state";

export const incidentState = (i: Incident): State => (i.ended_at === null ? stateOf(i.severity) : "idle");

/** What a search of incidents looks at. */
export const incidentText = (i: Incident): string => [i.title, server.alert(i.title), i.severity, i.cluster.id, i.cluster.name, ...Object.values(i.labels), i.acknowledged_by ?? "", causeWords(i.cause)].join(" ");

/** Active ones first, then the most severe, then the newest. */
export function worstFirst(incidents: readonly Incident[]): Incident[] {
  return [...incidents].sort(
    (a, b) => rank(incidentState(a)) - rank(incidentState(b)) || b.started_at.localeCompare(a.started_at),
  );
}

/** Why an alert or incident ended, in words. */
export const causeWords = (cause: string | null | undefined): string =>
  cause === null || cause === undefined || cause === "" ? "" : (m.causes[cause] ?? cause.replaceAll("_", " "));

/**
 * Incidents of a workload. A list says an incident's labels and title only; those grouped by workload
 * (the default) carry its name as a label.
 */
export const ofWorkload = (incidents: readonly Incident[], namespace: string, type: string, name: string): Incident[] =>
  incidents.filter((i) => {
    const l = i.labels;
    return l.namespace === namespace && l.workload === name && (l.workload_type === undefined || l.workload_type === type);
  });

/** What mutes an incident, and until when: all of it has to be over before somebody is told again. */
export function mutedWords(by: Incident["muted_by"], now: number): string {
  const names = by.map((x) => m.table.mutedBy(m.table.mutes[x.kind] ?? x.kind, x.name)).join(", ");
  const ends = by.map((x) => instant(x.until));
  return ends.includes(undefined) ? m.table.muted(names) : m.table.mutedUntil(clock(Math.max(...ends.map((e) => e ?? 0)), now), names);
}
