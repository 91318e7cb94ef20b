import type { Row } from "@/api/logsql";
import type { Incident } from "@/api/types";
import { overview as m } from "@/i18n/overview";
import { message, rowTime } from "@/parts/logs/model";
import { instant } from "@/ui/format";

/** Something that was changed, or began to be wrong. */
export interface Change {
  readonly key: string;
  /** Seconds since the epoch. */
  readonly at: number;
  readonly cluster: string;
  readonly kind: string;
  readonly row?: Row;
  readonly incident?: Incident;
  /** The incident ended then. */
  readonly ended?: boolean;
}

const windowSeconds = 3600;
const reasons: Readonly<Record<string, string>> = m.changed.reasons;

/** Changes and incidents' beginnings and ends of the last hour, newest first. What several events say of one moment is told once. */
export function changes(events: readonly Row[], incidents: readonly Incident[], nowSeconds: number): Change[] {
  const since = nowSeconds - windowSeconds;
  const said = new Set<string>();
  const all: Change[] = [];
  for (const r of events) {
    const at = rowTime(r);
    const what = `${r.cluster ?? ""} ${r.namespace ?? ""} ${r.kind ?? ""} ${r.name ?? ""} ${r.reason ?? ""} ${Math.floor(at / 60)}`;
    if (Number.isNaN(at) || at < since || said.has(what)) continue;
    said.add(what);
    all.push({ key: what, at, cluster: r.cluster ?? "", kind: reasons[r.reason ?? ""] ?? r.reason ?? "", row: r });
  }
  for (const i of incidents) {
    const began = instant(i.started_at);
    const ended = instant(i.ended_at);
    if (began !== undefined && began >= since) all.push({ key: `${i.id} began`, at: began, cluster: i.cluster.name, kind: m.changed.incident, incident: i });
    if (ended !== undefined && ended >= since) all.push({ key: `${i.id} ended`, at: ended, cluster: i.cluster.name, kind: m.changed.resolved, incident: i, ended: true });
  }
  return all.sort((a, b) => b.at - a.at);
}

/** What an event says, with its object's name where the text does not have it: "cart: New size: 10". */
export function changeWords(row: Row): string {
  const said = message(row);
  const name = row.workload || row.name || "";
  if (said === "") return `${row.kind ?? ""} ${name}`;
  return name === "" || said.includes(name) ? said : `${name}: ${said}`;
}
