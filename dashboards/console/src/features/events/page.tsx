import { getRouteApi } from "@tanstack/react-router";
import { logs as m } from "@/i18n/logs";
import { EventView } from "@/parts/logs/EventView";
import { Scope } from "@/parts/logs/Scope";
import { Page } from "@/parts/page";
import { useClusters } from "@/parts/queries";
import { useSetSearch } from "@/parts/search";

const route = getRouteApi("/events");

export function EventsPage() {
  const search = route.useSearch();
  const { cluster, namespace } = search;
  const clusters = useClusters();
  const set = useSetSearch<typeof search>();
  return (
    <Page title={m.events.title} sentence={m.events.sentence}>
      <Scope search={{ cluster, namespace }} set={set} />
      <EventView
        cluster={cluster}
        scope={{ cluster, namespace }}
        what={cluster === undefined ? m.events.ofAll : m.events.of([cluster, namespace].filter(Boolean).join(" ▸ "))}
        withObject
        withCluster={cluster === undefined && (clusters.data?.length ?? 0) > 1}
      />
    </Page>
  );
}
