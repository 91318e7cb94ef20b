import { getRouteApi } from "@tanstack/react-router";
import { logs as m } from "@/i18n/logs";
import { Page } from "@/parts/page";
import { useClusters } from "@/parts/queries";
import { useSetSearch } from "@/parts/search";
import { Scope } from "@/parts/logs/Scope";
import { LogView } from "@/parts/logs/LogView";

const route = getRouteApi("/logs");

export function LogsPage() {
  const search = route.useSearch();
  const { cluster, namespace, workload_type, workload, pod, node, container } = search;
  const clusters = useClusters();
  const severalClusters = cluster === undefined && (clusters.data?.length ?? 0) > 1;
  const set = useSetSearch<typeof search>();
  return (
    <Page title={m.title} sentence={m.sentence}>
      <Scope search={{ cluster, namespace, workload_type, workload, pod, container, node }} set={set} />
      <LogView
        cluster={cluster}
        scope={{ cluster, namespace, workload_type, workload, pod, container, node }}
        what={cluster === undefined ? m.ofAll : m.of([cluster, namespace, workload, pod].filter(Boolean).join(" ▸ "))}
        origin={(row) => [severalClusters ? row.cluster : undefined, row.pod].filter(Boolean).join(" ▸ ")}
      />
    </Page>
  );
}
