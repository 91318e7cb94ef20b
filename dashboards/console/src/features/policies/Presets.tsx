import { Button, Switch } from "@mantine/core";
import { IconHistory } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { components } from "@/api/schema";
import { policies as m } from "@/i18n/policies";
import { server } from "@/i18n/server";
import { useLookBack, usePresets } from "@/parts/policies/queries";
import { type Column, DataTable } from "@/ui/DataTable";
import { count, percent } from "@/ui/format";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { rank, type State, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import { ended } from "./backtest";
import classes from "./policies.module.css";
import { useSwitchPolicy } from "./queries";

type Preset = components["schemas"]["Preset"];
type Replay = components["schemas"]["Replay"];

const presetState = (p: Preset): State => (p.firing > 0 ? "warning" : p.state === "on" ? "ok" : p.state === "idle" ? "stale" : "idle");

/** The policies that come with the server, and what each would have said in the last week. */
export function Presets({ sort, onSort }: { sort: string | undefined; onSort: (sort: string) => void }) {
  const presets = usePresets();
  const look = useLookBack();
  const onOff = useSwitchPolicy();
  const { mutate, isPending, variables } = onOff;
  const busy = isPending ? variables.name : undefined;
  const job = look.job;
  const running = look.starting || (job !== undefined && !ended(job));
  const results = job?.results;
  const columns = useMemo(() => presetColumns(new Map((results ?? []).map((r) => [r.name, r])), busy, (name, enabled) => mutate({ name, enabled })), [results, busy, mutate]);
  const on = (presets.data ?? []).filter((p) => p.state === "on" || p.state === "idle").length;
  const error = onOff.error ?? look.error;
  return (
    <div className={classes.form}>
      <div className={classes.row}>
        <Button size="xs" variant="default" leftSection={<IconHistory size={14} />} loading={running} onClick={() => look.start({})}>
          {m.presets.lookBack}
        </Button>
        <span className={classes.quiet} aria-live="polite">
          {running && job ? m.presets.lookingBack(percent(job.progress * 100)) : presets.data ? `${m.presets.sentence(on, presets.data.length)} ${m.presets.about}` : ""}
        </span>
        {error ? <StateLabel state="critical">{error.message}</StateLabel> : null}
        {job?.state === "failed" ? <StateLabel state="critical">{job.error}</StateLabel> : null}
      </div>
      <Loaded query={presets} what={m.presets.what} skeleton={<TableSkeleton rows={12} />}>
        {(all) => (
          <DataTable
            label={m.presets.label}
            columns={columns}
            rows={all}
            rowKey={(p) => p.name}
            sort={parseSort(sort, { column: "state", descending: false })}
            onSort={(s) => onSort(sortText(s))}
            dim={(p) => p.state === "off" || p.state === "deleted"}
          />
        )}
      </Loaded>
    </div>
  );
}

function presetColumns(results: ReadonlyMap<string, Replay>, busy: string | undefined, set: (name: string, enabled: boolean) => void): Column<Preset>[] {
  const reasons = (p: Preset) => [...p.reasons.map(server.alert), ...(p.managedBy && p.managedBy !== "preset" ? [m.presets.yours(p.managedBy)] : []), ...(p.explains.length > 0 ? [m.presets.explains(p.explains.join(", "))] : [])].join("; ");
  return [
    {
      id: "state",
      header: m.presets.state,
      width: "112px",
      phoneWidth: "88px",
      sort: (p) => rank(presetState(p)) * 1e6 - p.firing,
      cell: (p) => <StateLabel state={presetState(p)}>{p.firing > 0 ? m.presets.firing(p.firing) : (m.presets.states[p.state] ?? p.state)}</StateLabel>,
    },
    {
      id: "title",
      header: m.presets.preset,
      width: "minmax(170px, 1.6fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (p) => server.alert(p.title),
      cell: (p) =>
        p.state === "deleted" ? (
          server.alert(p.title)
        ) : (
          <Link to="/policies/$name" params={{ name: p.name }} title={p.name}>
            {server.alert(p.title)}
          </Link>
        ),
    },
    { id: "symptom", header: m.presets.symptom, wide: true, width: "minmax(200px, 3fr)", cell: (p) => <span title={server.alert(p.symptom)}>{server.alert(p.symptom)}</span> },
    { id: "objects", header: m.presets.objects, numeric: true, wide: true, width: "80px", sort: (p) => p.selected, cell: (p) => count(p.selected) },
    {
      id: "week",
      header: m.presets.week,
      unit: m.presets.weekUnit,
      help: m.presets.weekHelp,
      numeric: true,
      wide: true,
      width: "minmax(120px, 170px)",
      sort: (p) => results.get(p.name)?.incidentCount,
      cell: (p) => {
        const r = results.get(p.name);
        return r === undefined ? "" : r.reason ? <span title={server.alert(r.reason)}>–</span> : m.presets.weekValue(r.incidentCount, r.messageCount);
      },
    },
    { id: "why", header: m.presets.why, wide: true, width: "minmax(120px, 2fr)", cell: (p) => <span title={reasons(p)}>{reasons(p)}</span> },
    {
      id: "on",
      header: m.presets.on,
      width: "52px",
      phoneWidth: "46px",
      cell: (p) => (
        <span className={classes.switch}>
          <Switch size="xs" aria-label={m.presets.enabled(p.name)} checked={p.state === "on" || p.state === "idle"} disabled={p.state === "deleted" || busy === p.name} onChange={(e) => set(p.name, e.currentTarget.checked)} />
        </span>
      ),
    },
  ];
}
