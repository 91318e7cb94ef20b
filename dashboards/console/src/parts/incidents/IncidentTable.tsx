import { Checkbox } from "@mantine/core";
import { IconBellOff } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Incident } from "@/api/types";
import { incidents as m } from "@/i18n/incidents";
import { server } from "@/i18n/server";
import { clock, duration, instant } from "@/ui/format";
import { type Column, DataTable } from "@/ui/DataTable";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import classes from "./incidentTable.module.css";
import { causeWords, incidentState, mutedWords } from "./model";

const key = (i: Incident) => i.id;

export function IncidentTable({
  incidents,
  sort,
  onSort,
  empty,
  selection,
}: {
  incidents: readonly Incident[];
  sort: string | undefined;
  onSort: (sort: string) => void;
  empty: string;
  /** Ids of what is selected, where rows can be. */
  selection?: { readonly ids: ReadonlySet<string>; readonly toggle: (id: string) => void } | undefined;
}) {
  const now = useNow();
  const columns = useMemo(() => [...(selection ? [selectColumn(selection.ids, selection.toggle)] : []), ...incidentColumns(now)], [now, selection]);
  return (
    <DataTable
      label={m.table.label}
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

const selectColumn = (ids: ReadonlySet<string>, toggle: (id: string) => void): Column<Incident> => ({
  id: "select",
  header: "",
  width: "36px",
  phoneWidth: "32px",
  cell: (i) => <Checkbox size="xs" aria-label={m.table.select(server.alert(i.title))} checked={ids.has(i.id)} disabled={i.ended_at !== null} onChange={() => toggle(i.id)} />,
});

/** How it ended, or how far people are with it. */
function status(i: Incident, now: number): string {
  if (i.ended_at) return causeWords(i.cause);
  if (i.muted_by.length > 0) return mutedWords(i.muted_by, now);
  return i.acknowledged_by ? m.table.acknowledged(i.acknowledged_by) : m.table.firing;
}

function incidentColumns(now: number): Column<Incident>[] {
  return [
    {
      id: "severity",
      header: m.table.severity,
      width: "112px",
      phoneWidth: "84px",
      sort: (i) => rank(incidentState(i)),
      cell: (i) => <StateLabel state={incidentState(i)}>{incidentState(i) === "idle" ? m.wasSeverity(m.severity[i.severity] ?? i.severity) : m.severity[i.severity]}</StateLabel>,
    },
    {
      id: "title",
      header: m.table.incident,
      width: "minmax(240px, 4fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (i) => i.title,
      cell: (i) => (
        <span className={classes.title}>
          {i.muted_by.length > 0 ? (
            <span className={classes.badge} role="img" aria-label={mutedWords(i.muted_by, now)} title={mutedWords(i.muted_by, now)}>
              <IconBellOff size={14} aria-hidden />
            </span>
          ) : null}
          <Link to="/incidents/$id" params={{ id: i.id }}>
            <span title={server.alert(i.title)}>{server.alert(i.title)}</span>
          </Link>
        </span>
      ),
    },
    { id: "cluster", header: m.table.cluster, width: "minmax(90px, 1fr)", wide: true, sort: (i) => i.cluster.name, cell: (i) => i.cluster.name || i.cluster.id },
    {
      id: "started",
      header: m.table.since,
      numeric: true,
      wide: true,
      width: "100px",
      sort: (i) => instant(i.started_at),
      cell: (i) => clock(instant(i.started_at) ?? 0, now),
    },
    {
      id: "duration",
      header: m.table.lasts,
      numeric: true,
      width: "96px",
      phoneWidth: "58px",
      sort: (i) => (instant(i.ended_at) ?? now) - (instant(i.started_at) ?? now),
      cell: (i) => duration((instant(i.ended_at) ?? now) - (instant(i.started_at) ?? now)),
    },
    {
      id: "ended",
      header: m.table.status,
      wide: true,
      width: "minmax(160px, 2fr)",
      sort: (i) => status(i, now),
      cell: (i) => <span title={status(i, now)}>{status(i, now)}</span>,
    },
  ];
}
