import { getRouteApi, Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Metric, Policy } from "@/api/types";
import { Page } from "@/parts/page";
import { useCatalogue, usePolicies } from "@/parts/queries";
import { Command } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { plural } from "@/ui/format";
import { Empty, Loaded, TableSkeleton } from "@/ui/Feedback";
import { StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import { conditionWords, dict, list, subjectWords, targetWords } from "./model";
import { policyState, policyWord } from "./status";

const route = getRouteApi("/policies");
const key = (p: Policy) => p.metadata.name;
const noMetrics: readonly Metric[] = [];

export function PoliciesPage() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const policies = usePolicies();
  const catalogue = useCatalogue();
  const columns = useMemo(() => policyColumns(catalogue.data ?? noMetrics), [catalogue.data]);
  return (
    <Page
      title="Policies"
      loading={policies.data === undefined && !policies.error}
      sentence={policies.data ? (policies.data.length === 0 ? "No policy watches anything yet." : `${plural(policies.data.length, "policy", "policies")} decide what becomes an incident.`) : undefined}
    >
      <Loaded query={policies} what="Policies" skeleton={<TableSkeleton rows={5} />}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No policy yet" action={<Command>crowsnest policy apply -f policy.yaml</Command>}>
              A policy says which value of which objects is bad, for how long, and who is told. It is written as YAML and applied with the command below.
            </Empty>
          ) : (
            <DataTable
              label="policies"
              columns={columns}
              rows={all}
              rowKey={key}
              sort={parseSort(search.sort, { column: "name", descending: false })}
              onSort={(s) => void navigate({ search: (old) => ({ ...old, sort: sortText(s) }), replace: true })}
              dim={(p) => policyState(p) === "idle"}
            />
          )
        }
      </Loaded>
    </Page>
  );
}

function policyColumns(catalogue: readonly Metric[]): Column<Policy>[] {
  return [
    { id: "state", header: "State", width: "minmax(110px, 150px)", phoneWidth: "104px", sort: policyWord, cell: (p) => <StateLabel state={policyState(p)}>{policyWord(p)}</StateLabel> },
    {
      id: "name",
      header: "Policy",
      width: "minmax(150px, 1fr)",
      phoneWidth: "minmax(0, 1fr)",
      sort: (p) => p.metadata.name,
      cell: (p) => (
        <Link to="/policies/$name" params={{ name: p.metadata.name }}>
          {p.metadata.name}
        </Link>
      ),
    },
    { id: "subject", header: "Looks at", wide: true, width: "minmax(160px, 1.6fr)", cell: (p) => <span title={subjectWords(dict(p.spec))}>{subjectWords(dict(p.spec))}</span> },
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
  ];
}
