import { Skeleton } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useDeferredValue } from "react";
import type { Incident } from "@/api/types";
import { IncidentTable } from "@/parts/incidents/IncidentTable";
import { AddCluster } from "@/parts/clusters/AddCluster";
import { Page } from "@/parts/page";
import { useClusters, useIncidents } from "@/parts/queries";
import { useSetSearch } from "@/parts/search";
import { frame } from "@/i18n/frame";
import { overview as m } from "@/i18n/overview";
import { Section } from "@/ui/Bits";
import { Failure, Loaded, TableSkeleton } from "@/ui/Feedback";
import { stateOf } from "@/ui/state";
import { ClusterCard } from "./ClusterCard";
import { overallState, overviewSentence, worstFirst } from "./model";
import classes from "./overview.module.css";
import { Hidden } from "./Hidden";
import { WhatChanged } from "./WhatChanged";
import { WorstNow } from "./WorstNow";

const route = getRouteApi("/");
const noIncidents: readonly Incident[] = [];

export function OverviewPage() {
  const clusters = useClusters();
  const incidents = useIncidents("active");
  const { sort } = route.useSearch();
  const set = useSetSearch<{ sort?: string }>();
  const known = clusters.data ?? [];
  // The clusters are what is looked for: they are on the screen before the rest is drawn.
  const drawn = useDeferredValue(clusters.data !== undefined, false);
  const waiting = known.length > 0 && known.every((c) => stateOf(c.state) === "waiting");
  return (
    <Page
      title={frame.pages.overview}
      loading={clusters.data === undefined && !clusters.error}
      {...(known.length > 0 && { state: overallState(known), sentence: overviewSentence(known, incidents.data ?? noIncidents) })}
      {...(clusters.data?.length === 0 && { sentence: m.noCluster })}
    >
      {clusters.error && !clusters.data ? (
        <Failure what={m.theClusters} error={clusters.error} onRetry={() => void clusters.refetch()} />
      ) : clusters.data === undefined ? (
        <div className={classes.cards}>
          <Skeleton height={220} radius={8} />
          <Skeleton height={220} radius={8} />
        </div>
      ) : clusters.data.length === 0 ? (
        <AddCluster />
      ) : (
        <>
          <div className={classes.cards}>
            {worstFirst(clusters.data).map((c) => (
              <ClusterCard key={c.id} cluster={c} only={known.length === 1} />
            ))}
          </div>
          {waiting || !drawn ? null : (
            <>
              <Section
                title={m.activeIncidents}
                right={
                  <Link to="/incidents" className={classes.more}>
                    {m.allIncidents}
                  </Link>
                }
              >
                <Loaded query={incidents} what={m.incidents} skeleton={<TableSkeleton rows={2} />}>
                  {(list) => (
                    <IncidentTable
                      incidents={list}
                      sort={sort}
                      onSort={(s) => set({ sort: s })}
                      empty={m.noIncident}
                    />
                  )}
                </Loaded>
              </Section>
              <div className={classes.pair}>
                <WhatChanged several={known.length > 1} />
                <WorstNow several={known.length > 1} />
              </div>
              <Hidden clusters={clusters.data} />
            </>
          )}
        </>
      )}
    </Page>
  );
}
