import { Button, Switch, TextInput } from "@mantine/core";
import { IconFilter, IconPlus } from "@tabler/icons-react";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useDeferredValue, useMemo } from "react";
import type { Metric, Policy } from "@/api/types";
import { Page } from "@/parts/page";
import { useCatalogue, usePolicies } from "@/parts/queries";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, count, instant, plural } from "@/ui/format";
import { Empty, Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { filterRows, parseSort, sortText } from "@/ui/table";
import { conditionWords, dict, list, subjectWords, targetWords } from "./model";
import classes from "./policies.module.css";
import { useEnablePolicy } from "./queries";
import { firing, policyState, policyWord, problems } from "./status";

const route = getRouteApi("/policies");
const key = (p: Policy) => p.metadata.name;
const noMetrics: readonly Metric[] = [];

const newPolicy = (
  <Button size="xs" leftSection={<IconPlus size={14} />} renderRoot={(props) => <Link to="/new/policy" {...props} />}>
    New policy
  </Button>
);

export function PoliciesPage() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const policies = usePolicies();
  const catalogue = useCatalogue();
  const enable = useEnablePolicy();
  const now = useNow();
  const { mutate, isPending, variables } = enable;
  const busy = isPending ? variables.policy.metadata.name : undefined;
  const columns = useMemo(
    () => policyColumns(catalogue.data ?? noMetrics, now, busy, (policy, enabled) => mutate({ policy, enabled, force: false })),
    [catalogue.data, now, busy, mutate],
  );
  const filter = useDeferredValue(search.filter ?? "");
  const rows = useMemo(
    () => filterRows(policies.data ?? [], (p) => [p.metadata.name, policyWord(p), subjectWords(dict(p.spec)), targetWords(dict(p.spec)), ...list(p.spec.conditions).map((c) => conditionWords(c, catalogue.data ?? noMetrics))].join(" "), filter),
    [policies.data, catalogue.data, filter],
  );
  const set = (change: Partial<typeof search>) => void navigate({ search: (old) => ({ ...old, ...change }), replace: true, resetScroll: false });
  return (
    <Page title="Policies" loading={policies.data === undefined && !policies.error} sentence={policies.data ? sentence(policies.data) : undefined} aside={newPolicy}>
      {enable.error ? <StateLabel state="critical">{enable.error.message}</StateLabel> : null}
      <Loaded query={policies} what="Policies" skeleton={<TableSkeleton rows={5} />}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No policy yet" action={newPolicy}>
              A policy says which value of which objects is bad, for how long, and who is told.
            </Empty>
          ) : (
            <>
              <TextInput
                size="xs"
                w="min(320px, 100%)"
                aria-label="filter policies"
                placeholder="Filter: any words"
                leftSection={<IconFilter size={14} />}
                value={search.filter ?? ""}
                onChange={(e) => set({ filter: e.currentTarget.value === "" ? undefined : e.currentTarget.value })}
              />
              <DataTable
                label="policies"
                columns={columns}
                rows={rows}
                rowKey={key}
                sort={parseSort(search.sort, { column: "state", descending: false })}
                onSort={(s) => set({ sort: sortText(s) })}
                dim={(p) => policyState(p) === "idle"}
                empty={`None of ${plural(all.length, "policy", "policies")} matches “${filter}”.`}
              />
            </>
          )
        }
      </Loaded>
    </Page>
  );
}

/** "5 policies decide what becomes an incident; 2 are firing, 1 sees nothing." */
function sentence(all: readonly Policy[]): string {
  if (all.length === 0) return "No policy watches anything yet.";
  const fire = all.filter((p) => firing(p) > 0).length;
  const idle = all.filter((p) => p.status?.state === "idle").length;
  const off = all.filter((p) => p.spec.enabled === false).length;
  const parts = [fire > 0 ? `${fire} firing` : "", idle > 0 ? `${idle} ${idle === 1 ? "sees" : "see"} nothing` : "", off > 0 ? `${off} disabled` : ""].filter(Boolean);
  return `${plural(all.length, "policy decides", "policies decide")} what becomes an incident${parts.length > 0 ? `: ${parts.join(", ")}` : ""}.`;
}

function policyColumns(catalogue: readonly Metric[], now: number, busy: string | undefined, enable: (p: Policy, enabled: boolean) => void): Column<Policy>[] {
  return [
    {
      id: "state",
      header: "State",
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
      header: "Policy",
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
    { id: "subject", header: "Looks at", wide: true, width: "minmax(160px, 1.6fr)", cell: (p) => <span title={subjectWords(dict(p.spec))}>{subjectWords(dict(p.spec))}</span> },
    { id: "selected", header: "Objects", numeric: true, wide: true, width: "76px", sort: (p) => p.status?.selected, cell: (p) => count(p.status?.selected) },
    {
      id: "conditions",
      header: "Bad when",
      wide: true,
      width: "minmax(200px, 3fr)",
      cell: (p) => {
        const words = list(dict(p.spec).conditions).map((c) => conditionWords(c, catalogue)).join("; ");
        return <span title={words}>{words}</span>;
      },
    },
    { id: "targets", header: "Tells", wide: true, width: "minmax(90px, 1fr)", sort: (p) => targetWords(dict(p.spec)), cell: (p) => targetWords(dict(p.spec)) },
    { id: "changed", header: "Changed", numeric: true, wide: true, width: "84px", sort: (p) => instant(p.metadata.updatedAt), cell: (p) => <span title={p.metadata.updatedBy}>{age(p.metadata.updatedAt, now)}</span> },
    {
      id: "enabled",
      header: "On",
      width: "48px",
      phoneWidth: "42px",
      cell: (p) => (
        <span className={classes.switch}>
          <Switch size="xs" aria-label={`${p.metadata.name} enabled`} checked={p.spec.enabled !== false} disabled={busy === p.metadata.name} onChange={(e) => enable(p, e.currentTarget.checked)} />
        </span>
      ),
    },
  ];
}
