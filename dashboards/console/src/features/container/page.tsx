import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import { RequestError } from "@/api/problem";
import type { Container } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { containerKind } from "@/parts/objects/ContainerTable";
import { LastEnds } from "@/parts/objects/LastEnd";
import { NamespaceLink, PodLink, WorkloadLink } from "@/parts/objects/links";
import { containerSentence, containerState } from "@/parts/objects/model";
import { LackingCharts, ObjectCharts } from "@/parts/objects/ObjectCharts";
import { ObjectPage, Stack } from "@/parts/objects/ObjectPage";
import { usePod } from "@/parts/objects/podQueries";
import { useCluster } from "@/parts/queries";
import { Card, Fact, Facts } from "@/ui/Bits";
import { FactsSkeleton } from "@/ui/Feedback";
import { age, bytes, cores, count } from "@/ui/format";
import { useNow } from "@/ui/now";

const route = getRouteApi("/clusters/$cluster/namespaces/$ns/pods/$pod/containers/$container");

export function ContainerPage() {
  const { cluster, ns, pod: podName, container: name } = route.useParams();
  const pod = usePod(cluster, ns, podName);
  const owner = useCluster(cluster);
  const now = useNow();
  const place = useMemo(() => ({ cluster, namespace: ns, pod: podName, container: name }), [cluster, ns, podName, name]);
  const p = pod.data;
  const c = p?.containers.find((x) => x.name === name);
  // A pod that is there without the container is the same to the reader as one that is not there.
  const missing = p && !c ? new RequestError("", 404, "not_found") : pod.error;
  return (
    <ObjectPage
      place={place}
      query={{ data: c, error: missing, refetch: pod.refetch }}
      name={name}
      tab={m.tab(name, podName)}
      kind={m.kindIn(m.kinds.container ?? "", podName)}
      crumbs={[
        <NamespaceLink key="n" cluster={cluster} namespace={ns} />,
        ...(p && p.workload_type !== "pod" && p.workload !== ""
          ? [
              <WorkloadLink key="w" cluster={cluster} namespace={ns} type={p.workload_type} name={p.workload}>
                {p.workload_type}/{p.workload}
              </WorkloadLink>,
            ]
          : []),
        <PodLink key="p" cluster={cluster} namespace={ns} pod={podName} />,
      ]}
      state={c ? containerState(c) : undefined}
      sentence={c ? containerSentence(c, now) : undefined}
      facts={c ? <Summary container={c} /> : missing ? null : <FactsSkeleton />}
      summary={() => (
        <Stack>
          {p ? <LastEnds cluster={cluster} pod={p} container={name} /> : null}
          <ChartGrid>
            <ObjectCharts cluster={owner.data} level="container" place={place} />
          </ChartGrid>
          <LackingCharts cluster={owner.data} levels={["container"]} />
        </Stack>
      )}
    />
  );
}

function Summary({ container: c }: { container: Container }) {
  const now = useNow();
  const amounts = (r: Container["requests"]) => m.coresAndBytes(r.has_cpu ? cores(r.cpu_cores) : m.none, r.has_memory ? bytes(r.memory_bytes) : m.none);
  return (
    <Card>
      <Facts>
        <Fact label={m.facts.state}>
          {c.reason || c.state} {containerKind(c)}
        </Fact>
        <Fact label={m.facts.started}>{c.started_at ? m.ago(age(c.started_at, now)) : m.never}</Fact>
        <Fact label={m.facts.restarts}>{count(c.restart_count)}</Fact>
        {c.last ? <Fact label={m.facts.lastEnd}>{m.lastEnd.column(c.last.reason || m.ended, c.last.exit_code, age(c.last.finished_at, now))}</Fact> : null}
        <Fact label={m.facts.requests}>{amounts(c.requests)}</Fact>
        <Fact label={m.facts.limits}>{amounts(c.limits)}</Fact>
        <Fact label={m.facts.image}>{c.image || m.unknown}</Fact>
      </Facts>
    </Card>
  );
}
