import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { getRouteApi, Link } from "@tanstack/react-router";
import { AddCluster } from "@/parts/clusters/AddCluster";
import { ClusterTable } from "@/parts/clusters/ClusterTable";
import { Page } from "@/parts/page";
import { useClusters } from "@/parts/queries";
import { useSetSearch } from "@/parts/search";
import { objects as m } from "@/i18n/objects";
import { Loaded, TableSkeleton } from "@/ui/Feedback";

const route = getRouteApi("/clusters");

export function ClustersPage() {
  const search = route.useSearch();
  const set = useSetSearch<typeof search>();
  const clusters = useClusters();
  return (
    <Page
      title={m.clusters}
      aside={
        <Button size="xs" variant="default" leftSection={<IconPlus size={14} />} renderRoot={(props) => <Link to="/settings" {...props} />}>
          {m.list.add}
        </Button>
      }
      loading={clusters.data === undefined && !clusters.error}
      sentence={clusters.data ? (clusters.data.length === 0 ? m.list.none : m.list.send(clusters.data.length)) : undefined}
    >
      <Loaded query={clusters} what={m.clusters} skeleton={<TableSkeleton rows={4} />}>
        {(list) =>
          list.length === 0 ? (
            <AddCluster />
          ) : (
            <ClusterTable clusters={list} sort={search.sort} onSort={(sort) => set({ sort })} />
          )
        }
      </Loaded>
    </Page>
  );
}
