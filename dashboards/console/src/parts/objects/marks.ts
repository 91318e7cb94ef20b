import { useMemo } from "react";
import type { Incident, Policy, Watching } from "@/api/types";
import type { Row } from "@/api/logsql";
import type { Mark, Threshold } from "@/parts/charts/Plot";
import { logsQuery, message, rowTime } from "@/parts/logs/model";
import { useLogs } from "@/parts/logs/queries";
import { useIncidents, usePolicies, useWatching } from "@/parts/queries";
import { instant } from "@/ui/format";
import { changeFilter } from "./changes";
import { eventScope, incidentsOf, levelOfPlace, type Place } from "./place";
import { server } from "@/i18n/server";

const maxMarks = 60;

/** Incidents as bands over their time; one that is open reaches to the end of all time. */
export const incidentMarks = (incidents: readonly Incident[]): Mark[] =>
  incidents.flatMap((i): Mark[] => {
    const from = instant(i.started_at);
    return from === undefined ? [] : [{ kind: "incident", from, to: instant(i.ended_at) ?? Infinity, state: i.severity, label: server.alert(i.title) }];
  });

/** Changes and warnings as moments. */
export const eventMarks = (rows: readonly Row[]): Mark[] =>
  rows.flatMap((r): Mark[] => {
    const at = rowTime(r);
    return Number.isNaN(at) ? [] : [{ kind: r.type === "Warning" ? "event" : "change", from: at, to: at, state: r.type === "Warning" ? "warning" : "info", label: message(r) || (r.reason ?? "") }];
  });

/** What happened to an object in the page's range: its incidents, rollouts and scalings, and warnings of Kubernetes. */
export function useMarks(place: Place): readonly Mark[] {
  const incidents = useIncidents("all", place.cluster);
  const { scope, fixed } = eventScope(place);
  const of = levelOfPlace(place);
  // All warnings of a cluster or a namespace would be a carpet: there only changes are shown.
  const what = of === "cluster" || of === "namespace" ? changeFilter : `${changeFilter} or type:="Warning"`;
  const events = useLogs(place.cluster, logsQuery(scope, what, "events", fixed), maxMarks);
  return useMemo(
    () => [...(of === "cluster" ? [] : incidentMarks(incidentsOf(incidents.data ?? [], place))), ...eventMarks(events.data ?? [])],
    [incidents.data, events.data, place, of],
  );
}

/** The thresholds that policies hold a metric of this object against. */
export function thresholdsOf(metrics: readonly string[], watching: readonly Watching[], policies: readonly Policy[]): Threshold[] {
  const here = new Set(watching.map((w) => w.name));
  const found = new Map<string, Threshold>();
  for (const p of policies) {
    if (!here.has(p.metadata.name)) continue;
    for (const c of p.spec.conditions ?? []) {
      // A change or a forecast is compared with something else than what the chart shows.
      if (c.metric === undefined || !metrics.includes(c.metric) || c.change || c.forecast || c.statistic === "increase") continue;
      for (const state of ["critical", "warning", "info"] as const) {
        const value = c.thresholds[state];
        if (typeof value === "number") found.set(`${state} ${value}`, { value, state, label: p.metadata.name });
      }
    }
  }
  return [...found.values()].slice(0, 12);
}

export function useThresholds(place: Place): (metrics: readonly string[]) => readonly Threshold[] {
  const watching = useWatching(place.cluster, place);
  const policies = usePolicies();
  return (metrics) => thresholdsOf(metrics, watching.data ?? [], policies.data ?? []);
}
