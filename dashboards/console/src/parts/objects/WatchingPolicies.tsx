import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Policy, Watching } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { server } from "@/i18n/server";
import { usePolicies, useWatching } from "@/parts/queries";
import { Section } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { count } from "@/ui/format";
import { rank, type State, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import { levelOfPlace, type Place, placeLabels } from "./place";

interface Row extends Watching {
  readonly policy: Policy | undefined;
  readonly state: State;
}

const policyState = (p: Policy | undefined): State => {
  if (!p?.status) return "waiting";
  return p.status.state !== "active" ? "idle" : p.status.firing > 0 ? "warning" : "ok";
};

/** The enabled policies that look at an object or into it: what would say so if it went wrong. */
export function WatchingPolicies({ place, sort, onSort }: { place: Place; sort: string | undefined; onSort: (sort: string) => void }) {
  const watching = useWatching(place.cluster, place);
  const policies = usePolicies();
  const level = levelOfPlace(place);
  const rows = useMemo((): Row[] => {
    const byName = new Map((policies.data ?? []).map((p) => [p.metadata.name, p]));
    return (watching.data ?? []).map((w) => ({ ...w, policy: byName.get(w.name), state: policyState(byName.get(w.name)) }));
  }, [watching.data, policies.data]);
  const columns = useMemo(
    (): Column<Row>[] => [
      { id: "state", header: m.columns.state, width: "130px", phoneWidth: "92px", sort: (r) => rank(r.state), cell: (r) => <StateLabel state={r.state}>{m.policies.states[r.state]}</StateLabel> },
      {
        id: "name",
        header: m.columns.policy,
        width: "minmax(160px, 1fr)",
        phoneWidth: "minmax(0, 1fr)",
        sort: (r) => r.name,
        cell: (r) => (
          <Link to="/policies/$name" params={{ name: r.name }}>
            {r.name}
          </Link>
        ),
      },
      { id: "looks", header: m.columns.looksAt, width: "170px", phoneWidth: "104px", sort: (r) => r.objects, cell: (r) => (r.level === level ? m.policies.looksAt(r.objects, r.level) : m.policies.inside(r.objects, r.level)) },
      { id: "summary", header: m.columns.summary, width: "minmax(200px, 2fr)", wide: true, cell: (r) => <span title={server.alert(r.policy?.spec.annotations?.summary ?? "")}>{server.alert(r.policy?.spec.annotations?.summary ?? "")}</span> },
    ],
    [level],
  );
  return (
    <Section
      title={m.policies.title}
      note={watching.data ? count(watching.data.length) : undefined}
      right={
        <Button size="xs" variant="default" renderRoot={(props) => <Link to="/new/policy" search={{ ...placeLabels(place), level }} {...props} />}>
          {m.policies.make}
        </Button>
      }
    >
      <Loaded query={watching} what={m.policies.failed} skeleton={<TableSkeleton rows={4} />}>
        {() => (
          <DataTable
            label={m.policies.title}
            columns={columns}
            rows={rows}
            rowKey={(r) => `${r.project}/${r.name}`}
            sort={parseSort(sort, { column: "state", descending: false })}
            onSort={(s) => onSort(sortText(s))}
            empty={m.empty.policies}
          />
        )}
      </Loaded>
    </Section>
  );
}
