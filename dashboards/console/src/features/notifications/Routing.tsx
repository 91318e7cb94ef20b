import { MultiSelect, NumberInput, Switch, TagsInput } from "@mantine/core";
import { incidents } from "@/i18n/incidents";
import { notifications as m } from "@/i18n/notifications";
import { useTargets } from "@/parts/queries";
import type { Column } from "@/ui/DataTable";
import { count } from "@/ui/format";
import { StateLabel } from "@/ui/state";
import { Kept, ObjectForm, type TableProps } from "./Kept";
import { type Inhibition, inhibitionStore, type Route, routeStore, useInhibitions, useRoutes } from "./queries";

const text = (all: readonly string[] | null | undefined): string => (all ?? []).join(", ");

function routeWords(r: Route): string {
  const s = r.spec;
  if (s.default) return m.routes.default;
  const parts = [...(s.matchers ?? []), ...(s.severities ?? []).map((x) => incidents.severity[x] ?? x), ...(s.clusters ?? []), ...(s.namespaces ?? []), ...(s.policies ?? [])];
  return `${parts.length === 0 ? m.routes.everything : parts.join(", ")}${s.continue ? `, ${m.routes.goesOn}` : ""}`;
}

const routeColumns: Column<Route>[] = [
  { id: "order", header: m.routes.order, numeric: true, width: "70px", phoneWidth: "52px", sort: (r) => (r.spec.default ? 1e9 : (r.spec.order ?? 0)), cell: (r) => (r.spec.default ? "" : count(r.spec.order ?? 0)) },
  { id: "name", header: m.routes.route, width: "minmax(110px, 1fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (r) => r.metadata.name, cell: (r) => r.metadata.name },
  { id: "matches", header: m.routes.matches, wide: true, width: "minmax(160px, 3fr)", cell: (r) => <span title={routeWords(r)}>{routeWords(r)}</span> },
  { id: "tells", header: m.routes.tells, width: "minmax(110px, 1.5fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, cell: (r) => (r.spec.nobody ? m.routes.nobodyTold : (r.spec.targets ?? []).map((t) => t.name).join(", ")) },
  { id: "firing", header: m.routes.firing, numeric: true, wide: true, width: "90px", sort: (r) => r.status?.firing, cell: (r) => count(r.status?.firing) },
];

/** Who is told of what no policy names a target for, in the order in which they are asked. */
export function Routes(table: TableProps) {
  return <Kept {...table} words={m.routes} query={useRoutes()} store={routeStore} columns={routeColumns} first={{ column: "order", descending: false }} form={(existing, onDone) => <RouteForm existing={existing} onDone={onDone} />} />;
}

function RouteForm({ existing, onDone }: { existing: Route | undefined; onDone: () => void }) {
  const known = useTargets();
  return (
    <ObjectForm store={routeStore} start={existing ?? routeStore.blank("", { order: 10, targets: [] })} ready={(r) => r.spec.nobody === true || (r.spec.targets ?? []).length > 0} word={m.make} onDone={onDone}>
      {({ spec }, change) => (
        <>
          <Switch label={m.routes.isDefault} checked={spec.default === true} onChange={(e) => change(e.currentTarget.checked ? { default: true, targets: spec.targets ?? [] } : { order: spec.order ?? 10, targets: spec.targets ?? [] })} />
          {spec.default ? null : (
            <>
              <NumberInput label={m.routes.order} min={-1000} max={1000} value={spec.order ?? 0} onChange={(n) => typeof n === "number" && change({ ...spec, order: n })} />
              <TagsInput label={m.matchers} description={m.routes.matchersText} value={spec.matchers ?? []} onChange={(matchers) => change({ ...spec, matchers })} acceptValueOnBlur />
              <MultiSelect
                label={m.routes.severities}
                placeholder={(spec.severities ?? []).length === 0 ? m.routes.anySeverity : ""}
                data={(["critical", "warning", "info"] as const).map((s) => ({ value: s, label: incidents.severity[s] ?? s }))}
                value={spec.severities ?? []}
                onChange={(severities) => change({ ...spec, severities })}
              />
              <TagsInput label={m.routes.namespaces} placeholder={(spec.namespaces ?? []).length === 0 ? m.routes.anyNamespace : ""} value={spec.namespaces ?? []} onChange={(namespaces) => change({ ...spec, namespaces })} acceptValueOnBlur />
              <Switch label={m.routes.goesOnLabel} checked={spec.continue === true} onChange={(e) => change({ ...spec, continue: e.currentTarget.checked })} />
            </>
          )}
          <Switch label={m.routes.nobody} checked={spec.nobody === true} onChange={(e) => change({ ...spec, nobody: e.currentTarget.checked, targets: [] })} />
          {spec.nobody ? null : <MultiSelect label={m.routes.targets} data={(known.data ?? []).map((t) => t.metadata.name)} value={(spec.targets ?? []).map((t) => t.name)} onChange={(names) => change({ ...spec, targets: names.map((name) => (spec.targets ?? []).find((t) => t.name === name) ?? { name }) })} />}
        </>
      )}
    </ObjectForm>
  );
}

const inhibitionColumns: Column<Inhibition>[] = [
  { id: "state", header: m.state, width: "100px", phoneWidth: "84px", sort: (i) => i.status?.state, cell: (i) => <StateLabel state={i.status?.state === "active" ? "info" : "idle"}>{m.states[i.status?.state ?? ""] ?? i.status?.state}</StateLabel> },
  { id: "name", header: m.name, width: "minmax(120px, 1.2fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (i) => i.metadata.name, cell: (i) => <span title={i.metadata.name}>{i.metadata.name}</span> },
  { id: "source", header: m.inhibitions.while, wide: true, width: "minmax(140px, 2fr)", cell: (i) => <span title={text(i.spec.source)}>{text(i.spec.source)}</span> },
  { id: "target", header: m.mutes, wide: true, width: "minmax(140px, 2fr)", cell: (i) => <span title={text(i.spec.target)}>{text(i.spec.target)}</span> },
  { id: "equal", header: m.inhibitions.equal, wide: true, width: "minmax(100px, 1fr)", cell: (i) => <span title={text(i.spec.equal)}>{text(i.spec.equal)}</span> },
  { id: "firing", header: m.mutedNow, numeric: true, wide: true, width: "86px", sort: (i) => i.status?.firing, cell: (i) => count(i.status?.firing) },
];

/** What is muted while something fires that explains it. */
export function Inhibitions(table: TableProps) {
  return (
    <Kept
      {...table}
      words={m.inhibitions}
      query={useInhibitions()}
      store={inhibitionStore}
      columns={inhibitionColumns}
      first={{ column: "name", descending: false }}
      form={(existing, onDone) => (
        <ObjectForm store={inhibitionStore} start={existing ?? inhibitionStore.blank("", { source: [], target: [], equal: ["cluster"] })} ready={(i) => (i.spec.source ?? []).length > 0 && (i.spec.target ?? []).length > 0} word={m.make} onDone={onDone}>
          {({ spec }, change) => (
            <>
              <TagsInput label={m.inhibitions.while} description={m.inhibitions.sourceText} value={spec.source ?? []} onChange={(source) => change({ ...spec, source })} acceptValueOnBlur />
              <TagsInput label={m.mutes} description={m.inhibitions.targetText} value={spec.target ?? []} onChange={(target) => change({ ...spec, target })} acceptValueOnBlur />
              <TagsInput label={m.inhibitions.equal} description={m.inhibitions.equalText} value={spec.equal ?? []} onChange={(equal) => change({ ...spec, equal })} acceptValueOnBlur />
            </>
          )}
        </ObjectForm>
      )}
    />
  );
}
