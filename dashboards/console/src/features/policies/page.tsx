import { Button, Switch, Tabs } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Metric, Policy } from "@/api/types";
import { policies as m } from "@/i18n/policies";
import { FirstUse } from "@/parts/policies/FirstUse";
import { useStatistics } from "@/parts/policies/queries";
import { Page } from "@/parts/page";
import { useCatalogue, usePolicies } from "@/parts/queries";
import { useSetSearch } from "@/parts/search";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, count, instant } from "@/ui/format";
import { Empty, Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { SearchField } from "@/ui/SearchField";
import { rank, StateLabel } from "@/ui/state";
import { parseSort, searchIn, sortText } from "@/ui/table";
import { useTyped } from "@/ui/typed";
import { conditionsWords, dict, subjectWords, targetWords } from "./model";
import classes from "./policies.module.css";
import { Presets } from "./Presets";
import { useEnablePolicy } from "./queries";
import { firing, policyState, policyWord, problems } from "./status";

const route = getRouteApi("/policies");
const key = (p: Policy) => p.metadata.name;
const noMetrics: readonly Metric[] = [];
const noPolicies: readonly Policy[] = [];

const newPolicy = (
  <Button size="xs" leftSection={<IconPlus size={14} />} renderRoot={(props) => <Link to="/new/policy" {...props} />}>
    {m.list.new}
  </Button>
);

export function PoliciesPage() {
  const search = route.useSearch();
  const policies = usePolicies();
  const catalogue = useCatalogue();
  const enable = useEnablePolicy();
  const now = useNow();
  const { mutate, isPending, variables } = enable;
  const busy = isPending ? variables.policy.metadata.name : undefined;
  const statistics = useStatistics(30);
  const noise = useMemo(() => new Map((statistics.data?.noisiest ?? []).map((n) => [n.policy, n.alerts])), [statistics.data]);
  const tab = search.tab === "presets" ? "presets" : "policies";
  const columns = useMemo(
    () => policyColumns(catalogue.data ?? noMetrics, noise, now, busy, (policy, enabled) => mutate({ policy, enabled, force: false })),
    [catalogue.data, noise, now, busy, mutate],
  );
  const find = useMemo(
    () => searchIn(policies.data ?? noPolicies, (p) => [p.metadata.name, policyWord(p), subjectWords(dict(p.spec)), targetWords(dict(p.spec)), conditionsWords(dict(p.spec), catalogue.data ?? noMetrics)].join(" ")),
    [policies.data, catalogue.data],
  );
  const set = useSetSearch<typeof search>();
  const typed = useTyped(search.filter ?? "", (filter) => set({ filter: filter === "" ? undefined : filter }));
  const rows = useMemo(() => find(typed.search), [find, typed.search]);
  return (
    <Page title={m.title} loading={policies.data === undefined && !policies.error} sentence={policies.data ? sentence(policies.data) : undefined} aside={newPolicy}>
      <FirstUse />
      <Tabs value={tab} onChange={(t) => set({ tab: t === "presets" ? t : undefined, sort: undefined })} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="policies">{m.list.tabs.policies}</Tabs.Tab>
          <Tabs.Tab value="presets">{m.list.tabs.presets}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="policies" pt="md">
          <div className={classes.form}>
            {enable.error ? <StateLabel state="critical">{enable.error.message}</StateLabel> : null}
            <Loaded query={policies} what={m.what} skeleton={<TableSkeleton rows={5} />}>
              {(all) =>
                all.length === 0 ? (
                  <Empty title={m.list.none} action={newPolicy}>
                    {m.list.noneText}
                  </Empty>
                ) : (
                  <>
                    <SearchField typed={typed} label={m.list.filter} hint={m.list.filterHint} width="min(320px, 100%)" />
                    <DataTable
                      label={m.list.label}
                      columns={columns}
                      rows={rows}
                      rowKey={key}
                      sort={parseSort(search.sort, { column: "state", descending: false })}
                      onSort={(s) => set({ sort: sortText(s) })}
                      dim={(p) => policyState(p) === "idle"}
                      empty={m.list.noMatch(all.length, typed.search)}
                    />
                  </>
                )
              }
            </Loaded>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="presets" pt="md">
          <Presets sort={search.sort} onSort={(sort) => set({ sort })} />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}

function sentence(all: readonly Policy[]): string {
  if (all.length === 0) return m.list.sentenceNone;
  return m.list.sentence(all.length, all.filter((p) => firing(p) > 0).length, all.filter((p) => p.status?.state === "idle").length, all.filter((p) => p.spec.enabled === false).length);
}

function policyColumns(catalogue: readonly Metric[], noise: ReadonlyMap<string, number>, now: number, busy: string | undefined, enable: (p: Policy, enabled: boolean) => void): Column<Policy>[] {
  return [
    {
      id: "state",
      header: m.list.state,
      width: "minmax(110px, 150px)",
      phoneWidth: "96px",
      sort: (p) => rank(policyState(p)) * 1e6 - firing(p),
      cell: (p) => (
        <span title={problems(p).join("\n")}>
          <StateLabel state={policyState(p)}>{policyWord(p)}</StateLabel>
        </span>
      ),
    },
    {
      id: "name",
      header: m.list.policy,
      width: "minmax(150px, 1fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (p) => p.metadata.name,
      cell: (p) => (
        <Link to="/policies/$name" params={{ name: p.metadata.name }}>
          {p.metadata.name}
        </Link>
      ),
    },
    { id: "subject", header: m.list.looksAt, wide: true, width: "minmax(160px, 1.6fr)", cell: (p) => <span title={subjectWords(dict(p.spec))}>{subjectWords(dict(p.spec))}</span> },
    { id: "selected", header: m.list.objects, numeric: true, wide: true, width: "76px", sort: (p) => p.status?.selected, cell: (p) => count(p.status?.selected) },
    {
      id: "conditions",
      header: m.list.badWhen,
      wide: true,
      width: "minmax(200px, 3fr)",
      cell: (p) => {
        const words = conditionsWords(dict(p.spec), catalogue);
        return <span title={words}>{words}</span>;
      },
    },
    { id: "alerts", header: m.list.alerts, help: m.list.alertsHelp, numeric: true, wide: true, width: "70px", sort: (p) => noise.get(p.metadata.name) ?? 0, cell: (p) => (noise.has(p.metadata.name) ? count(noise.get(p.metadata.name)) : "") },
    { id: "targets", header: m.list.tells, wide: true, width: "minmax(90px, 1fr)", sort: (p) => targetWords(dict(p.spec)), cell: (p) => targetWords(dict(p.spec)) },
    { id: "changed", header: m.list.changed, numeric: true, wide: true, width: "84px", sort: (p) => instant(p.metadata.updatedAt), cell: (p) => <span title={p.metadata.updatedBy}>{age(p.metadata.updatedAt, now)}</span> },
    {
      id: "enabled",
      header: m.list.on,
      width: "48px",
      phoneWidth: "42px",
      cell: (p) => (
        <span className={classes.switch}>
          <Switch size="xs" aria-label={m.list.enabled(p.metadata.name)} checked={p.spec.enabled !== false} disabled={busy === p.metadata.name} onChange={(e) => enable(p, e.currentTarget.checked)} />
        </span>
      ),
    },
  ];
}
