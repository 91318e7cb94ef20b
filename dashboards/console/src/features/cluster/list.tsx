import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { getRouteApi, Link } from "@tanstack/react-router";
import { ClusterTable } from "@/parts/clusters/ClusterTable";
import { Page } from "@/parts/page";
import { useClusters } from "@/parts/queries";
import { plural } from "@/ui/format";
import { Empty, Loaded, TableSkeleton } from "@/ui/Feedback";

const route = getRouteApi("/clusters");

export function ClustersPage() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const clusters = useClusters();
  return (
    <Page
      title="Clusters"
      aside={
        <Button size="xs" variant="default" leftSection={<IconPlus size={14} />} renderRoot={(props) => <Link to="/settings" {...props} />}>
          Add a cluster
        </Button>
      }
      loading={clusters.data === undefined && !clusters.error}
      sentence={clusters.data ? (clusters.data.length === 0 ? "No cluster sends data yet." : `${plural(clusters.data.length, "cluster sends", "clusters send")} data here.`) : undefined}
    >
      <Loaded query={clusters} what="Clusters" skeleton={<TableSkeleton rows={4} />}>
        {(list) =>
          list.length === 0 ? (
            <Empty title="No cluster yet" action={<Link to="/settings">How to add one</Link>} />
          ) : (
            <ClusterTable clusters={list} sort={search.sort} onSort={(sort) => void navigate({ search: (old) => ({ ...old, sort }), replace: true })} />
          )
        }
      </Loaded>
    </Page>
  );
}
