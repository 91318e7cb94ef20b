import { useMemo } from "react";
import type { Container } from "@/api/types";
import { containerState } from "@/parts/objects/model";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, bytes, cores, count, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import { containerKind, lastWords } from "./model";

const key = (c: Container) => c.name;

/** A pod's containers: state, how the instance before ended, what they asked for. */
export function Containers({ containers, sort, onSort }: { containers: readonly Container[]; sort: string | undefined; onSort: (s: string) => void }) {
  const now = useNow();
  const columns = useMemo(() => containerColumns(now), [now]);
  return (
    <DataTable
      label="containers"
      columns={columns}
      rows={containers}
      rowKey={key}
      sort={parseSort(sort, { column: "state", descending: false })}
      onSort={(s) => onSort(sortText(s))}
      dim={(c) => containerState(c) === "idle"}
      empty="This pod has no container yet."
    />
  );
}

function containerColumns(now: number): Column<Container>[] {
  return [
    {
      id: "state",
      header: "State",
      width: "minmax(140px, 190px)",
      phoneWidth: "156px",
      sort: (c) => rank(containerState(c)),
      cell: (c) => <StateLabel state={containerState(c)}>{c.reason || (c.state === "running" && !c.ready && c.init !== true ? "not ready" : c.state)}</StateLabel>,
    },
    {
      id: "name",
      header: "Container",
      width: "minmax(120px, 1.4fr)",
      phoneWidth: "minmax(0, 1fr)",
      sort: (c) => c.name,
      cell: (c) => (
        <>
          {c.name} {containerKind(c)}
        </>
      ),
    },
    { id: "since", header: "Since", numeric: true, wide: true, width: "84px", sort: (c) => instant(c.started_at), cell: (c) => age(c.started_at, now) },
    { id: "restarts", header: "Restarts", numeric: true, width: "76px", phoneWidth: "66px", sort: (c) => c.restart_count, cell: (c) => count(c.restart_count) },
    {
      id: "last",
      header: "Last ended",
      wide: true,
      width: "minmax(150px, 1.6fr)",
      sort: (c) => instant(c.last?.finished_at),
      cell: (c) => <span title={lastWords(c, now)}>{lastWords(c, now)}</span>,
    },
    {
      id: "cpu",
      header: "CPU",
      unit: "request / limit",
      numeric: true,
      wide: true,
      width: "150px",
      cell: (c) => `${c.requests.has_cpu ? cores(c.requests.cpu_cores) : "none"} / ${c.limits.has_cpu ? cores(c.limits.cpu_cores) : "none"}`,
    },
    {
      id: "memory",
      header: "Memory",
      unit: "request / limit",
      numeric: true,
      wide: true,
      width: "180px",
      cell: (c) => `${c.requests.has_memory ? bytes(c.requests.memory_bytes) : "none"} / ${c.limits.has_memory ? bytes(c.limits.memory_bytes) : "none"}`,
    },
    { id: "image", header: "Image", wide: true, width: "minmax(120px, 1.8fr)", sort: (c) => c.image, cell: (c) => <span title={c.image}>{c.image}</span> },
  ];
}
