import { getRouteApi } from "@tanstack/react-router";
import { EventView } from "@/parts/logs/EventView";
import { Scope } from "@/parts/logs/Scope";
import { Page } from "@/parts/page";
import { useClusters } from "@/parts/queries";

const route = getRouteApi("/events");

export function EventsPage() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const { cluster, namespace } = search;
  const clusters = useClusters();
  const set = (change: Partial<typeof search>) =>
    void navigate({ search: (old) => ({ ...old, ...change }), resetScroll: false, replace: true });
  return (
    <Page title="Events" sentence="What Kubernetes says it did, and what it could not do.">
      <Scope search={{ cluster, namespace }} set={set} />
      <EventView
        cluster={cluster}
        scope={{ cluster, namespace }}
        what={cluster === undefined ? "the events of all clusters" : `the events of ${[cluster, namespace].filter(Boolean).join(" ▸ ")}`}
        typed={search.q ?? ""}
        onTyped={(q) => set({ q: q === "" ? undefined : q })}
        withObject
        withCluster={cluster === undefined && (clusters.data?.length ?? 0) > 1}
      />
    </Page>
  );
}
