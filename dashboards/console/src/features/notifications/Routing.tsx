import { Button, Modal, MultiSelect, NumberInput, Switch, TagsInput, TextInput } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { type SyntheticEvent, useState } from "react";
import type { components } from "@/api/schema";
import { incidents } from "@/i18n/incidents";
import { notifications as m } from "@/i18n/notifications";
import { useTargets } from "@/parts/queries";
import { type Column, DataTable } from "@/ui/DataTable";
import { count } from "@/ui/format";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import classes from "./notifications.module.css";
import { useCreateInhibition, useCreateRoute, useDeleteInhibition, useDeleteRoute, useInhibitions, useRoutes } from "./queries";

type Route = components["schemas"]["Route"];
type Inhibition = components["schemas"]["Inhibition"];

interface TableProps {
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
}

const nameRule = /^[a-z0-9-]{1,63}$/;

function routeWords(r: Route): string {
  const s = r.spec;
  if (s.default) return m.routes.default;
  const parts = [...(s.matchers ?? []), ...(s.severities ?? []).map((x) => incidents.severity[x] ?? x), ...(s.clusters ?? []), ...(s.namespaces ?? []), ...(s.policies ?? [])];
  return `${parts.length === 0 ? m.routes.everything : parts.join(", ")}${s.continue ? `, ${m.routes.goesOn}` : ""}`;
}

/** Who is told of what no policy names a target for, in the order in which they are asked. */
export function Routes({ sort, onSort }: TableProps) {
  const routes = useRoutes();
  const remove = useDeleteRoute();
  const [making, setMaking] = useState(false);
  const columns: Column<Route>[] = [
    { id: "order", header: m.routes.order, numeric: true, width: "70px", phoneWidth: "52px", sort: (r) => (r.spec.default ? 1e9 : (r.spec.order ?? 0)), cell: (r) => (r.spec.default ? "" : count(r.spec.order ?? 0)) },
    { id: "name", header: m.routes.route, width: "minmax(110px, 1fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (r) => r.metadata.name, cell: (r) => r.metadata.name },
    { id: "matches", header: m.routes.matches, wide: true, width: "minmax(160px, 3fr)", cell: (r) => <span title={routeWords(r)}>{routeWords(r)}</span> },
    { id: "tells", header: m.routes.tells, width: "minmax(110px, 1.5fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, cell: (r) => (r.spec.targets ?? []).map((t) => t.name).join(", ") },
    { id: "firing", header: m.routes.firing, numeric: true, wide: true, width: "90px", sort: (r) => r.status?.firing, cell: (r) => count(r.status?.firing) },
    {
      id: "delete",
      header: "",
      width: "76px",
      phoneWidth: "66px",
      cell: (r) => (
        <Button size="compact-xs" variant="default" aria-label={m.deleteLabel(r.metadata.name)} onClick={() => globalThis.confirm(m.routes.confirm(r.metadata.name)) && remove.mutate(r.metadata.name)}>
          {m.delete}
        </Button>
      ),
    },
  ];
  return (
    <div className={classes.stack}>
      <div className={classes.row}>
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          {m.routes.new}
        </Button>
        <span className={classes.quiet}>{m.routes.about}</span>
        {remove.error ? <StateLabel state="critical">{remove.error.message}</StateLabel> : null}
      </div>
      <Loaded query={routes} what={m.routes.what} skeleton={<TableSkeleton rows={3} />}>
        {(all) => <DataTable label={m.routes.label} columns={columns} rows={all} rowKey={(r) => r.metadata.name} sort={parseSort(sort, { column: "order", descending: false })} onSort={(s) => onSort(sortText(s))} empty={m.routes.none} />}
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title={m.routes.new} centered>
        <NewRoute onDone={() => setMaking(false)} />
      </Modal>
    </div>
  );
}

function NewRoute({ onDone }: { onDone: () => void }) {
  const create = useCreateRoute();
  const known = useTargets();
  const [name, setName] = useState("");
  const [isDefault, setDefault] = useState(false);
  const [order, setOrder] = useState(10);
  const [matchers, setMatchers] = useState<string[]>([]);
  const [severities, setSeverities] = useState<string[]>([]);
  const [namespaces, setNamespaces] = useState<string[]>([]);
  const [targets, setTargets] = useState<string[]>([]);
  const told = targets.map((t) => ({ name: t }));
  const spec: Route["spec"] = isDefault
    ? { default: true, targets: told }
    : { order, targets: told, ...(matchers.length > 0 ? { matchers } : {}), ...(severities.length > 0 ? { severities } : {}), ...(namespaces.length > 0 ? { namespaces } : {}) };
  return (
    <form
      className={classes.stack}
      onSubmit={(e: SyntheticEvent) => {
        e.preventDefault();
        create.mutate({ name, spec }, { onSuccess: onDone });
      }}
    >
      <TextInput label={m.name} data-autofocus value={name} onChange={(e) => setName(e.currentTarget.value)} error={name === "" || nameRule.test(name) ? undefined : m.nameRule} />
      <Switch label={m.routes.isDefault} checked={isDefault} onChange={(e) => setDefault(e.currentTarget.checked)} />
      {isDefault ? null : (
        <>
          <NumberInput label={m.routes.order} min={-1000} max={1000} value={order} onChange={(n) => typeof n === "number" && setOrder(n)} />
          <TagsInput label={m.matchers} description={m.routes.matchersText} value={matchers} onChange={setMatchers} acceptValueOnBlur />
          <MultiSelect label={m.routes.severities} placeholder={severities.length === 0 ? m.routes.anySeverity : ""} data={["critical", "warning", "info"].map((s) => ({ value: s, label: incidents.severity[s] ?? s }))} value={severities} onChange={setSeverities} />
          <TagsInput label={m.routes.namespaces} placeholder={namespaces.length === 0 ? m.routes.anyNamespace : ""} value={namespaces} onChange={setNamespaces} acceptValueOnBlur />
        </>
      )}
      <MultiSelect label={m.routes.targets} data={(known.data ?? []).map((t) => t.metadata.name)} value={targets} onChange={setTargets} />
      {create.error ? <StateLabel state="critical">{create.error.message}</StateLabel> : null}
      <div>
        <Button size="xs" type="submit" disabled={!nameRule.test(name) || targets.length === 0} loading={create.isPending}>
          {m.make}
        </Button>
      </div>
    </form>
  );
}

/** What is muted while something fires that explains it. */
export function Inhibitions({ sort, onSort }: TableProps) {
  const inhibitions = useInhibitions();
  const remove = useDeleteInhibition();
  const [making, setMaking] = useState(false);
  const text = (all: readonly string[] | null | undefined) => (all ?? []).join(", ");
  const columns: Column<Inhibition>[] = [
    { id: "state", header: m.state, width: "100px", phoneWidth: "84px", sort: (i) => i.status?.state, cell: (i) => <StateLabel state={i.status?.state === "active" ? "info" : "idle"}>{m.states[i.status?.state ?? ""] ?? i.status?.state}</StateLabel> },
    { id: "name", header: m.name, width: "minmax(120px, 1.2fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (i) => i.metadata.name, cell: (i) => <span title={i.metadata.name}>{i.metadata.name}</span> },
    { id: "source", header: m.inhibitions.while, wide: true, width: "minmax(140px, 2fr)", cell: (i) => <span title={text(i.spec.source)}>{text(i.spec.source)}</span> },
    { id: "target", header: m.mutes, wide: true, width: "minmax(140px, 2fr)", cell: (i) => <span title={text(i.spec.target)}>{text(i.spec.target)}</span> },
    { id: "equal", header: m.inhibitions.equal, wide: true, width: "minmax(100px, 1fr)", cell: (i) => <span title={text(i.spec.equal)}>{text(i.spec.equal)}</span> },
    { id: "firing", header: m.mutedNow, numeric: true, wide: true, width: "86px", sort: (i) => i.status?.firing, cell: (i) => count(i.status?.firing) },
    {
      id: "delete",
      header: "",
      width: "76px",
      phoneWidth: "66px",
      cell: (i) => (
        <Button size="compact-xs" variant="default" aria-label={m.deleteLabel(i.metadata.name)} onClick={() => globalThis.confirm(m.inhibitions.confirm(i.metadata.name)) && remove.mutate(i.metadata.name)}>
          {m.delete}
        </Button>
      ),
    },
  ];
  return (
    <div className={classes.stack}>
      <div className={classes.row}>
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          {m.inhibitions.new}
        </Button>
        <span className={classes.quiet}>{m.inhibitions.about}</span>
        {remove.error ? <StateLabel state="critical">{remove.error.message}</StateLabel> : null}
      </div>
      <Loaded query={inhibitions} what={m.inhibitions.what} skeleton={<TableSkeleton rows={3} />}>
        {(all) => <DataTable label={m.inhibitions.label} columns={columns} rows={all} rowKey={(i) => i.metadata.name} sort={parseSort(sort, { column: "name", descending: false })} onSort={(s) => onSort(sortText(s))} empty={m.inhibitions.none} />}
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title={m.inhibitions.new} centered>
        <NewInhibition onDone={() => setMaking(false)} />
      </Modal>
    </div>
  );
}

function NewInhibition({ onDone }: { onDone: () => void }) {
  const create = useCreateInhibition();
  const [name, setName] = useState("");
  const [source, setSource] = useState<string[]>([]);
  const [target, setTarget] = useState<string[]>([]);
  const [equal, setEqual] = useState<string[]>(["cluster"]);
  return (
    <form
      className={classes.stack}
      onSubmit={(e: SyntheticEvent) => {
        e.preventDefault();
        create.mutate({ name, spec: { source, target, ...(equal.length > 0 ? { equal } : {}) } }, { onSuccess: onDone });
      }}
    >
      <TextInput label={m.name} data-autofocus value={name} onChange={(e) => setName(e.currentTarget.value)} error={name === "" || nameRule.test(name) ? undefined : m.nameRule} />
      <TagsInput label={m.inhibitions.while} description={m.inhibitions.sourceText} value={source} onChange={setSource} acceptValueOnBlur />
      <TagsInput label={m.mutes} description={m.inhibitions.targetText} value={target} onChange={setTarget} acceptValueOnBlur />
      <TagsInput label={m.inhibitions.equal} description={m.inhibitions.equalText} value={equal} onChange={setEqual} acceptValueOnBlur />
      {create.error ? <StateLabel state="critical">{create.error.message}</StateLabel> : null}
      <div>
        <Button size="xs" type="submit" disabled={!nameRule.test(name) || source.length === 0 || target.length === 0} loading={create.isPending}>
          {m.make}
        </Button>
      </div>
    </form>
  );
}
