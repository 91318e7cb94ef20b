import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Incident } from "@/api/types";
import { clock, duration, instant } from "@/ui/format";
import { type Column, DataTable } from "@/ui/DataTable";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import { causeWords, incidentState } from "./model";

const key = (i: Incident) => i.id;

export function IncidentTable({
  incidents,
  sort,
  onSort,
  empty,
}: {
  incidents: readonly Incident[];
  sort: string | undefined;
  onSort: (sort: string) => void;
  empty: string;
}) {
  const now = useNow();
  const columns = useMemo(() => incidentColumns(now), [now]);
  return (
    <DataTable
      label="incidents"
      columns={columns}
      rows={incidents}
      rowKey={key}
      sort={parseSort(sort, { column: "severity", descending: false })}
      onSort={(s) => onSort(sortText(s))}
      dim={(i) => incidentState(i) === "idle"}
      empty={empty}
    />
  );
}

function incidentColumns(now: number): Column<Incident>[] {
  return [
    {
      id: "severity",
      header: "Severity",
      width: "112px",
      phoneWidth: "84px",
      sort: (i) => rank(incidentState(i)),
      cell: (i) => <StateLabel state={incidentState(i)}>{incidentState(i) === "idle" ? `was ${i.severity}` : i.severity}</StateLabel>,
    },
    {
      id: "title",
      header: "Incident",
      width: "minmax(240px, 4fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (i) => i.title,
      cell: (i) => (
        <Link to="/incidents/$id" params={{ id: i.id }}>
          <span title={i.title}>{i.title}</span>
        </Link>
      ),
    },
    { id: "cluster", header: "Cluster", width: "minmax(90px, 1fr)", wide: true, sort: (i) => i.cluster.name, cell: (i) => i.cluster.name || i.cluster.id },
    {
      id: "started",
      header: "Since",
      numeric: true,
      wide: true,
      width: "100px",
      sort: (i) => instant(i.started_at),
      cell: (i) => clock(instant(i.started_at) ?? 0, now),
    },
    {
      id: "duration",
      header: "Lasts",
      numeric: true,
      width: "96px",
      phoneWidth: "58px",
      sort: (i) => (instant(i.ended_at) ?? now) - (instant(i.started_at) ?? now),
      cell: (i) => duration((instant(i.ended_at) ?? now) - (instant(i.started_at) ?? now)),
    },
    {
      id: "ended",
      header: "Status",
      wide: true,
      width: "minmax(120px, 1.5fr)",
      sort: (i) => causeWords(i.cause),
      cell: (i) => (i.ended_at ? causeWords(i.cause) : i.muted.length > 0 ? `muted by ${i.muted.join(", ")}` : i.acknowledged_by ? `acknowledged by ${i.acknowledged_by}` : "firing"),
    },
  ];
}
