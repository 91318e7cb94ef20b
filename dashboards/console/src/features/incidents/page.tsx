import { Button, Menu, SegmentedControl, Select, Skeleton } from "@mantine/core";
import { IconBellOff, IconCheck, IconUserCheck, IconX } from "@tabler/icons-react";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { incidents as m } from "@/i18n/incidents";
import { IncidentTable } from "@/parts/incidents/IncidentTable";
import { Page } from "@/parts/page";
import { useClusters } from "@/parts/queries";
import { useSetSearch } from "@/parts/search";
import { duration } from "@/ui/format";
import { Empty, Failure } from "@/ui/Feedback";
import { SearchField } from "@/ui/SearchField";
import { StateLabel } from "@/ui/state";
import { useTyped } from "@/ui/typed";
import classes from "./incidents.module.css";
import { type BulkAction, states, useBulk, useIncidentSearch } from "./queries";
import { Statistics } from "./Statistics";

const route = getRouteApi("/incidents");
const severities = ["critical", "warning", "info"] as const;
const lengths = [3600, 4 * 3600, 86_400];

/** Incidents by their state, searched by the server; or what they were over some time. */
export function IncidentsPage() {
  const search = route.useSearch();
  const set = useSetSearch<Search>();
  const statistics = search.view === "statistics";
  const choice = (
    <SegmentedControl
      size="xs"
      aria-label={m.list.which}
      value={statistics ? "statistics" : (states.find((s) => s === search.state) ?? "active")}
      onChange={(s) => set(s === "statistics" ? { view: s } : { view: undefined, state: s === "active" ? undefined : s })}
      data={[...states.map((s) => ({ value: s, label: m.list.states[s] ?? s })), { value: "statistics", label: m.list.statistics }]}
    />
  );
  return statistics ? <Statistics choice={choice} cluster={search.cluster} days={search.days} onDays={(days) => set({ days })} /> : <List choice={choice} set={set} />;
}

type Search = Readonly<Partial<Record<"state" | "severity" | "cluster" | "policy" | "filter" | "sort" | "view" | "days", string>>>;
type Set = ReturnType<typeof useSetSearch<Search>>;

const stateOf = (search: Search) => states.find((s) => s === search.state) ?? "active";
const severityOf = (search: Search) => severities.find((s) => s === search.severity);

function List({ choice, set }: { choice: React.ReactNode; set: Set }) {
  const search = route.useSearch();
  const state = stateOf(search);
  const severity = severityOf(search);
  const clusters = useClusters();
  const typed = useTyped(search.filter ?? "", (text) => set({ filter: text === "" ? undefined : text }));
  const found = useIncidentSearch({ state, severity, cluster: search.cluster, policy: search.policy, text: search.filter });
  const all = useMemo(() => found.data?.pages.flatMap((p) => p.items) ?? [], [found.data]);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  // What ended or was filtered away meanwhile is not acted on unseen.
  const selected = all.filter((i) => chosen.has(i.id) && i.ended_at === null);
  const selection = useMemo(
    () => ({
      ids: chosen,
      toggle: (id: string) =>
        setChosen((old) => {
          const next = new Set(old);
          if (!next.delete(id)) next.add(id);
          return next;
        }),
    }),
    [chosen],
  );
  const n = all.length;
  const looked = useLooked(search);
  const narrowed = looked.length > 0;
  return (
    <Page
      title={m.title}
      loading={found.data === undefined && !found.error}
      {...(found.data && { sentence: n > 0 ? m.list[state](n, found.hasNextPage) : ((narrowed ? m.list.noMatch[state] : m.list.empty[state]) ?? "") })}
      aside={choice}
    >
      <div className={classes.filters}>
        <SearchField typed={typed} className={classes.filter} label={m.list.filter} hint={m.list.filterHint} />
        <Select size="xs" w={130} aria-label={m.list.severity} placeholder={m.list.anySeverity} clearable data={severities.map((s) => ({ value: s, label: m.severity[s] ?? s }))} value={severity ?? null} onChange={(s) => set({ severity: s ?? undefined })} />
        {(clusters.data?.length ?? 0) > 1 || search.cluster !== undefined ? (
          <Select
            size="xs"
            w={180}
            aria-label={m.list.cluster}
            placeholder={m.list.anyCluster}
            clearable
            searchable
            data={(clusters.data ?? []).map((c) => ({ value: c.id, label: c.name }))}
            value={search.cluster ?? null}
            onChange={(c) => set({ cluster: c ?? undefined })}
          />
        ) : null}
        {search.policy === undefined ? null : (
          <Button size="xs" variant="default" rightSection={<IconX size={13} />} onClick={() => set({ policy: undefined })}>
            {m.list.policy(search.policy)}
          </Button>
        )}
      </div>
      <Bulk selected={selected} all={all} onSelect={setChosen} />
      {found.error && !found.data ? (
        <Failure what={m.title} error={found.error} onRetry={() => void found.refetch()} />
      ) : !found.data ? (
        <Skeleton height={240} radius={8} />
      ) : n === 0 ? (
        <None state={state} looked={looked} set={set} />
      ) : (
        <>
          <IncidentTable incidents={all} sort={search.sort} onSort={(sort) => set({ sort })} selection={selection} empty="" />
          {found.hasNextPage ? (
            <div>
              <Button size="xs" variant="default" loading={found.isFetchingNextPage} onClick={() => void found.fetchNextPage()}>
                {m.list.more}
              </Button>
            </div>
          ) : null}
        </>
      )}
    </Page>
  );
}

/** By what the list is narrowed, in words. */
function useLooked({ cluster, policy, filter, ...search }: Search): readonly string[] {
  const clusters = useClusters();
  const severity = severityOf(search);
  return [
    ...(severity === undefined ? [] : [m.list.lookedSeverity(m.severity[severity] ?? severity)]),
    ...(cluster === undefined ? [] : [m.list.lookedCluster(clusters.data?.find((c) => c.id === cluster)?.name ?? cluster)]),
    ...(policy === undefined ? [] : [m.list.lookedPolicy(policy)]),
    ...(filter === undefined ? [] : [m.list.lookedText(filter)]),
  ];
}

/** Why a list is empty, which does not say that another one is, and what can be done about it. */
function None({ state, looked, set }: { state: ReturnType<typeof stateOf>; looked: readonly string[]; set: Set }) {
  const choose = (words: string, change: Parameters<Set>[0]) => (
    <Button size="xs" variant="default" onClick={() => set(change)}>
      {words}
    </Button>
  );
  if (looked.length === 0) {
    const toPolicies = <Link to="/policies">{m.list.toPolicies}</Link>;
    return <Empty title={m.list.emptyText[state] ?? ""} action={state === "active" || state === "all" ? toPolicies : choose(m.list.toActive, { state: undefined })} />;
  }
  return (
    <Empty
      title={m.list.looked(looked)}
      action={
        <div className={classes.filters}>
          {choose(m.list.unfiltered, { severity: undefined, cluster: undefined, policy: undefined, filter: undefined })}
          {state === "all" ? null : choose(m.list.amongAll, { state: "all" })}
        </div>
      }
    />
  );
}

type Found = NonNullable<ReturnType<typeof useIncidentSearch>["data"]>["pages"][number]["items"];

/** What can be done with all that is selected. It has its place whether or not something is, so that rows do not move. */
function Bulk({ selected, all, onSelect }: { selected: Found; all: Found; onSelect: (ids: ReadonlySet<string>) => void }) {
  const bulk = useBulk();
  const open = all.filter((i) => i.ended_at === null);
  const run = (action: BulkAction, seconds = 0) => bulk.mutate({ incidents: selected, action, seconds }, { onSuccess: () => onSelect(new Set()) });
  if (open.length === 0) return null;
  const none = selected.length === 0;
  return (
    <div className={classes.actions}>
      <Button size="compact-sm" variant="default" onClick={() => onSelect(none ? new Set(open.map((i) => i.id)) : new Set())}>
        {none ? m.table.selectAll : m.list.clear}
      </Button>
      <Button size="compact-sm" variant="default" disabled={none} loading={bulk.isPending} leftSection={<IconUserCheck size={14} />} onClick={() => run("acknowledge")}>
        {m.act.acknowledge}
      </Button>
      <Menu shadow="md" position="bottom-start">
        <Menu.Target>
          <Button size="compact-sm" variant="default" disabled={none} leftSection={<IconBellOff size={14} />}>
            {m.act.silence}
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          {lengths.map((seconds) => (
            <Menu.Item key={seconds} onClick={() => run("silence", seconds)}>
              {m.act.for(duration(seconds))}
            </Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
      <Button size="compact-sm" variant="default" disabled={none} leftSection={<IconCheck size={14} />} onClick={() => globalThis.confirm(`${m.act.resolveTitle}: ${m.list.selected(selected.length)}. ${m.act.resolveText}`) && run("resolve")}>
        {m.act.resolve}
      </Button>
      <span aria-live="polite" className={classes.quiet}>
        {none ? "" : m.list.selected(selected.length)}
        {none && bulk.data && bulk.data.done > 0 ? m.list.done(bulk.data.done) : ""}
      </span>
      {bulk.data && bulk.data.failed > 0 ? <StateLabel state="critical">{m.list.failed(bulk.data.failed, bulk.data.why)}</StateLabel> : null}
    </div>
  );
}
