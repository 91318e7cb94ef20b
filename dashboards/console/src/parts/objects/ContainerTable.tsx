import { useMemo } from "react";
import type { Container, Pod } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, bytes, cores, count, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import { ContainerLink } from "./links";
import { containerState } from "./model";

const key = (c: Container) => c.name;

/** A pod's containers: state, how the instance before ended, what they asked for. */
export function ContainerTable({ cluster, pod, sort, onSort }: { cluster: string; pod: Pod; sort: string | undefined; onSort: (s: string) => void }) {
  const now = useNow();
  const columns = useMemo(() => containerColumns(cluster, pod.namespace, pod.name, now), [cluster, pod.namespace, pod.name, now]);
  return (
    <DataTable
      label={m.tabs.containers.toLowerCase()}
      columns={columns}
      rows={pod.containers}
      rowKey={key}
      sort={parseSort(sort, { column: "state", descending: false })}
      onSort={(s) => onSort(sortText(s))}
      dim={(c) => containerState(c) === "idle"}
      empty={m.empty.containers}
    />
  );
}

/** How the instance before this one ended: "OOMKilled (137), 12 min ago". */
const lastWords = (c: Container, now: number): string => (c.last ? m.lastEnd.column(c.last.reason || m.ended, c.last.exit_code, age(c.last.finished_at, now)) : "");

export const containerKind = (c: Container): string => (c.sidecar === true ? m.sidecar : c.init === true ? m.init : "");

const amount = (r: Container["requests"]) => ({ cpu: r.has_cpu ? cores(r.cpu_cores) : m.none, memory: r.has_memory ? bytes(r.memory_bytes) : m.none });

function containerColumns(cluster: string, namespace: string, pod: string, now: number): Column<Container>[] {
  return [
    {
      id: "state",
      header: m.columns.state,
      width: "minmax(140px, 190px)",
      phoneWidth: "156px",
      sort: (c) => rank(containerState(c)),
      cell: (c) => <StateLabel state={containerState(c)}>{c.reason || (c.state === "running" && !c.ready && c.init !== true ? m.notReady : c.state)}</StateLabel>,
    },
    {
      id: "name",
      header: m.columns.container,
      width: "minmax(120px, 1.4fr)",
      phoneWidth: "minmax(0, 1fr)",
      sort: (c) => c.name,
      cell: (c) => (
        <>
          <ContainerLink cluster={cluster} namespace={namespace} pod={pod} container={c.name} /> {containerKind(c)}
        </>
      ),
    },
    { id: "since", header: m.columns.since, numeric: true, wide: true, width: "84px", sort: (c) => instant(c.started_at), cell: (c) => age(c.started_at, now) },
    { id: "restarts", header: m.columns.restarts, numeric: true, width: "76px", phoneWidth: "66px", sort: (c) => c.restart_count, cell: (c) => count(c.restart_count) },
    {
      id: "last",
      header: m.columns.lastEnded,
      wide: true,
      width: "minmax(150px, 1.6fr)",
      sort: (c) => instant(c.last?.finished_at),
      cell: (c) => <span title={lastWords(c, now)}>{lastWords(c, now)}</span>,
    },
    {
      id: "cpu",
      header: m.columns.cpu,
      unit: m.units.requestLimit,
      numeric: true,
      wide: true,
      width: "150px",
      cell: (c) => `${amount(c.requests).cpu} / ${amount(c.limits).cpu}`,
    },
    {
      id: "memory",
      header: m.columns.memory,
      unit: m.units.requestLimit,
      numeric: true,
      wide: true,
      width: "180px",
      cell: (c) => `${amount(c.requests).memory} / ${amount(c.limits).memory}`,
    },
    { id: "image", header: m.columns.image, wide: true, width: "minmax(120px, 1.8fr)", sort: (c) => c.image, cell: (c) => <span title={c.image}>{c.image}</span> },
  ];
}
