import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Node } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { PinTable } from "@/parts/boards/PinButton";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { nodeSentence, nodeState } from "@/parts/objects/model";
import { LackingCharts, ObjectCharts } from "@/parts/objects/ObjectCharts";
import { FilterInput, ObjectPage, Stack, useTableSearch } from "@/parts/objects/ObjectPage";
import { PodTable } from "@/parts/objects/PodTable";
import { useCluster, usePods } from "@/parts/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { FactsSkeleton, Loaded, TableSkeleton } from "@/ui/Feedback";
import { age, bytes, cores, count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { useNode } from "./queries";

const route = getRouteApi("/clusters/$cluster/nodes/$node");

const nodeGroups = { first: ["cpu", "memory", "filesystem", "network", "restarts", "ready"] };

export function NodePage() {
  const { cluster, node: name } = route.useParams();
  const node = useNode(cluster, name);
  const owner = useCluster(cluster);
  const now = useNow();
  const n = node.data;
  const place = useMemo(() => ({ cluster, node: name }), [cluster, name]);
  return (
    <ObjectPage
      place={place}
      query={node}
      name={name}
      kind={m.kinds.node ?? ""}
      state={n ? nodeState(n) : undefined}
      sentence={n ? nodeSentence(n, now) : undefined}
      facts={n ? <Summary node={n} /> : node.error ? null : <FactsSkeleton />}
      origin={(row) => [row.namespace, row.pod].filter(Boolean).join(" ▸ ")}
      summary={() => (
        <Stack>
          <ChartGrid>
            <ObjectCharts cluster={owner.data} level="node" choice={nodeGroups} place={place} first={4} />
          </ChartGrid>
          <Pods cluster={cluster} node={name} />
          <Section title={m.moreCharts}>
            <ChartGrid>
              <ObjectCharts cluster={owner.data} level="node" choice={nodeGroups} place={place} after={4} />
            </ChartGrid>
          </Section>
          <LackingCharts cluster={owner.data} levels={["node"]} />
        </Stack>
      )}
    />
  );
}

function Pods({ cluster, node }: { cluster: string; node: string }) {
  const { typed, sort, onSort } = useTableSearch();
  const pods = usePods(cluster, { node });
  return (
    <Section
      title={m.tabs.pods}
      note={pods.data ? count(pods.data.length) : undefined}
      right={
        <>
          <FilterInput typed={typed} what={m.tabs.pods.toLowerCase()} />
          <PinTable title={`${m.tabs.pods}: ${node}`} of="pods" object={{ cluster, node }} filter={typed.text} sort={sort} />
        </>
      }
    >
      <Loaded query={pods} what={m.tabs.pods} skeleton={<TableSkeleton />}>
        {(list) => <PodTable cluster={cluster} pods={list} of="node" filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}

function Summary({ node: n }: { node: Node }) {
  const now = useNow();
  return (
    <Card>
      <Facts>
        <Fact label={m.facts.allocatable}>{m.coresAndBytes(cores(n.allocatable.cpu_cores), bytes(n.allocatable.memory_bytes))}</Fact>
        <Fact label={m.facts.pods}>{count(n.pods)}</Fact>
        <Fact label={m.facts.restarts1h}>{count(n.restarts_1h)}</Fact>
        <Fact label={m.facts.roles}>{n.roles.join(", ") || m.none}</Fact>
        <Fact label={m.facts.kubelet}>{n.kubelet_version || m.unknown}</Fact>
        <Fact label={m.facts.runtime}>{n.container_runtime || m.unknown}</Fact>
        <Fact label={m.facts.system}>{n.os_image || m.unknown}</Fact>
        <Fact label={m.facts.address}>{n.internal_ip || m.unknown}</Fact>
        <Fact label={m.facts.age}>{age(n.created_at, now)}</Fact>
        {n.conditions
          .filter((c) => (c.type === "Ready") !== (c.status === "True"))
          .map((c) => (
            <Fact key={c.type} label={c.type}>
              <StateLabel state={c.type === "Ready" ? "critical" : "warning"}>
                {c.reason || c.status}, {age(c.since, now)}
              </StateLabel>
            </Fact>
          ))}
      </Facts>
    </Card>
  );
}
